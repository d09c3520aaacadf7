/** Latencies counted in buckets whose bounds grow by 3 %: fast enough for millions per second, and mergeable. */

/** Milliseconds. */
export interface Percentiles {
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly maxMs: number;
}

export type LatencyEntries = readonly (readonly [bucket: number, count: number])[];

const bucketsPerE = 32;

export class LatencyCounts {
  readonly #counts = new Float64Array(1024);

  /** @param us microseconds; less than 1 counts as 1 */
  add(us: number): void {
    const bucket = Math.floor(Math.log(Math.max(us, 1)) * bucketsPerE);
    const at = Math.min(bucket, this.#counts.length - 1);
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
  }

  /** Adds the {@linkcode entries} of another. */
  merge(entries: LatencyEntries): void {
    for (const [bucket, count] of entries) {
      this.#counts[bucket] = (this.#counts[bucket] ?? 0) + count;
    }
  }

  entries(): [bucket: number, count: number][] {
    return [...this.#counts.entries()].filter(([, count]) => count > 0);
  }

  /** The milliseconds below which this share (0 to 1) of the latencies is; NaN if there are none. */
  quantileMs(share: number): number {
    let left = this.#counts.reduce((sum, count) => sum + count, 0) * share;
    for (const [bucket, count] of this.#counts.entries()) {
      left -= count;
      if (count > 0 && left <= 0) return Math.exp((bucket + 1) / bucketsPerE) / 1000;
    }
    return NaN;
  }

  get percentiles(): Percentiles {
    return {
      p50Ms: this.quantileMs(0.5),
      p90Ms: this.quantileMs(0.9),
      p99Ms: this.quantileMs(0.99),
      p999Ms: this.quantileMs(0.999),
      maxMs: this.quantileMs(1),
    };
  }
}

/** The counts of several processes as one. */
export function merged(all: Iterable<LatencyEntries>): LatencyCounts {
  const counts = new LatencyCounts();
  for (const entries of all) counts.merge(entries);
  return counts;
}
