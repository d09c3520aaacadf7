/** Where a client is in the messages of one target: gives each once, in order, and names what is missing. Knows no connection. */
import type { Missed, Position } from "./types.ts";

/** Epochs that are over and may still come by on an older connection. */
const epochsRemembered = 8;

export interface TrackOptions<M> {
  readonly deliver: (message: M) => void;
  readonly missed: (missed: Missed) => void;
  /** Messages that may wait while earlier ones are asked for again. */
  readonly heldAtMost: number;
}

/**
 * It takes what several connections bring, each in the order of its own: while one connection replaces another both bring the
 * same. Each of them begins at or before the position that the track has when the connection asks for the target.
 */
export class Track<M extends Position> {
  readonly #options: TrackOptions<M>;
  readonly #over: string[] = [];
  #at: Position | undefined;
  /** What came behind a gap that is being asked for again. */
  #held: M[] | undefined;
  /** Where the epoch before ended for this client, when a new one began since the target was asked for. */
  #left: Position | undefined;

  constructor(options: TrackOptions<M>, at: Position | undefined) {
    this.#options = options;
    this.#at = at;
  }

  /** Of the newest message that was given. */
  get at(): Position | undefined {
    return this.#at;
  }

  /** The target is being asked for on a new connection: everything behind `at` is sent again. */
  join(): Position | undefined {
    this.#left = undefined;
    return this.#at;
  }

  message(message: M): void {
    const { epoch, seq } = message;
    this.#at ??= { epoch, seq: seq - 1 };
    if (!this.#enter(epoch) || seq <= this.#at.seq) return;
    if (!this.#held || seq === this.#at.seq + 1) return this.#give(message);
    if (this.#held.push(message) > this.#options.heldAtMost) this.#release();
  }

  /**
   * A connection says that these will not come by themselves.
   * @returns whether to ask for the target again, from `at` on, on the same connection
   */
  missed(epoch: string, from: number, to: number): boolean {
    this.#at ??= { epoch, seq: from - 1 };
    if (!this.#enter(epoch) || to <= this.#at.seq || this.#held) return false;
    this.#held = [];
    return true;
  }

  /**
   * A connection has sent everything up to `position`, as far as it is kept.
   * @param recovered nothing between what was asked for and there is missing
   */
  joined({ epoch, seq }: Position, recovered: boolean): void {
    this.#release();
    this.#at ??= { epoch, seq };
    if (this.#enter(epoch)) this.#skipTo(seq);
    const left = this.#left;
    this.#left = undefined;
    if (!left || recovered) return;
    this.#options.missed({ epoch: left.epoch, from: left.seq + 1, to: undefined });
  }

  /** The connection is gone: what waits behind a gap is sent again by the next one. */
  off(): void {
    this.#held = undefined;
  }

  /** @returns false for an epoch that is over. */
  #enter(epoch: string): boolean {
    const before = this.#at;
    if (!before || epoch === before.epoch) return true;
    if (this.#over.includes(epoch)) return false;
    this.#release();
    if (this.#over.push(before.epoch) > epochsRemembered) this.#over.shift();
    this.#left ??= this.#at;
    this.#at = { epoch, seq: 0 };
    return true;
  }

  #give(message: M): void {
    const { epoch, seq } = message;
    this.#skipTo(seq - 1);
    this.#at = { epoch, seq };
    this.#options.deliver(message);
  }

  /** Everything that waits, whatever is missing between. */
  #release(): void {
    const held = this.#held;
    this.#held = undefined;
    for (const message of held?.sort((a, b) => a.seq - b.seq) ?? []) {
      if (message.seq > (this.#at?.seq ?? 0)) this.#give(message);
    }
  }

  #skipTo(seq: number): void {
    const at = this.#at;
    if (!at || seq <= at.seq) return;
    this.#at = { epoch: at.epoch, seq };
    this.#options.missed({ epoch: at.epoch, from: at.seq + 1, to: seq });
  }
}
