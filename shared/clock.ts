/** The clock of another machine, learned from its answers: of a shared store, or of the registry. */

/** The greatest drift between the clocks of two machines, milliseconds per millisecond. */
const drift = 1e-4;

export class FollowedClock {
  /**
   * The other clock's Unix milliseconds minus `performance.now()` here, the greatest error of that, and when it was
   * measured.
   */
  #measured:
    | { readonly offsetMs: number; readonly errorMs: number; readonly at: number }
    | undefined;

  /**
   * @param time the other clock in the answer, Unix milliseconds
   * @param askedAt when the request was sent, on the clock of `performance.now()`
   */
  learn(time: number, askedAt: number, answeredAt = performance.now()): void {
    const errorMs = (answeredAt - askedAt) / 2;
    const offsetMs = time - (askedAt + answeredAt) / 2;
    const known = this.#measured;
    if (known !== undefined) {
      const knownErrorMs = known.errorMs + (answeredAt - known.at) * drift;
      // A slow answer is less exact than a fast earlier one, unless the other clock was set in the meantime.
      const agrees = Math.abs(offsetMs - known.offsetMs) <= errorMs + knownErrorMs;
      if (agrees && errorMs > knownErrorMs) return;
    }
    this.#measured = { offsetMs, errorMs, at: answeredAt };
  }

  /** Unix milliseconds on the other clock; on this machine's clock until something was learned. */
  now(): number {
    if (this.#measured === undefined) return Date.now();
    return Math.round(performance.now() + this.#measured.offsetMs);
  }

  /** How far this machine's clock is ahead, and the greatest error of that; undefined: not known yet. */
  get ahead(): { readonly ms: number; readonly errorMs: number } | undefined {
    if (this.#measured === undefined) return undefined;
    const { offsetMs, errorMs } = this.#measured;
    return { ms: Date.now() - performance.now() - offsetMs, errorMs };
  }
}
