/** The idgen program: an {@linkcode Issuer} behind the RPC, seen by the others as callable only while it issues. */
import { z } from "zod";
import { Counter, Gauge } from "@gru/shared/metrics";
import { type NodeOverrides, nodeShape, openNode, version } from "@gru/shared/node";
import type { Handlers } from "@gru/shared/rpc/contract";
import { serveContract } from "@gru/shared/rpc/server";
import { type IdgenContract, idgenContract } from "./contract.ts";
import { Issuer, systemTime } from "./issuer.ts";
import { listNode } from "./listing.ts";
import { decodeId, maxWorker } from "./snowflake.ts";

export const idgenSchema = z.strictObject({
  ...nodeShape,
  order: z.enum(["unique", "strict"]).describe(
    "the same for all nodes. strict: one issues, the others stand by, ids always go up; unique: all issue",
  ),
  worker: z.int().min(0).max(maxWorker).optional().describe(
    "order unique only: this worker and no other; left out: any that is free",
  ),
  ceilingMs: z.int().min(100).max(60_000).describe(
    "milliseconds of ids reserved ahead; what a node left of them when it died is skipped",
  ),
}).refine((at) => at.order === "unique" || at.worker === undefined, {
  path: ["worker"],
  error: "with order strict all nodes share one worker; leave it out",
}).refine((at) => at.registry === "memory:" || at.ceilingMs < at.zookeeper.sessionMs, {
  path: ["ceilingMs"],
  error: "expected less than zookeeper.sessionMs",
});

export type IdgenConfig = z.output<typeof idgenSchema>;

export interface IdgenOverrides extends NodeOverrides {
  /** Whole Unix milliseconds, in place of the machine's clock. */
  readonly wallMs?: () => number;
}

export interface Idgen extends AsyncDisposable {
  /** For callers in the same process. */
  readonly handlers: Handlers<IdgenContract>;
  /** `http://host:port` of the RPC. */
  readonly address: string;
  /** The worker whose ids are issued here; undefined while standing by. */
  readonly worker: number | undefined;
}

/** Between two tries of a standby to become active: the most that a failover takes beyond the session's end. */
const retryMs = 200;

/** Resolves when it is known whether this node issues or stands by. @throws RegistryUnavailableError */
export async function startIdgen(
  config: IdgenConfig,
  overrides: IdgenOverrides = {},
): Promise<Idgen> {
  const { order, worker, ceilingMs, port } = config;
  await using stack = new AsyncDisposableStack();
  const node = stack.use(await openNode("idgen", config, overrides));
  const { log, metrics, registry } = node;
  const time = systemTime(overrides.wallMs);
  let onChange = (_worker: number | undefined) => {};

  const issuer = stack.use(
    new Issuer({
      registry,
      holder: node.name,
      workers: order === "strict" ? () => [0] : () => worker === undefined ? anyWorker() : [worker],
      ceilingMs,
      retryMs,
      time,
      log,
      onChange: (worker) => onChange(worker),
    }),
  );
  const issued = new Counter({
    name: "gru_idgen_ids_total",
    help: "Ids issued",
    registers: [metrics],
  });
  new Gauge({
    name: "gru_idgen_active",
    help: "1 while this node issues ids, 0 while it stands by",
    registers: [metrics],
    collect() {
      this.set(issuer.worker === undefined ? 0 : 1);
    },
  });
  new Gauge({
    name: "gru_idgen_ahead_seconds",
    help: "How far the newest id is ahead of this node's clock",
    registers: [metrics],
    collect() {
      this.set(Math.max(0, issuer.usedMs - time.wallMs()) / 1000);
    },
  });

  async function issue(count: number, isDropped: () => boolean): Promise<string[]> {
    const ids = await issuer.next(count, isDropped);
    issued.inc(count);
    return ids;
  }

  const handlers: Handlers<IdgenContract> = {
    next: async ({ count }, call) => ({ ids: await issue(count, () => call.signal.aborted) }),
    getMsgId: async (_, call) => {
      const [id = ""] = await issue(1, () => call.signal.aborted);
      return { id };
    },
    decode: ({ id }) => decodeId(id),
    getServiceVersion: () => ({ version }),
  };

  let isListed = () => false;
  const server = stack.use(
    await node.serve({
      port,
      services: [serveContract(idgenContract, handlers)],
      ready: () => ({ announced: isListed() }),
    }),
  );
  const listing = stack.use(listNode(node, { address: server.address, order, retryMs }));
  isListed = () => listing.isCurrent;
  onChange = (worker) => {
    if (worker === undefined) log.info("standing by");
    else log.info("issuing ids of worker {worker}", { worker });
    listing.show(worker);
  };
  if (issuer.worker === undefined) await issuer.changed();
  onChange(issuer.worker);
  const owned = stack.move();
  return {
    handlers,
    address: server.address,
    get worker() {
      return issuer.worker;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

/** All workers, from a random one on, so that nodes that start together do not all ask for the same. */
function* anyWorker(): Generator<number> {
  const first = Math.floor(Math.random() * (maxWorker + 1));
  for (let offset = 0; offset <= maxWorker; offset++) yield (first + offset) % (maxWorker + 1);
}
