/**
 * Prometheus metrics with prom-client. Every program has its own `Registry` and never uses the global one, so that
 * several programs can run in one process. Names begin with `gru_`; durations are in seconds.
 *
 * A metric is defined as a value, beside what measures it: {@linkcode openMetrics} makes it, and the page
 * `shared/docs/metrics.md` is written from the definitions.
 */
import { Counter, Gauge, Histogram, type Registry } from "prom-client";

export { Registry } from "prom-client";

export interface Definition {
  readonly type: "counter" | "gauge" | "histogram";
  /** One line for people, also in the page of all metrics. */
  readonly help: string;
  /** Each label has few values, whatever clients send. */
  readonly labels?: readonly string[];
  /** Of a histogram. Default: {@linkcode durationBuckets}. */
  readonly buckets?: readonly number[];
}

export type Definitions = Readonly<Record<string, Definition>>;

type LabelsOf<D extends Definition> = D extends { readonly labels: readonly (infer L)[] }
  ? L & string
  : never;

export type Opened<D extends Definitions> = {
  readonly [Name in keyof D]: D[Name]["type"] extends "counter" ? Counter<LabelsOf<D[Name]>>
    : D[Name]["type"] extends "gauge" ? Gauge<LabelsOf<D[Name]>>
    : Histogram<LabelsOf<D[Name]>>;
};

/** A value for each set of labels. */
export type Labelled = Iterable<
  readonly [labels: Readonly<Record<string, string | number>>, value: number]
>;

type Value = number | undefined | Labelled;

/** What a metric is set to when it is read; a counter must not go back. Undefined: not known just now, NaN. */
export type Read<D extends Definitions> = {
  readonly [Name in keyof D]?: () => Value | Promise<Value>;
};

/**
 * Makes the metrics, or finds those that the registry has already: two clients of a program share theirs.
 * @param read measured when Prometheus asks, so that counting costs nothing
 */
export function openMetrics<const D extends Definitions>(
  registry: Registry,
  definitions: D,
  read: Read<D> = {},
): Opened<D> {
  const opened = Object.entries(definitions).map(([name, definition]) =>
    [name, registry.getSingleMetric(name) ?? make(registry, name, definition, read[name])] as const
  );
  return Object.fromEntries(opened) as unknown as Opened<D>;
}

function make(
  registry: Registry,
  name: string,
  { type, help, labels = [], buckets = durationBuckets }: Definition,
  read: Read<Definitions>[string],
) {
  const options = { name, help, labelNames: [...labels], registers: [registry] };
  if (type === "histogram") return new Histogram({ ...options, buckets: [...buckets] });
  if (read === undefined) return type === "counter" ? new Counter(options) : new Gauge(options);
  if (type === "gauge") {
    return new Gauge({
      ...options,
      async collect() {
        const value = await read();
        if (value === undefined) this.set(NaN);
        else if (typeof value === "number") this.set(value);
        else {
          this.reset();
          for (const [labels, one] of value) this.set(labels, one);
        }
      },
    });
  }
  return new Counter({
    ...options,
    async collect() {
      const value = await read();
      this.reset();
      if (typeof value === "number") this.inc(value);
      else for (const [labels, one] of value ?? []) this.inc(labels, one);
    },
  });
}

/** From half a millisecond, a call within one machine, to ten seconds. */
export const durationBuckets: readonly number[] = [
  ...[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05],
  ...[0.1, 0.25, 0.5, 1, 2.5, 5, 10],
];
