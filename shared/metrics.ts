/**
 * Prometheus metrics over prom-client. Every program has a `Registry` of its own and never uses the global
 * one, so that several programs can run in one process. Names begin with `gru_`, durations are in seconds.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

export { Counter, Gauge, Histogram, Registry } from "prom-client";

interface Named<L extends string> {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly L[];
}

/** The histogram of this name, made when the registry has none yet: two clients of a program share theirs. */
export function histogram<L extends string>(
  registry: Registry,
  { name, help, labels, buckets }: Named<L> & { readonly buckets: readonly number[] },
): Histogram<L> {
  const made = registry.getSingleMetric(name) as Histogram<L> | undefined;
  return made ??
    new Histogram({ name, help, labelNames: labels, buckets: [...buckets], registers: [registry] });
}

/** The counter of this name, made when the registry has none yet. */
export function counter<L extends string>(
  registry: Registry,
  { name, help, labels }: Named<L>,
): Counter<L> {
  const made = registry.getSingleMetric(name) as Counter<L> | undefined;
  return made ?? new Counter({ name, help, labelNames: labels, registers: [registry] });
}

/** The gauge of this name, made when the registry has none yet. */
export function gauge<L extends string>(
  registry: Registry,
  { name, help, labels }: Named<L>,
): Gauge<L> {
  const made = registry.getSingleMetric(name) as Gauge<L> | undefined;
  return made ?? new Gauge({ name, help, labelNames: labels, registers: [registry] });
}

/** From a half a millisecond, a call inside a machine, to ten seconds. */
export const durationBuckets: readonly number[] = [
  0.0005,
  0.001,
  0.0025,
  0.005,
  0.01,
  0.025,
  0.05,
  0.1,
  0.25,
  0.5,
  1,
  2.5,
  5,
  10,
];
