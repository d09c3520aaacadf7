/** The stat program: who is online where, as spears report it, for programs over RPC and for others over HTTP. */
import { z } from "zod";
import { ConfigError, secret } from "@gru/shared/config";
import type { Logger } from "@gru/shared/log";
import { Counter } from "@gru/shared/metrics";
import { isLoopback, type NodeOverrides, nodeShape, openNode, version } from "@gru/shared/node";
import type { Instance } from "@gru/shared/registry";
import type { Handlers } from "@gru/shared/rpc/contract";
import { serveContract } from "@gru/shared/rpc/server";
import { spearContract, spearService } from "@gru/spear/contract";
import { createApi } from "./api.ts";
import { type StatContract, statContract } from "./contract.ts";
import { Operations } from "./operations.ts";
import { sampleUntilDisposed } from "./rates.ts";
import { MemoryStore } from "./store_memory.ts";
import { openRedisStore } from "./store_redis.ts";
import type { StatStore } from "./store.ts";

export const statSchema = z.strictObject({
  ...nodeShape,
  httpPort: z.int().min(0).max(65_535)
    .describe("the port of the HTTP API; port is the RPC's. 0: any free one"),
  redis: z.string().regex(/^(memory:|rediss?:\/\/(\[[0-9a-f:]+\]|[^\s/@:]+)(:\d+)?(\/\d+)?)$/, {
    error: "expected memory: or redis://host:port[/database], without a password",
  }).describe("where the state is: redis://host:port[/database], or memory: for one stat alone"),
  redisPassword: secret("GRU_REDIS_PASSWORD").describe("Redis password"),
  apiKey: secret("GRU_STAT_API_KEY").describe("what callers of the HTTP API must show"),
});

export type StatConfig = z.output<typeof statSchema>;

export interface Stat extends AsyncDisposable {
  /** For callers in the same process. */
  readonly handlers: Handlers<StatContract>;
  /** Where the RPC, health and metrics listen. */
  readonly port: number;
  /** Where the HTTP API listens. */
  readonly httpPort: number;
}

const sweepMs = 1000;

/**
 * Resolves when the node is announced.
 * @throws ConfigError without an API key where others could call; RegistryUnavailableError, NameTakenError, RpcError `unavailable` when Redis cannot be reached.
 */
export async function startStat(config: StatConfig, overrides: NodeOverrides = {}): Promise<Stat> {
  if (config.apiKey === undefined && !isLoopback(config.host)) {
    throw new ConfigError(
      `stat: host: is ${config.host}, which other machines can reach; set the environment variable GRU_STAT_API_KEY`,
    );
  }
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("stat", config, overrides));
  const { log, metrics, registry } = node;
  const store = stack.use(await openStore(config, log));

  let instances: readonly Instance[] = [];
  stack.use(await registry.watch(spearService, (view) => instances = view.instances));
  const spears = stack.use(await node.connect(spearContract));
  const operations = new Operations({ store, spears, instances: () => instances });
  stack.use(sweepUntilDisposed(store, log));
  stack.use(sampleUntilDisposed(store, () => operations.live, log));

  const reports = new Counter({
    name: "gru_stat_reports_total",
    help: "Reports of spears, by what became of them",
    labelNames: ["result"],
    registers: [metrics],
  });
  const handlers: Handlers<StatContract> = {
    report: async ({ report, ttlMs }) => {
      const answer = await store.apply(report, ttlMs);
      reports.inc({ result: answer.resync ? "resync" : report.full ? "full" : "changes" });
      return answer;
    },
    usersOfGroup: async ({ groupId }) => ({
      userIds: await store.usersOfGroup(groupId, operations.live),
    }),
    nodesOfUser: async ({ userId }) => ({
      nodes: await store.nodesOfUser(userId, operations.live),
    }),
    bans: async () => ({ bans: await store.bans(Date.now()) }),
    getServiceVersion: () => ({ version }),
  };

  const ready = () => ({ store: store.ready });
  const services = [serveContract(statContract, handlers)];
  const server = stack.use(await node.serve({ port: config.port, services, ready }));
  const closing = new AbortController();
  const api = createApi({ operations, apiKey: config.apiKey, closing: closing.signal, log });
  const http = stack.use(
    await node.serve({ port: config.httpPort, app: (request) => api.fetch(request), ready }),
  );
  stack.defer(() => closing.abort());
  stack.use(await node.announce({ rpc: server.address, http: http.address }));

  const owned = stack.move();
  return {
    handlers,
    port: server.port,
    httpPort: http.port,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function openStore({ redis, redisPassword }: StatConfig, log: Logger): Promise<StatStore> {
  if (redis === "memory:") return new MemoryStore();
  const password = redisPassword === undefined ? {} : { password: redisPassword };
  return await openRedisStore({ url: redis, ...password, log });
}

/** Every stat sweeps, so that what a node left is freed by whoever is up. */
function sweepUntilDisposed(store: StatStore, log: Logger): AsyncDisposable {
  let stopped = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sweeping = Promise.resolve();

  async function sweep(): Promise<void> {
    try {
      while (!stopped && (await store.sweep()).more);
    } catch (error) {
      // The store tells when Redis is away; what is left now is swept when it is back.
      log.debug("sweeping failed: {error}", { error });
    }
    if (!stopped) schedule();
  }
  function schedule(): void {
    timer = setTimeout(() => sweeping = sweep(), sweepMs);
  }

  schedule();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped = true;
      clearTimeout(timer);
      await sweeping;
    },
  };
}
