/** Remembers which signed messages have come, for a receiver in one process. Runs wherever JavaScript runs. */

export class Replays {
  /** Until when each id is remembered, Unix seconds; the oldest first. */
  readonly #until = new Map<string, number>();
  readonly #toleranceS: number;
  readonly #most: number;

  /**
   * @param toleranceS as for `verifyWebhook`, which refuses what is older than is remembered here
   * @param most ids remembered; the oldest are forgotten first. Beyond it, a copy of a very recent message gets through.
   */
  constructor({ toleranceS = 300, most = 1_000_000 } = {}) {
    this.#toleranceS = toleranceS;
    this.#most = most;
  }

  /** False: a message with this id has come before. */
  isFirst(id: string, nowS: number): boolean {
    for (const [old, until] of this.#until) {
      if (until >= nowS && this.#until.size < this.#most) break;
      this.#until.delete(old);
    }
    if (this.#until.has(id)) return false;
    this.#until.set(id, nowS + 2 * this.#toleranceS);
    return true;
  }
}
