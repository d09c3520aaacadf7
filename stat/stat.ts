/**
 * The stat program: stores which users are online on which nodes, as reported by spears. Programs read it over RPC,
 * others over HTTP.
 */
import { z } from "zod";
import { secret } from "@gru/shared/config";
import { guarded } from "@gru/shared/http/exposure";
import type { Logger } from "@gru/shared/log";
import { openMetrics } from "@gru/shared/metrics";
import { statMetrics } from "./metrics.ts";
import { type WrongKeys, WrongKeysCount } from "@gru/shared/wrong_keys";
import { type NodeOverrides, nodeShape, openNode, version } from "@gru/shared/node";
import type { Readiness } from "@gru/shared/readiness";
import type { Instance } from "@gru/shared/registry/registry";
import { repeat } from "@gru/shared/repeat";
import type { Handlers } from "@gru/shared/rpc/contract";
import { redact } from "@gru/shared/redact";
import { expectedRedis, parseRedisAddress } from "@gru/shared/redis/address";
import { pooledPost } from "@gru/shared/webhooks/post";
import { serveContract } from "@gru/shared/rpc/server";
import { type BanRecord, type MuteRecord, spearContract, spearService } from "@gru/spear/contract";
import { apiBodyBytes, createApi } from "./api.ts";
import { type StatContract, statContract } from "./contract.ts";
import { noteWrongKeys } from "./audit.ts";
import { noteHappenings } from "./happenings.ts";
import { hooksAreOn, hooksSchema, messagesAreWanted } from "./hooks/config.ts";
import { MessageTeller } from "./hooks/message_teller.ts";
import { tellOfNodes } from "./hooks/nodes.ts";
import { endpointSecrets } from "./hooks/secrets.ts";
import { Sender } from "./hooks/sender.ts";
import { Teller } from "./hooks/teller.ts";
import { Operations } from "./operations.ts";
import { sampleUntilDisposed } from "./rates.ts";
import { MemoryStore } from "./store_memory.ts";
import { openRedisStore, type RedisStoreOptions } from "./store_redis.ts";
import { leastTtlMs, type LiveNodes, type Restrictions, type StatStore } from "./store.ts";

export const statSchema = z.strictObject({
  ...nodeShape(32_000),
  httpPort: z.int().min(0).max(65_535).default(50_000)
    .describe("the port of the HTTP API; port is the RPC's. 0: any free one"),
  redis: z.string().refine((redis) => redis === "memory:" || redisOf(redis) !== undefined, {
    error: `expected memory: or ${expectedRedis}, without a password`,
  }).default("redis://127.0.0.1:6379").describe(
    `where the state is: ${expectedRedis}, or memory: for one stat alone`,
  ),
  auditDays: z.int().min(1).max(365).default(30)
    .describe("days for which the audit log keeps who commanded what; at most 10 000 commands"),
  hooks: hooksSchema,
  redisPassword: secret("GRU_REDIS_PASSWORD").describe("the password of Redis"),
  apiKey: secret("GRU_STAT_API_KEY").describe("what callers of the HTTP API must show"),
}).superRefine(guarded(["apiKey"])).superRefine(({ redis, redisPassword }, context) => {
  if (redisPassword !== undefined || redisOf(redis)?.username === undefined) return;
  const message = "redis names a user, which needs a password";
  context.addIssue({ code: "custom", path: ["redisPassword"], message });
});

function redisOf(text: string) {
  try {
    const address = parseRedisAddress(text);
    return address.kind === "shards" ? undefined : address;
  } catch {
    return undefined;
  }
}

export type StatConfig = z.output<typeof statSchema>;

export interface Stat extends AsyncDisposable {
  /** For callers in the same process. */
  readonly handlers: Handlers<StatContract>;
  /** The port of RPC, health and metrics. */
  readonly port: number;
  /** The port of the HTTP API. */
  readonly httpPort: number;
  readonly readiness: Readiness;
}

const sweepMs = 1000;
const settleMs = 500;

/**
 * Resolves when the node is announced.
 * @throws ConfigError when secrets are missing that it needs because others can reach it; RegistryUnavailableError,
 * NameTakenError; RpcError `unavailable` when Redis cannot be reached.
 */
