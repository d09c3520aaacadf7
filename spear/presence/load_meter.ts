/** The rate of a node, averaged over the last seconds. */

const windowS = 10;

export class Meter {
  readonly #now: () => number;
  /** One count for each of the last seconds, and one for the current second. */
  readonly #counts = new Array<number>(windowS + 1).fill(0);
  readonly #startedAt: number;
  #second: number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
    this.#startedAt = now();
    this.#second = Math.floor(now() / 1000);
  }

  add(count: number): void {
    this.#advance();
    const at = this.#second % this.#counts.length;
    this.#counts[at] = (this.#counts[at] ?? 0) + count;
  }

  /** Averaged over the last complete seconds, ten at most; for a younger meter, over its age. */
  get perSecond(): number {
    this.#advance();
    const at = this.#second % this.#counts.length;
    const total = this.#counts.reduce((sum, count, i) => i === at ? sum : sum + count, 0);
    const ageS = (this.#now() - this.#startedAt) / 1000;
    return Math.round(10 * total / Math.min(windowS, Math.max(1, ageS))) / 10;
  }

  #advance(): void {
    const second = Math.floor(this.#now() / 1000);
    for (let n = Math.max(this.#second + 1, second - windowS); n <= second; n++) {
      this.#counts[n % this.#counts.length] = 0;
    }
    this.#second = second;
  }
}
