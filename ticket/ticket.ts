/** The ticket office on Deno: its nodes come from a watch on the registry. */
import { z } from "zod";
import { secret } from "@gru/shared/config";
import { type NodeOverrides, nodeShape, openNode } from "@gru/shared/node";
import { spearNodes, spearService } from "@gru/spear/contract";
import { ticketApp } from "./app.ts";
import type { RingNode } from "./ring.ts";
import { schemeNames, tokenScheme } from "./token.ts";

export const ticketSchema = z.strictObject({
  ...nodeShape,
  auth: z.strictObject({
    scheme: schemeNames,
    saltToTicket: secret("GRU_SALT_TOTICKET").describe("scheme gru: the salt of token1"),
    saltToSpear: secret("GRU_SALT_TOSPEAR").describe("scheme gru: the salt of token2"),
  }).superRefine((auth, context) => {
    if (auth.scheme !== "gru") return;
    for (const key of ["saltToTicket", "saltToSpear"] as const) {
      if (auth[key] !== undefined) continue;
      context.addIssue({ code: "custom", path: [key], message: "scheme gru wants this salt" });
    }
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
  let spears: readonly RingNode[] = [];
  // A view that is stale still holds the last known nodes: better a ticket that may fail than none.
  stack.use(
    await node.registry.watch(spearService, ({ instances }) => {
      spears = spearNodes(instances);
    }),
  );
  const app = ticketApp({
    nodes: () => spears,
    scheme: tokenScheme(config.auth),
    onError: (error) => node.log.error("a ticket could not be given: {error}", { error }),
  });
  const server = stack.use(
    await node.serve({ port: config.port, app: (request) => app.fetch(request) }),
  );
  stack.use(await node.announce({ http: server.address }));
  const running = stack.move();
  return { address: server.address, [Symbol.asyncDispose]: () => running.disposeAsync() };
}