export async function startStat(config: StatConfig, overrides: NodeOverrides = {}): Promise<Stat> {
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("stat", config, overrides));
  const { log, metrics, registry } = node;
  const { readiness } = node;
  stack.use(await node.agreeOnClusterKey());
  const { gru_stat_store_seconds: seconds } = openMetrics(metrics, {
    gru_stat_store_seconds: statMetrics.gru_stat_store_seconds,
  });
  const store = stack.use(
    await openStore(
      config,
      node.name,
      log,
      (call, result, s) => seconds.observe({ call, result }, s),
    ),
  );

  let instances: readonly Instance[] = [];
  let isStale = true;
  stack.use(
    await registry.watch(spearService, (view) => {
      instances = view.instances;
      isStale = view.stale;
    }),
  );
  const auditMs = config.auditDays * 86_400_000;
  const audit = { store, keepMs: auditMs, log };
  stack.use(await noteHappenings({ registry, ...audit }));
  const wrongKeys = stack.use(
    new WrongKeysCount({ note: (wrong) => noteWrongKeys(audit, "api", wrong) }),
  );
  const spears = stack.use(await node.connect(spearContract));
  const operations = new Operations({
    store,
    spears,
    instances: () => instances,
    now: node.clock.now,
  });
  const written = readiness.need("redis", "nothing written yet");
  stack.use(
    settleUntilDisposed(store, () => operations.live, log, (problem) => {
      if (problem === undefined) written.met();
      else written.miss(`${redact(problem)} (the key redis, GRU_REDIS_PASSWORD, or Redis itself)`);
    }),
  );
  stack.use(sweepUntilDisposed(store, log));
  stack.use(sampleUntilDisposed(store, operations.distinct, () => operations.live, log));

  const {
    gru_stat_reports_total: reports,
    gru_stat_commands_total: commands,
    gru_stat_hooks_events_total: hookEvents,
    gru_stat_hooks_given_up_total: givenUp,
  } = openMetrics(metrics, statMetrics, {
    gru_stat_users: () => operations.distinct.last?.users,
    gru_stat_groups: () => operations.distinct.last?.groups,
    gru_stat_store_connected: () => store.ready ? 1 : 0,
    gru_stat_hooks_sender: () => sender?.isHolder ? 1 : 0,
    gru_stat_hooks_lag_seconds: () => sender?.isHolder ? sender.lagMs / 1000 : undefined,
    gru_stat_hooks_endpoint_lag_seconds: () =>
      sender?.states().map(([endpoint, { lagMs }]) => [{ endpoint }, lagMs / 1000] as const) ?? [],
    gru_stat_hooks_endpoint_failing: () =>
      sender?.states().map(([endpoint, { state }]) =>
        [{ endpoint }, state === "delivering" ? 0 : 1] as const
      ) ?? [],
  });
  const { hooks } = config;
  const connections = 16;
  const messageTeller = new MessageTeller({
    telling: store.telling,
    spear: () => spears.any,
    log,
  });
  const sender = hooksAreOn(hooks)
    ? stack.use(
      new Sender({
        hooks,
        secrets: endpointSecrets(hooks),
        outbox: store.outbox,
        teller: new Teller(store.telling, {
          graceMs: hooks.graceMs,
          readMessages: messagesAreWanted(hooks) ? (token) => messageTeller.step(token) : undefined,
        }),
        tellNodes: (token) =>
          tellOfNodes(token, store.telling, registry, isStale ? undefined : instances),
        post: stack.use(pooledPost({ connections })).post,
        log,
        onSent: (endpoint, events, isDelivered) =>
          hookEvents.inc({ endpoint, result: isDelivered ? "delivered" : "failed" }, events),
        onGivenUp: (endpoint, events) => givenUp.inc({ endpoint }, events),
      }),
    )
    : undefined;
  const handlers = statHandlers(
    operations,
    (result) => reports.inc({ result }),
    (wrong) => noteWrongKeys(audit, "console", wrong),
  );

  const ready = () => ({ store: store.ready });
  const services = [serveContract(statContract, handlers)];
  const server = stack.use(await node.serve({ port: config.port, services, ready }));
  const closing = new AbortController();
  let address = "";
  const api = createApi({
    ...{ operations, apiKey: config.apiKey, address: () => address, closing: closing.signal, log },
    hooks,
    auditMs,
    onCommand: (command, result) => commands.inc({ command, result }),
    onWrongKey(address) {
      if (wrongKeys.add(address)) log.warn("a wrong API key from {address}", { address });
    },
  });
  const http = stack.use(
    await node.serve({
      port: config.httpPort,
      app: {
        handler: (request, { remoteAddr }) => api.fetch(request, { address: remoteAddr.hostname }),
        pages: config.apiKey === undefined ? "own-unkeyed" : "own",
        bodyBytes: apiBodyBytes,
      },
      ready,
    }),
  );
  address = http.address;
  stack.defer(() => closing.abort());
  readiness.start();
  stack.use(await node.announce({ rpc: server.address, http: http.address }));

  const owned = stack.move();
  return {
    handlers,
    port: server.port,
    httpPort: http.port,
    readiness,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/**
 * @param onReport called with the result of each report
 * @param noteWrongPasswords keeps what a console tells
 */
export function statHandlers(
  operations: Operations,
  onReport: (result: "refused" | "resync" | "full" | "changes") => void = () => {},
  noteWrongPasswords: (wrong: WrongKeys) => Promise<void> = async () => {},
): Handlers<StatContract> {
  const { store } = operations;
  return {
    report: async ({ report, ttlMs }, { signal }) => {
      const answer = await store.apply(report, Math.max(ttlMs, leastTtlMs), signal);
      if (answer.refused) onReport("refused");
      else onReport(answer.resync ? "resync" : report.full ? "full" : "changes");
      return answer;
    },
    claim: async ({ node, session, takeOver }) => ({
      claimed: await store.claim(node, session, takeOver),
    }),
    usersOfGroup: async ({ groupId }) => ({
      userIds: await store.usersOfGroup(groupId, operations.live),
    }),
    nodesOfUser: async ({ userId }) => ({
      nodes: await store.nodesOfUser(userId, operations.live),
    }),
    bans: async () => ({ bans: await operations.bans() }),
    banRecords: () => recordsOf(store.bans),
    restoreBans: async ({ records }) => {
      await store.bans.restore(records);
      return {};
    },
    muteRecords: () => recordsOf(store.mutes),
    restoreMutes: async ({ records }) => {
      await store.mutes.restore(records);
      return {};
    },
    kicks: async ({ since }) => {
      const { kicks, ...others } = await store.kicks(since);
      return { kicks: [...kicks], ...others };
    },
    restoreKicks: async ({ kicks }) => {
      await store.restoreKicks(kicks);
      return {};
    },
    active: async ({ targets }) => ({ wanted: await store.telling.active(targets) }),
    wrongPasswords: async (wrong) => {
      await noteWrongPasswords(wrong);
      return {};
    },
    getServiceVersion: () => ({ version }),
  };
}

async function recordsOf<R extends BanRecord | MuteRecord>(restrictions: Restrictions<R>) {
  const { records, now } = await restrictions.all();
  return { records: [...records], now };
}

async function openStore(
  { redis, redisPassword }: StatConfig,
  node: string,
  log: Logger,
  onCall: RedisStoreOptions["onCall"],
): Promise<StatStore> {
  if (redis === "memory:") return new MemoryStore();
  return await openRedisStore({ url: redis, password: redisPassword, node, log, onCall });
}

/** Every stat sweeps, so any running stat removes what a node left. */
function sweepUntilDisposed(store: StatStore, log: Logger): AsyncDisposable {
  return repeat(async (signal) => {
    try {
      while (!signal.aborted && (await store.sweep()).more);
    } catch (error) {
      // The store reports when Redis cannot be reached; what is left is swept later.
      log.debug("sweeping failed: {error}", { error });
    }
    return sweepMs;
  });
}

/** Every stat checks whether the nodes have reported since the data may have been lost. */
export function settleUntilDisposed(
  store: StatStore,
  live: () => LiveNodes,
  log: Logger,
  /** Called with what keeps the store from being written to, if anything. */
  onWritten: (problem: string | undefined) => void = () => {},
) {
  let isWhole = true;
  return repeat(async () => {
    try {
      const waiting = await store.settle(live());
      if (waiting.length > 0 && isWhole) {
        log.warn("the reports of nodes may be lost: waiting until {nodes} have reported again", {
          nodes: waiting.join(", "),
        });
      } else if (waiting.length === 0 && !isWhole) {
        log.info("all nodes have reported: questions are answered");
      }
      isWhole = waiting.length === 0;
      onWritten(undefined);
    } catch (error) {
      onWritten((error as Error).message);
      log.debug("settling failed: {error}", { error });
    }
    return settleMs;
  });
}
