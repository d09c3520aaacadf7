/**
 * The idgen program: an {@linkcode Issuer} of ids behind RPC. Clients see a node as callable only while it issues ids.
 */
import { z } from "zod";
import { guarded } from "@gru/shared/http/exposure";
import { openMetrics } from "@gru/shared/metrics";
import { type NodeOverrides, nodeShape, openNode, version } from "@gru/shared/node";
import { type Readiness, readyUnlessStopped } from "@gru/shared/readiness";
import type { Handlers } from "@gru/shared/rpc/contract";
import { serveContract } from "@gru/shared/rpc/server";
import { type IdgenContract, idgenContract } from "./contract.ts";
import { systemTime } from "./issuer.ts";
import { listNode } from "./listing.ts";
import { decodeId, maxWorker } from "./snowflake.ts";
import { orderedWorker, Supply, type SupplyState } from "./supply.ts";

export const idgenSchema = z.strictObject({
  ...nodeShape(33_000),
  order: z.enum(["unique", "strict"]).default("strict").describe(
    "the same on all nodes. strict: one node issues, the others stand by, ids always increase; unique: all issue",
  ),
  worker: z.int().min(0).max(maxWorker).optional().describe(
    "with order unique only: the worker that this node uses",
  ).meta({ whenMissing: "any free worker" }),
  ceilingMs: z.int().min(100).max(3_600_000).optional().describe(
    "milliseconds of ids to reserve ahead: how long this node issues unique ids without the registry; a node that is killed leaves its unused ones unused",
  ).meta({ whenMissing: "600000 where ids may be unique only, else 3/4 of zookeeper.sessionMs" }),
  withoutRegistry: z.enum(["refuse", "unique"]).default("refuse").describe(
    "with order strict, while ZooKeeper is away for longer than a session; refuse: issue no ids; unique: issue ids that are unique but not ordered, for up to ceilingMs",
  ),
}).refine((at) => at.order === "unique" || at.worker === undefined, {
  path: ["worker"],
  error: "with order strict all nodes share one worker: remove this key",
}).refine(
  (at) =>
    at.registry === "memory:" || outlivesRegistry(at) ||
    (at.ceilingMs ?? 0) < at.zookeeper.sessionMs,
  {
    path: ["ceilingMs"],
    error: "expected a value below zookeeper.sessionMs, or order unique, or withoutRegistry unique",
  },
).superRefine(guarded());

function outlivesRegistry(at: { order: string; withoutRegistry: string }): boolean {
  return at.order === "unique" || at.withoutRegistry === "unique";
}

export const idgenMetrics = {
  gru_idgen_ids_total: { type: "counter", help: "Ids issued" },
  gru_idgen_active: {
    type: "gauge",
    help: "1 while this node issues ids, 0 while it stands by",
  },
  gru_idgen_without_registry: {
    type: "gauge",
    help: "1 while this node issues ids that it reserved before the registry went away",
  },
  gru_idgen_reserved_seconds: {
    type: "gauge",
    help: "How long this node can issue ids without the registry",
  },
  gru_idgen_ahead_seconds: {
    type: "gauge",
    help: "How far the newest id is ahead of this node's clock",
  },
} as const;

export type IdgenConfig = z.output<typeof idgenSchema>;

export interface IdgenOverrides extends NodeOverrides {
  /** Returns whole Unix milliseconds; replaces the machine's clock. */
  readonly wallMs?: () => number;
}

export interface Idgen extends AsyncDisposable {
  /** For callers in the same process. */
  readonly handlers: Handlers<IdgenContract>;
  /** `http://host:port` of the RPC server. */
  readonly address: string;
  readonly readiness: Readiness;
  /** The worker of this node's ids. Undefined while the node is standing by. */
  readonly worker: number | undefined;
}

/**
 * How long a standby waits between two attempts to become active. A failover takes at most this much longer than the
 * session.
 */
const retryMs = 200;
/**
 * The difference of clocks that is tolerated when the registry loses its data together with every process that knew the
 * ceiling.
 */
const marginMs = 10_000;
/** Long enough for most repairs of ZooKeeper, and short enough that ids of a killed node's worker are not far ahead. */
const defaultReserveMs = 600_000;

