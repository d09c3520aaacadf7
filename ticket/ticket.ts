/** The ticket office on Deno: its nodes come from a watch on the registry. */
import { z } from "zod";
import { type NodeOverrides, nodeShape, openNode } from "@gru/shared/node";
import { type SpearNode, spearNodes, spearService } from "@gru/spear/contract";
import { ticketApp } from "./app.ts";
import { ticketAuth } from "./auth.ts";
import { nodesRoute } from "./nodes.ts";
import { office } from "./token.ts";

export const ticketSchema = z.strictObject({
  ...nodeShape,
  auth: ticketAuth,
  origins: z.array(
    z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, {
      error: "expected *, or http(s)://host[:port] without a path",
    }),
  ).min(1).describe("web pages that may ask for tickets (CORS); *: all"),
  limits: z.strictObject({
    perUser: z.number().min(0.01).describe("tickets a second for one user"),
    perAddress: z.number().min(0.01).describe("tickets a second for one address, IPv6: for a /64"),
    trustedHops: z.int().min(0).max(10)
      .describe("proxies of ours before this program; each appends to X-Forwarded-For"),
  }),
  balance: z.strictObject({
    maxOverMean: z.number().min(1.01).max(10)
      .describe("a spear with more connections than so many times the mean is passed over"),
    backups: z.int().min(0).max(100).describe(
      "scheme jwt: how many other spears a ticket names and is good for; the other schemes name all",
    ),
  }),
});

export type TicketConfig = z.output<typeof ticketSchema>;

export interface Ticket extends AsyncDisposable {
  readonly address: string;
}

/** @throws {ConfigError} {@linkcode Error} when the port is taken or the registry out of reach. */
export async function startTicket(
  config: TicketConfig,
  overrides: NodeOverrides = {},
): Promise<Ticket> {
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("ticket", config, overrides));
  let spears: readonly SpearNode[] = [];
  // A view that is stale still holds the last known nodes: better a ticket that may fail than none.
  stack.use(
    await node.registry.watch(spearService, ({ instances }) => {
      spears = spearNodes(instances);
    }),
  );
  const app = ticketApp({
    nodes: () => spears,
    office: office(config.auth),
    backups: config.balance.backups,
    maxOverMean: config.balance.maxOverMean,
    origins: config.origins,
    limits: config.limits,
    trustedHops: config.limits.trustedHops,
    onError: (error) => node.log.error("a ticket could not be given: {error}", { error }),
  });
  app.route("/", nodesRoute(() => spears));
  const server = stack.use(
    await node.serve({
      port: config.port,
      app: (request, { remoteAddr }) => app.fetch(request, { address: remoteAddr.hostname }),
    }),
  );
  stack.use(await node.announce({ http: server.address }));
  const running = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
