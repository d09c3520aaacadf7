/** An average rate per second with a burst: a token bucket, stored as one number (GCRA). */

export interface RateLimitOptions {
  readonly perSecond: number;
  /** The most that may be taken at once. */
  readonly burst: number;
}

/**
 * The arithmetic of a bucket. Its only state is the time when it will be full again, which the caller stores: one
 * number for each of very many buckets. All times are milliseconds on a clock that never goes back; -Infinity or 0 is a
 * full bucket.
 */
export class Bucket {
  readonly #stepMs: number;
  readonly #burst: number;

  constructor({ perSecond, burst }: RateLimitOptions) {
    this.#stepMs = 1000 / perSecond;
    this.#burst = burst;
  }

  /** 0: `cost` can be taken, or the bucket is full. Otherwise the milliseconds until the next attempt makes sense. */
  waitMs(fullAtMs: number, nowMs: number, cost: number): number {
    const needed = Math.min(cost, this.#burst);
    const waitMs = Math.max(fullAtMs, nowMs) - nowMs - (this.#burst - needed) * this.#stepMs;
    return waitMs > 1e-6 ? waitMs : 0;
  }

  /** When the bucket will be full again after `cost` was taken. `cost` may exceed the content: the rest is owed. */
  after(fullAtMs: number, nowMs: number, cost: number): number {
    return Math.max(fullAtMs, nowMs) + cost * this.#stepMs;
  }

  /** How empty the bucket is: 0 is full, 1 is empty, above 1 something is owed. */
  used(fullAtMs: number, nowMs: number): number {
    return Math.max(0, fullAtMs - nowMs) / (this.#burst * this.#stepMs);
  }
}

export class RateLimit {
  readonly #bucket: Bucket;
  #fullAtMs = -Infinity;

  constructor(options: RateLimitOptions) {
    this.#bucket = new Bucket(options);
  }

  /**
   * 0: taken. Otherwise nothing was taken, and the result is the milliseconds until the next attempt makes sense.
   * @param nowMs on a clock that never goes back
   */
  take(nowMs: number): number {
    const waitMs = this.waitMs(nowMs);
    if (waitMs === 0) this.#fullAtMs = this.#bucket.after(this.#fullAtMs, nowMs, 1);
    return waitMs;
  }

  /** What {@linkcode take} would return; takes nothing. */
  waitMs(nowMs: number): number {
    return this.#bucket.waitMs(this.#fullAtMs, nowMs, 1);
  }
}

/** A separate limit for each key. */
export class KeyedRateLimit {
  readonly #options: RateLimitOptions & { readonly maxKeys: number };
  /** In the order of their last use. */
  readonly #limits = new Map<string, RateLimit>();

  /** @param options `maxKeys`: of more keys, the least recently used ones are forgotten */
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

  /** What {@linkcode take} would return; takes nothing. */
  waitMs(key: string, nowMs: number): number {
    return this.#limits.get(key)?.waitMs(nowMs) ?? 0;
  }
}
