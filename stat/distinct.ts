/** How many different users and groups the cluster has, counted anew as often as that is cheap. */
import type { DistinctCounts, LiveNodes, StatStore } from "./store.ts";

/** Counting takes at most this part of the time. */
const share = 0.05;
const leastKeptMs = 250;

export class Distinct {
  readonly #store: Pick<StatStore, "distinct">;
  #counting: Promise<DistinctCounts> | undefined;
  #of = "";
  /** On the clock of `performance.now()`. */
  #validUntil = 0;
  #last: DistinctCounts | undefined;

  constructor(store: Pick<StatStore, "distinct">) {
    this.#store = store;
  }

  /** As counted last; undefined: not yet. */
  get last(): DistinctCounts | undefined {
    return this.#last;
  }

  /** A few hundred milliseconds old at most, with a million users some seconds. Rejects as the store does. */
  of(live: LiveNodes): Promise<DistinctCounts> {
    const nodes = [...live].sort().join(" ");
    const isValid = performance.now() < this.#validUntil && nodes === this.#of;
    if (this.#counting === undefined || !isValid) {
      this.#of = nodes;
      this.#validUntil = Infinity;
      this.#counting = this.#count(live);
    }
    return this.#counting;
  }

  async #count(live: LiveNodes): Promise<DistinctCounts> {
    const startedAt = performance.now();
    try {
      const [users, groups] = await Promise.all([
        this.#store.distinct("users", live),
        this.#store.distinct("groups", live),
      ]);
      const tookMs = performance.now() - startedAt;
      this.#validUntil = performance.now() + Math.max(leastKeptMs, tookMs / share);
      return this.#last = { users, groups };
    } catch (error) {
      this.#validUntil = 0;
      throw error;
    }
  }
}