/** Resolves when this node knows whether it issues or stands by. @throws RegistryUnavailableError */
export async function startIdgen(
  config: IdgenConfig,
  overrides: IdgenOverrides = {},
): Promise<Idgen> {
  const { order, worker, withoutRegistry, port } = config;
  const orderedMs = config.zookeeper.sessionMs * 3 / 4;
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("idgen", config, overrides));
  const { log, metrics, registry, readiness } = node;
  stack.use(await node.agreeOnClusterKey());
  readiness.start();
  // With another key it would take the ids' lease and nobody could call it.
  await readyUnlessStopped(readiness, overrides.stop);
  const time = systemTime(overrides.wallMs);
  let onChange = (_state: SupplyState) => {};
  let isReplaced = false;
  stack.use(
    await registry.watch("idgen", ({ stale, instances }) => {
      isReplaced = !stale && instances.some(({ name }) => name !== node.name);
    }),
  );

  const supply = stack.use(
    new Supply({
      registry,
      holder: node.name,
      order,
      withoutRegistry,
      workers: () =>
        order === "strict"
          ? anyWorker().filter((number) => number !== orderedWorker)
          : worker === undefined
          ? anyWorker()
          : [worker],
      ceilingMs: config.ceilingMs ?? (outlivesRegistry(config) ? defaultReserveMs : orderedMs),
      orderedMs: Math.min(config.ceilingMs ?? Infinity, orderedMs),
      marginMs,
      retryMs,
      time,
      log,
      isReplaced: () => isReplaced,
      onChange: (state) => onChange(state),
    }),
  );
  const { gru_idgen_ids_total: issued } = openMetrics(metrics, idgenMetrics, {
    gru_idgen_active: () => supply.state.worker === undefined ? 0 : 1,
    gru_idgen_without_registry: () => supply.state.withoutRegistry ? 1 : 0,
    gru_idgen_reserved_seconds: () => supply.reservedMs / 1000,
    gru_idgen_ahead_seconds: () => Math.max(0, supply.usedMs - time.wallMs()) / 1000,
  });

  async function issue(count: number, isDropped: () => boolean): Promise<string[]> {
    const ids = await supply.next(count, isDropped);
    issued.inc(count);
    return ids;
  }

  const handlers: Handlers<IdgenContract> = {
    next: async ({ count }, call) => ({
      ids: await issue(count, () => call.signal.aborted),
      order,
    }),
    getMsgId: async (_, call) => {
      const [id = ""] = await issue(1, () => call.signal.aborted);
      return { id };
    },
    decode: ({ id }) => decodeId(id),
    getServiceVersion: () => ({ version }),
    status: () => ({
      worker: supply.state.worker ?? null,
      withoutRegistry: supply.state.withoutRegistry,
      reservedMs: supply.reservedMs,
    }),
  };

  let isListed = () => false;
  const server = stack.use(
    await node.serve({
      port,
      services: [serveContract(idgenContract, handlers)],
      ready: () => ({ announced: isListed(), leaseUndisputed: !supply.isWaiting }),
    }),
  );
  const listing = stack.use(listNode(node, { address: server.address, order, retryMs }));
  isListed = () => listing.isCurrent;
  let isTold = false;
  onChange = ({ worker, withoutRegistry }) => {
    if (withoutRegistry && worker === undefined) {
      log.warn("the registry is away, and all reserved ids are used up: issuing none");
    } else if (withoutRegistry && !isTold) {
      const seconds = Math.floor(supply.reservedMs / 1000);
      const ids = order === "strict" ? "unique ids that are not ordered" : "unique ids";
      log.warn(`the registry is away: issuing ${ids}, reserved for {seconds} s more`, { seconds });
    } else if (worker === undefined) log.info("standing by: another node issues the ids");
    else if (!withoutRegistry) log.info("issuing ids with worker {worker}", { worker });
    isTold = withoutRegistry;
    listing.show(worker);
  };
  if (supply.state.worker === undefined) await supply.changed();
  onChange(supply.state);
  const owned = stack.move();
  return {
    handlers,
    address: server.address,
    readiness,
    get worker() {
      return supply.state.worker;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** All workers, starting at a random one, so that nodes that start together do not all try the same worker. */
function* anyWorker(): Generator<number> {
  const first = Math.floor(Math.random() * (maxWorker + 1));
  for (let offset = 0; offset <= maxWorker; offset++) yield (first + offset) % (maxWorker + 1);
}
