/**
 * What a spear proves before clients are sent to it, and over and over afterwards: Redis takes writes; idgen and stat
 * accept the cluster key.
 */
import type { Readiness } from "@gru/shared/readiness";
import { redact } from "@gru/shared/redact";
import type { Registry } from "@gru/shared/registry/registry";
import { repeat } from "@gru/shared/repeat";
import { RpcError } from "@gru/shared/rpc/contract";
import type { ServedBroker } from "./broker/broker.ts";

/** While something is missing it is tried again after this, and before that at the start. */
const [retryMs, firstMs] = [1000, 50];
const proveAgainMs = 5000;
/** Instances that are in the registry and have not answered this node for so long are out of its reach. */
const unreachableMs = 15_000;

export function needRedis(
  readiness: Readiness,
  broker: Pick<ServedBroker, "connected" | "proveWritable">,
): AsyncDisposable {
  const need = readiness.need("redis", "not connected yet");
  let provenAt = -Infinity;
  return repeat(async () => {
    if (broker.connected && performance.now() - provenAt < proveAgainMs) return retryMs;
    try {
      await broker.proveWritable();
      if (!broker.connected) throw new Error("it does not carry messages yet");
      provenAt = performance.now();
      need.met();
    } catch (error) {
      provenAt = -Infinity;
      const why = redact((error as Error).message);
      const mend = /\b(WRONGPASS|NOAUTH|NOPERM)\b/.test(why)
        ? "GRU_REDIS_PASSWORD, or the rights of this user of Redis"
        : "the key redis, or Redis itself";
      need.miss(`${why} (${mend})`);
    }
    return readiness.served ? retryMs : firstMs;
  });
}

export interface ServiceNeed {
  readonly readiness: Readiness;
  readonly registry: Pick<Registry, "watch">;
  readonly service: "idgen" | "stat";
  /** Asks any instance something that changes nothing. */
  readonly ask: (options: { readonly signal: AbortSignal }) => Promise<unknown>;
}

/**
 * Proved once, it is missing again only when the key is refused, or when instances live that this node cannot reach. While none
 * lives at all, this node is as good as the others, and clients are better off connected.
 */
export async function needService(options: ServiceNeed): Promise<AsyncDisposable> {
  const { readiness, registry, service, ask } = options;
  const need = readiness.need(service, "not asked yet");
  let isProven = false;
  let answeredAt = performance.now();
  let listed = 0;
  await using stack = new AsyncDisposableStack();
  const absent = `no ${service} serves: start one with the same registry and ` +
    "GRU_ZOOKEEPER_CREDENTIALS; its log says what it lacks";
  const proving = repeat(async (signal) => {
    try {
      await ask({ signal });
      isProven = true;
      answeredAt = performance.now();
      need.met();
      return proveAgainMs;
    } catch (error) {
      if (signal.aborted) return 0;
      const refused = error instanceof RpcError && error.code === "unauthenticated";
      const silentMs = performance.now() - answeredAt;
      if (refused) {
        const mend = "GRU_CLUSTER_KEY must be the same in all programs";
        need.miss(`${(error as Error).message} (${mend})`, { atOnce: true });
      } else if (!isProven || listed > 0 && silentMs > unreachableMs) {
        need.miss(listed === 0 ? absent : (error as Error).message);
      }
      return retryMs;
    }
  });
  stack.use(proving);
  stack.use(
    await registry.watch(service, ({ instances }) => {
      const before = listed;
      listed = instances.filter(({ addresses }) => addresses.rpc !== undefined).length;
      if (listed === 0 && !isProven) need.miss(absent);
      if (listed > before) proving.hurry();
    }),
  );
  return stack.move();
}
