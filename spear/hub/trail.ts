/** Where messages went: which ones this node accepted or received lately, for people who look for a message. */
import type { Position, Target } from "../wire.ts";

interface Found extends Position {
  readonly target: Target;
  /** Unix milliseconds. */
  readonly at: number;
}

export interface AcceptedHere extends Found {
  readonly id: string;
  /** A user id, or "0" for the system. */
  readonly fromId: string;
}

export interface ReceivedHere {
  /** When it was given to the members, Unix milliseconds. */
  readonly at: number;
  /** The members that it was given to, one for each connection. */
  readonly connections: number;
}

export interface MissedHere {
  readonly at: number;
  readonly userId: string;
}

interface Span {
  readonly target: Target;
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
}

/** The newest `size` entries. */
class Newest<T> {
  readonly #entries: T[] = [];
  readonly #size: number;
  #count = 0;

  constructor(size: number) {
    this.#size = size;
  }

  add(entry: T): void {
    this.#entries[this.#count++ % this.#size] = entry;
  }

  /** The newest first. */
  *[Symbol.iterator](): Generator<T> {
    for (let n = this.#count - 1; n >= 0 && n >= this.#count - this.#size; n--) {
      yield this.#entries[n % this.#size] as T;
    }
  }
}

export interface TrailOptions {
  /** Messages that are remembered of each kind: accepted, received, missed. */
  readonly size: number;
  /** Unix milliseconds that people see. */
  readonly now: () => number;
}

export class Trail {
  readonly #size: number;
  readonly #now: () => number;
  readonly #accepted: Newest<AcceptedHere>;
  readonly #missed: Newest<Span & MissedHere>;
  // One array for each field: an object for each message would be a third more memory and work for the collector.
  readonly #targets: Target[] = [];
  readonly #epochs: string[] = [];
  readonly #seqs: number[] = [];
  readonly #times: number[] = [];
  readonly #connections: number[] = [];
  #received = 0;

  constructor({ size, now }: TrailOptions) {
    this.#size = size;
    this.#now = now;
    this.#accepted = new Newest(size);
    this.#missed = new Newest(size);
  }

  accepted(entry: Omit<AcceptedHere, "at">): void {
    if (this.#size > 0) this.#accepted.add({ ...entry, at: this.#now() });
  }

  received(target: Target, epoch: string, seq: number, connections: number): void {
    if (this.#size === 0) return;
    const at = this.#received++ % this.#size;
    this.#targets[at] = target;
    this.#epochs[at] = epoch;
    this.#seqs[at] = seq;
    this.#times[at] = this.#now();
    this.#connections[at] = connections;
  }

  /** A client of this user was told that it does not get these. */
  missed(span: Span, userId: string): void {
    if (this.#size > 0) this.#missed.add({ ...span, userId, at: this.#now() });
  }

  acceptedWith(id: string): AcceptedHere | undefined {
    for (const entry of this.#accepted) if (entry.id === id) return entry;
    return undefined;
  }

  receivedAt(target: Target, { epoch, seq }: Position): ReceivedHere | undefined {
    for (let n = this.#received - 1; n >= 0 && n >= this.#received - this.#size; n--) {
      const i = n % this.#size;
      if (this.#seqs[i] === seq && this.#targets[i] === target && this.#epochs[i] === epoch) {
        return { at: this.#times[i] ?? 0, connections: this.#connections[i] ?? 0 };
      }
    }
    return undefined;
  }

  /** Each user once, the last one first. */
  missedAt(target: Target, { epoch, seq }: Position, limit: number): MissedHere[] {
    const found = new Map<string, MissedHere>();
    for (const { at, userId, ...span } of this.#missed) {
      if (found.size >= limit) break;
      if (span.target !== target || span.epoch !== epoch || found.has(userId)) continue;
      if (span.from <= seq && seq <= span.to) found.set(userId, { at, userId });
    }
    return [...found.values()];
  }
}
