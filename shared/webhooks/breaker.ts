/** Stops asking a receiver that fails, and tries again with one request at a time. */

/** Failures in a row after which it rests. */
const failuresInRow = 5;
const [firstRestMs, longestRestMs] = [500, 5000];

export class Breaker {
  readonly #nowMs: () => number;
  #failures = 0;
  #restMs = firstRestMs;
  #restsUntil = -Infinity;
  #isProbing = false;

  /** @param nowMs a clock that never goes back */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  get resting(): boolean {
    return this.#failures >= failuresInRow;
  }

  /** False: do not ask now. True: ask, and then call {@linkcode succeeded} or {@linkcode failed}. */
  admits(): boolean {
    if (!this.resting) return true;
    if (this.#isProbing || this.#nowMs() < this.#restsUntil) return false;
    return this.#isProbing = true;
  }

  succeeded(): void {
    this.#failures = 0;
    this.#restMs = firstRestMs;
    this.#isProbing = false;
  }

  failed(): void {
    const rested = this.#isProbing;
    this.#failures++;
    this.#isProbing = false;
    if (!this.resting) return;
    if (rested) this.#restMs = Math.min(2 * this.#restMs, longestRestMs);
    // Answers to what was asked before the rest say nothing new.
    if (rested || this.#failures === failuresInRow) this.#restsUntil = this.#nowMs() + this.#restMs;
  }
}
