/** Latencies counted in buckets whose bounds grow by 3 %: fast enough for millions per second, and mergeable. */

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
  merge(entries: readonly (readonly [bucket: number, count: number])[]): void {
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
}
