/**
 * How a node did in the last minute, for people who look at it now. Prometheus keeps the same for longer; a console has no
 * Prometheus.
 */

/** Milliseconds. */
const stepMs = 5000;
/** The complete ones, and the current one. */
const steps = 60_000 / stepMs + 1;
/** From one bucket of latencies to the next. Up to 10 ms each millisecond has one of its own. */
const ratio = 1.1;
/** The last one holds everything above two minutes. */
const buckets = 125;

export const happenings = ["refused", "errors", "cutOff", "missed"] as const;
export type Happening = (typeof happenings)[number];

interface Step {
  at: number;
  readonly latencies: Uint32Array;
  readonly counts: Record<Happening, number>;
}

export interface Minute {
  /** Milliseconds; what is above 10 is up to a tenth lower than it was. Null: no message came. */
  readonly delivery: { readonly p50: number; readonly p99: number } | null;
  readonly counts: Readonly<Record<Happening, number>>;
  /** Over which all this is counted: a minute, or less after a start. */
  readonly seconds: number;
}

export class LastMinute {
  readonly #now: () => number;
  readonly #startedAt: number;
  readonly #steps: Step[] = Array.from({ length: steps }, () => ({
    at: -1,
    latencies: new Uint32Array(buckets),
    counts: nothing(),
  }));

  /** @param now milliseconds that only grow */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#startedAt = now();
  }

  add(what: Happening, count = 1): void {
    this.#step().counts[what] += count;
  }

  delivered(ms: number): void {
    const { latencies } = this.#step();
    const at = bucketOf(ms);
    latencies[at] = (latencies[at] ?? 0) + 1;
  }

  read(): Minute {
    const now = this.#now();
    const first = Math.floor(now / stepMs) - steps + 1;
    const latencies = new Uint32Array(buckets);
    const counts = nothing();
    for (const step of this.#steps) {
      if (step.at < first) continue;
      step.latencies.forEach((count, i) => latencies[i] = (latencies[i] ?? 0) + count);
      for (const what of happenings) counts[what] += step.counts[what];
    }
    const since = Math.max(this.#startedAt, first * stepMs);
    const [p50, p99] = [percentile(latencies, 0.5), percentile(latencies, 0.99)];
    return {
      delivery: p50 === undefined || p99 === undefined ? null : { p50, p99 },
      counts,
      seconds: Math.max(1, (now - since) / 1000),
    };
  }

  #step(): Step {
    const at = Math.floor(this.#now() / stepMs);
    const step = this.#steps[at % steps] as Step;
    if (step.at !== at) {
      step.at = at;
      step.latencies.fill(0);
      Object.assign(step.counts, nothing());
    }
    return step;
  }
}

function nothing(): Record<Happening, number> {
  return { refused: 0, errors: 0, cutOff: 0, missed: 0 };
}

function bucketOf(ms: number): number {
  if (ms < 1) return 0;
  return Math.min(buckets - 1, 1 + Math.floor(Math.log(ms) / Math.log(ratio)));
}

/** The least whole millisecond of the bucket in which it is. */
function percentile(latencies: Uint32Array, share: number): number | undefined {
  const all = latencies.reduce((sum, count) => sum + count, 0);
  if (all === 0) return undefined;
  let left = Math.ceil(all * share);
  const at = latencies.findIndex((count) => (left -= count) <= 0);
  return at === 0 ? 0 : Math.ceil(ratio ** (at - 1));
}
