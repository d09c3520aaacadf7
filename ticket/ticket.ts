/** The ticket service on Deno: it watches the registry for its nodes. */
import { z } from "zod";
import { agrees, publishedClaim } from "@gru/shared/agreement";
import { ConfigError } from "@gru/shared/config";
import { guarded } from "@gru/shared/http/exposure";
import { pooledPost } from "@gru/shared/webhooks/post";
import { DecisionWatch } from "@gru/shared/webhooks/metrics";
import { checkNode, type NodeOverrides, nodeShape, openNode } from "@gru/shared/node";
import type { Readiness } from "@gru/shared/readiness";
import { type SpearNode, spearNodes, spearService } from "@gru/spear/contract";
import { ticketApp } from "./app.ts";
import { ticketAuth, tokensClaim, tokensKey } from "./auth.ts";
import { openMetrics } from "@gru/shared/metrics";
import { ticketMetrics } from "./metrics.ts";
import { nodesRoute } from "./nodes.ts";
import { issuer } from "./token.ts";
import { admissionAsker, admissionBy, type AskAdmission } from "./token_hook.ts";
import { importPublicKey } from "./token1.ts";

export const ticketSchema = z.strictObject({
  ...nodeShape(30_000),
  auth: ticketAuth,
  origins: z.array(
    z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, {
      error: "expected *, or http(s)://host[:port] without a path",
    }),
  ).min(1).default(["*"]).describe(
    "the sites whose pages may ask for tickets (CORS); *: all sites",
  ),
  limits: z.strictObject({
    perUser: z.number().min(0.01).default(100).describe("tickets each second for one user"),
    perAddress: z.number().min(0.01).default(5000)
      .describe("tickets each second for one IPv4 address or one IPv6 network (/64)"),
    trustedHops: z.int().min(0).max(10).default(0).describe(
      "your own proxies in front of this program; each appends the caller to X-Forwarded-For",
    ),
  }).prefault({}),
  balance: z.strictObject({
    maxOverMean: z.number().min(1.01).max(10).default(1.04).describe(
      "a spear with more than this many times the mean number of connections gets no new users",
    ),
    backups: z.int().min(0).max(100).default(2).describe(
      "scheme jwt: other spears that a ticket names and is valid for; the other schemes name all",
    ),
  }).prefault({}),
}).superRefine(guarded());

export type TicketConfig = z.output<typeof ticketSchema>;

export interface Ticket extends AsyncDisposable {
  readonly address: string;
  readonly readiness: Readiness;
}

/**
 * @throws {ConfigError} for a bad profile {@linkcode Error} when the port is taken or the registry cannot be reached.
 */
export async function startTicket(
  config: TicketConfig,
  overrides: NodeOverrides = {},
): Promise<Ticket> {
  await checkTicket(config);
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("ticket", config, overrides));
  const { readiness } = node;
  const claim = tokensClaim(config.auth);
  const tokens = publishedClaim(claim);
  stack.use(
    await node.agree({
      claim,
      services: ["ticket", spearService],
      secret: `the scheme or secret of token2 (auth.scheme, ${
        config.auth.scheme === "gru" ? "GRU_SALT_TOSPEAR" : "GRU_TOKEN2_SECRET"
      })`,
    }),
  );
  let spears: readonly SpearNode[] = [];
  // A stale view still has the last known nodes: a ticket that may fail is better than none.
  stack.use(
    await node.registry.watch(spearService, ({ instances }) => {
      spears = spearNodes(instances, (meta) => agrees(tokens, meta[tokensKey]));
    }),
  );
  const {
    gru_ticket_tickets_total: tickets,
    gru_ticket_seconds: seconds,
    gru_ticket_passed_over_total: passedOver,
  } = openMetrics(node.metrics, ticketMetrics, { gru_ticket_nodes: () => spears.length });
  // From the beginning, so that the first one is seen as an increase.
  for (const why of ["full", "above its share"]) passedOver.inc({ why }, 0);
  const watch = new DecisionWatch(node.metrics, node.log);
  const ask = config.auth.scheme === "hook" ? openAdmission(config.auth, watch, stack) : undefined;
  const app = ticketApp({
    nodes: () => spears,
    issuer: issuer(config.auth, Date.now, ask),
    backups: config.balance.backups,
    maxOverMean: config.balance.maxOverMean,
    origins: config.origins,
    limits: config.limits,
    trustedHops: config.limits.trustedHops,
    now: node.clock.now,
    onAnswer(code, took) {
      tickets.inc({ code });
      seconds.observe(took);
    },
    onPassedOver: (why) => passedOver.inc({ why }),
    onError: (error) => node.log.error("could not issue a ticket: {error}", { error }),
  });
  app.route("/", nodesRoute(() => spears));
  const server = stack.use(
    await node.serve({
      port: config.port,
      app: {
        handler: (request, { remoteAddr }) => app.fetch(request, { address: remoteAddr.hostname }),
        pages: "any",
      },
    }),
  );
  readiness.start();
  stack.use(await node.announce({ http: server.address }));
  const running = stack.move();
  return {
    address: server.address,
    readiness,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** Ends with the stack: what is under way then fails at once. */
function openAdmission(
  { admission }: TicketConfig["auth"],
  watch: DecisionWatch,
  stack: AsyncDisposableStack,
): AskAdmission {
  const { post } = stack.use(pooledPost({ connections: admission.underWay }));
  const stopping = new AbortController();
  stack.defer(() => stopping.abort());
  const asker = admissionAsker(admission, {
    post,
    signal: stopping.signal,
    ...watch.options("admission", admission.url ?? ""),
  });
  watch.add("admission", asker);
  return admissionBy(asker);
}

/** Checked before the program is announced: with a wrong kind of key every ticket would fail. @throws {ConfigError} */
export async function checkTicket(config: TicketConfig): Promise<void> {
  checkNode(config);
  const { scheme, token1: { publicKey } } = config.auth;
  if (scheme !== "jwt" || publicKey === undefined) return;
  try {
    await importPublicKey(publicKey);
  } catch (error) {
    const why = error instanceof Error ? error.message : error;
    throw new ConfigError(
      `ticket: auth.token1.publicKey: ${why}; set the environment variable GRU_TOKEN1_PUBLIC_KEY`,
      { cause: error },
    );
  }
}
