/** The last hour of the cluster, from samples that all stats store together. */
import type { Logger } from "@gru/shared/log";
import { repeat } from "@gru/shared/repeat";
import { flat, sum } from "./operations.ts";
import type { Distinct } from "./distinct.ts";
import type { DistinctCounts, LiveNodes, NodeCounts, Samples, StatStore } from "./store.ts";

/** The same period as the averages that spears report, so the samples leave no gaps. */
export const stepMs = 10_000;
const hourMs = 3_600_000;

/** Every stat tries to store each sample; the first one succeeds. */
export function sampleUntilDisposed(
  store: StatStore,
  distinct: Distinct,
  live: () => LiveNodes,
  log: Logger,
): AsyncDisposable {
  return repeat(async () => {
    try {
      const [nodes, totals] = await Promise.all([store.counts(live()), distinct.of(live())]);
      return await store.addSample({ nodes, distinct: totals }, { stepMs, keepMs: hourMs });
    } catch (error) {
      // The store reports when Redis cannot be reached; the sample is then missing.
      log.debug("sampling failed: {error}", { error });
      return stepMs;
    }
  });
}

export function lastHour(store: StatStore): Promise<Samples> {
  return store.samples(hourMs);
}

export function totalsOf(
  counts: readonly NodeCounts[],
  distinct: DistinctCounts,
  { samples, now }: Samples,
) {
  const hour = samples.map(({ nodes }) => together(nodes));
  const overSteps = (rates: number[]) => Math.round(sum(rates) * stepMs / 1000);
  return {
    at: now,
    nodes: counts.length,
    ...together(counts),
    ...distinct,
    lastHour: {
      accepted: overSteps(hour.map((one) => one.acceptedPerSecond)),
      delivered: overSteps(hour.map((one) => one.deliveredPerSecond)),
      mostConnections: Math.max(0, ...hour.map((one) => one.connections)),
      samples: samples.length,
    },
  };
}

/** The rates of one node, or of all together; null where the node was not present. */
export function ratesOf({ samples }: Samples, node: string | undefined) {
  const values = samples.map(({ nodes, distinct }) => {
    if (node === undefined) return { ...together(nodes), ...distinct };
    const wanted = nodes.filter((one) => one.node === node);
    return wanted.length === 0 ? undefined : together(wanted);
  });
  const series = (key: keyof ReturnType<typeof together>) =>
    values.map((value) => value?.[key] ?? null);
  return {
    stepMs,
    at: samples.map(({ at }) => at),
    connections: series("connections"),
    users: series("users"),
    groups: series("groups"),
    acceptedPerSecond: series("acceptedPerSecond"),
    deliveredPerSecond: series("deliveredPerSecond"),
    memoryBytes: series("memoryBytes"),
  };
}

function together(nodes: readonly NodeCounts[]) {
  const each = nodes.map(flat);
  const total = (key: keyof ReturnType<typeof flat>) => sum(each.map((one) => one[key]));
  return {
    connections: total("connections"),
    users: total("users"),
    groups: total("groups"),
    acceptedPerSecond: Math.round(10 * total("acceptedPerSecond")) / 10,
    deliveredPerSecond: Math.round(10 * total("deliveredPerSecond")) / 10,
    memoryBytes: total("memoryBytes"),
  };
}
