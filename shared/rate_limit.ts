/** So many a second on average, and so many at once: a bucket that fills with time, kept as one number (GCRA). */

export interface RateLimitOptions {
  readonly perSecond: number;
  /** As many at once. */
  readonly burst: number;
}

export class RateLimit {
  readonly #options: RateLimitOptions;
  /** When the bucket will be full again. */
  #fullAtMs = -Infinity;

  constructor(options: RateLimitOptions) {
    this.#options = options;
  }

  /**
   * 0: taken. Else nothing was taken, and it is worth trying again after so many milliseconds.
   * @param nowMs on a clock that never goes back
   */
  take(nowMs: number): number {
    const { perSecond, burst } = this.#options;
    const stepMs = 1000 / perSecond;
    const fullAtMs = Math.max(this.#fullAtMs, nowMs) + stepMs;
    const waitMs = fullAtMs - nowMs - burst * stepMs;
    if (waitMs > 1e-6) return waitMs;
    this.#fullAtMs = fullAtMs;
    return 0;
  }
}

/** A limit for each key. */
export class KeyedRateLimit {
  readonly #options: RateLimitOptions & { readonly maxKeys: number };
  /** In the order of their last use. */
  readonly #limits = new Map<string, RateLimit>();

  /** @param options more keys than `maxKeys` are not remembered: the oldest goes */
  constructor(options: RateLimitOptions & { readonly maxKeys: number }) {
    this.#options = options;
  }

  /** As {@linkcode RateLimit.take}. */
  take(key: string, nowMs: number): number {
    const limit = this.#limits.get(key) ?? new RateLimit(this.#options);
    const waitMs = limit.take(nowMs);
    if (waitMs > 0) return waitMs;
    this.#limits.delete(key);
    this.#limits.set(key, limit);
    if (this.#limits.size > this.#options.maxKeys) {
      const [oldest] = this.#limits.keys();
      if (oldest !== undefined) this.#limits.delete(oldest);
    }
    return 0;
  }
}
