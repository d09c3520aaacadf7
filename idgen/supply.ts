/**
 * The ids of one node, with the registry and without it.
 *
 * - Order `unique`: an {@linkcode Issuer} with proof `ceiling`. It continues without the registry for as long as it has
 *   reserved.
 * - Order `strict`: an issuer with proof `lease`. Without the registry no lease can be confirmed, so it stops.
 * - Order `strict`, `withoutRegistry: "unique"`: both. The second issuer has a worker of its own and is used only while
 *   the first one cannot issue because the registry is away. Its ids are unique, but not ordered between nodes.
 */
import { Issuer, type IssuerOptions } from "./issuer.ts";

export interface SupplyState {
  /** The worker of the ids. Undefined: this node issues none. */
  readonly worker: number | undefined;
  /** The ids come from what was reserved before the registry went away. */
  readonly withoutRegistry: boolean;
}

type Shared = "registry" | "holder" | "ceilingMs" | "marginMs" | "retryMs" | "time" | "log";

export interface SupplyOptions extends Pick<IssuerOptions, Shared> {
  readonly order: "strict" | "unique";
  /** For order `strict`. */
  readonly withoutRegistry: "refuse" | "unique";
  /** The workers for unique ids to try, in this order, whenever a lease is needed. */
  readonly workers: () => Iterable<number>;
  /** How many milliseconds of ordered ids to reserve ahead: less than a session of the registry. */
  readonly orderedMs: number;
  /** The registry is there and lists another node that issues ids. */
  readonly isReplaced: () => boolean;
  readonly onChange: (state: SupplyState) => void;
}

/** All nodes share it in order `strict`. */
export const orderedWorker = 0;

/** How late it is shown that the registry is away. */
const observeMs = 1000;

export class Supply implements AsyncDisposable {
  readonly #options: SupplyOptions;
  readonly #ordered: Issuer | undefined;
  readonly #free: Issuer | undefined;
  readonly #closing = new AbortController();
  readonly #observing: Promise<void>;
  #state: SupplyState = { worker: undefined, withoutRegistry: false };
  /** Order `strict`: the registry went away, and no node is known to issue ordered ids since. */
  #isOrderLost = false;
  /** Order `strict`: this node issued the ordered ids, and is not known to be replaced since. */
  #wasActive = false;

  constructor(options: SupplyOptions) {
    this.#options = options;
    const { order, withoutRegistry, workers, ceilingMs, orderedMs } = options;
    const observe = () => this.#observe();
    if (order === "strict") {
      this.#ordered = new Issuer({
        ...options,
        proof: "lease",
        ceilingMs: Math.min(ceilingMs, orderedMs),
        workers: () => [orderedWorker],
        floorMs: () => (this.#free?.usedMs ?? 0) + 1,
        onChange: (worker) => {
          // Its lease may not be confirmed at this very moment, and the registry may be away before anybody looks again.
          if (worker !== undefined) this.#wasActive = true;
          observe();
        },
      });
    }
    if (order === "unique" || withoutRegistry === "unique") {
      this.#free = new Issuer({
        ...options,
        proof: "ceiling",
        workers,
        // Unique ids keep no order between nodes, so a margin would only push them ahead of the clock.
        marginMs: 0,
        floorMs: () => (this.#ordered?.usedMs ?? 0) + 1,
        onChange: observe,
      });
    }
    this.#observing = this.#observeRegularly();
  }

  get state(): SupplyState {
    return this.#state;
  }

  /** This node has the lease and does not issue yet, see {@linkcode Issuer.isWaiting}. */
  get isWaiting(): boolean {
    return this.#first.isWaiting;
  }

  /** No id of this process is later, Unix milliseconds. */
  get usedMs(): number {
    return Math.max(this.#ordered?.usedMs ?? 0, this.#free?.usedMs ?? 0);
  }

  /** How long this node can issue ids without the registry, milliseconds. */
  get reservedMs(): number {
    return this.#free?.reservedMs ?? 0;
  }

  /** Resolves at the next change: a lease or a reservation was won, lost or not granted. */
  changed(): Promise<void> {
    return this.#first.changed();
  }

  /** See {@linkcode Issuer.next}. In order `strict`, ids without the registry are ascending only in themselves. */
  async next(count: number, isDropped?: () => boolean): Promise<string[]> {
    const [ordered, free] = [this.#ordered, this.#free];
    if (ordered === undefined) return await this.#first.next(count, isDropped);
    try {
      return await ordered.next(count, isDropped);
    } catch (error) {
      this.#observe();
      if (free === undefined || !this.#isOrderLost) throw error;
      return await free.next(count, isDropped);
    }
  }

  get #first(): Issuer {
    return (this.#ordered ?? this.#free) as Issuer;
  }

  async #observeRegularly(): Promise<void> {
    const { time } = this.#options;
    while (!this.#closing.signal.aborted) {
      this.#observe();
      await time.sleep(observeMs, this.#closing.signal);
    }
  }

  #observe(): void {
    const [ordered, free] = [this.#ordered, this.#free];
    // Called by an issuer that is just being made.
    if (ordered === undefined && free === undefined) return;
    const isAway = free?.worker !== undefined && !free.isConfirmed;
    const usable = isAway && free.reservedMs === 0 ? undefined : free?.worker;
    if (ordered === undefined) return this.#show(usable, isAway);
    if (ordered.isConfirmed || this.#options.isReplaced()) {
      this.#isOrderLost = false;
      this.#wasActive = ordered.isConfirmed;
      // Only the active node goes on: clients do not know a standby, and must not find one that is only slow.
    } else if (this.#wasActive) this.#isOrderLost = true;
    if (this.#isOrderLost) this.#show(usable, true);
    // One that has been replaced may not have noticed yet.
    else this.#show(ordered.isConfirmed ? ordered.worker : undefined, false);
  }

  #show(worker: number | undefined, withoutRegistry: boolean): void {
    if (worker === this.#state.worker && withoutRegistry === this.#state.withoutRegistry) return;
    this.#state = { worker, withoutRegistry };
    this.#options.onChange(this.#state);
  }

  /** Stops issuing ids and releases the leases. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all([
      this.#observing,
      this.#ordered?.[Symbol.asyncDispose](),
      this.#free?.[Symbol.asyncDispose](),
    ]);
  }
}
