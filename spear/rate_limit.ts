/** So many a second on average, and as many at once: a bucket that fills with time. */
export class RateLimit {
  readonly #perSecond: number;
  #available: number;
  #filledAt = 0;

  constructor(perSecond: number) {
    this.#perSecond = perSecond;
    this.#available = perSecond;
  }

  /** @param nowMs on a clock that never goes back */
  take(nowMs: number): boolean {
    const filled = this.#available + (nowMs - this.#filledAt) * this.#perSecond / 1000;
    this.#available = Math.min(this.#perSecond, filled);
    this.#filledAt = nowMs;
    if (this.#available < 1) return false;
    this.#available--;
    return true;
  }
}
