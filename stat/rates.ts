/** The last hour of the cluster, from samples that all stats keep together. */
import type { Logger } from "@gru/shared/log";
import { flat, sum } from "./operations.ts";
import type { LiveNodes, NodeCounts, Sample, StatStore } from "./store.ts";

/** As long as the averages that spears report: together the samples leave nothing out. */
export const stepMs = 10_000;
const hourMs = 3_600_000;

/** Every stat tries to keep each sample; the first one does. */
export function sampleUntilDisposed(
  store: StatStore,
  live: () => LiveNodes,
  log: Logger,
): AsyncDisposable {
  let timer: ReturnType<typeof setTimeout> | undefined;
  let sampling = Promise.resolve();
  let stopped = false;

  async function sample(): Promise<void> {
    const at = Math.floor(Date.now() / stepMs) * stepMs;
    try {
      await store.addSample({ at, nodes: await store.counts(live()) }, at - hourMs);
    } catch (error) {
      // The store tells when Redis is away; a sample is missing then.
      log.debug("sampling failed: {error}", { error });
    }
    if (!stopped) schedule();
  }
  function schedule(): void {
    timer = setTimeout(() => sampling = sample(), stepMs - Date.now() % stepMs);
  }

  sampling = sample();
  return {
    [Symbol.asyncDispose]: async () => {
      stopped = true;
      clearTimeout(timer);
      await sampling;
    },
  };
}

export function lastHour(store: StatStore): Promise<Sample[]> {
  return store.samples(Date.now() - hourMs);
}

export function totalsOf(counts: readonly NodeCounts[], samples: readonly Sample[]) {
  const hour = samples.map(({ nodes }) => together(nodes));
  const overSteps = (rates: number[]) => Math.round(sum(rates) * stepMs / 1000);
  return {
    at: Date.now(),
    nodes: counts.length,
    ...together(counts),
    lastHour: {
      accepted: overSteps(hour.map((one) => one.acceptedPerSecond)),
      delivered: overSteps(hour.map((one) => one.deliveredPerSecond)),
      mostConnections: Math.max(0, ...hour.map((one) => one.connections)),
      samples: samples.length,
    },
  };
}

/** Of one node, or of all together; null where the node was not there. */
export function ratesOf(samples: readonly Sample[], node: string | undefined) {
  const values = samples.map(({ nodes }) => {
    const wanted = node === undefined ? nodes : nodes.filter((one) => one.node === node);
    return wanted.length === 0 && node !== undefined ? undefined : together(wanted);
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
