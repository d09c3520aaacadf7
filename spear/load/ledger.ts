/** Counts what becomes of messages: of what was accepted, and of what each member of a group was given. */
import type { Message, Missed, Position } from "@gru/client";

/** What the guarantees exclude. */
export interface Faults {
  /** Accepted messages that a member should have and has not, whether it was told or not: over all members. */
  readonly lost: number;
  /** The same message to the same member twice. */
  readonly doubled: number;
  /** Messages that came after a later one. */
  readonly inverted: number;
  /** Gaps in seq of which the member was not told. */
  readonly untold: number;
  /** For good: the library tries again what may succeed later. */
  readonly refused: number;
}

export const noFaults: Faults = { lost: 0, doubled: 0, inverted: 0, untold: 0, refused: 0 };

/** The faults alone. */
export function faultsOf({ lost, doubled, inverted, untold, refused }: Faults): Faults {
  return { lost, doubled, inverted, untold, refused };
}

export interface Counts extends Faults {
  readonly sent: number;
  readonly accepted: number;
  readonly delivered: number;
  /** Gaps of which the member was told. What was accepted there is lost all the same. */
  readonly missed: number;
  /** Connections that followed on another one, by a move also. */
  readonly reconnects: number;
  /** The longest that any member heard nothing of its group. */
  readonly silenceMs: number;
}

/** What all members together have seen. */
export class Ledger {
  sent = 0;
  accepted = 0;
  refused = 0;
  delivered = 0;
  doubled = 0;
  inverted = 0;
  untold = 0;
  missed = 0;
  reconnects = 0;
  silenceMs = 0;
  /** Per group and epoch, the seq of each accepted message by its content. */
  readonly #places = new Map<string, Map<string, number>>();

  accept(group: number, content: string, { epoch, seq }: Position): void {
    this.accepted++;
    this.#places.getOrInsertComputed(`${group} ${epoch}`, () => new Map()).set(content, seq);
  }

  lostTo(members: Iterable<Member>): number {
    let lost = 0;
    for (const { group, firstSeq, seen } of members) {
      for (const [epoch, from] of firstSeq) {
        for (const [content, seq] of this.#places.get(`${group} ${epoch}`) ?? []) {
          if (seq > from && !seen.has(content)) lost++;
        }
      }
    }
    return lost;
  }

  counts(members: Iterable<Member>): Counts {
    return { ...this, silenceMs: Math.round(this.silenceMs), lost: this.lostTo(members) };
  }
}

/** What one member of a group is given. All messages of a run differ in their content. */
export class Member {
  readonly group: number;
  /** Per epoch, the seq of the last message before those that it must be given. */
  readonly firstSeq = new Map<string, number>();
  /** The seq of what came, by content. */
  readonly seen = new Map<string, number>();
  readonly #ledgerOfNow: () => Ledger;
  #epoch: string | undefined;
  #seq = 0;
  #heardAt = performance.now();

  /** @param ledger where it counts now */
  constructor(group: number, ledger: () => Ledger) {
    this.group = group;
    this.#ledgerOfNow = ledger;
  }

  get ledger(): Ledger {
    return this.#ledgerOfNow();
  }

  /** Of the last message that came or was told to be missed; undefined before it is in. */
  get position(): Position | undefined {
    return this.#epoch === undefined ? undefined : { epoch: this.#epoch, seq: this.#seq };
  }

  /** It is in; what comes after this position concerns it. */
  enter({ epoch, seq }: Position): void {
    if (this.#epoch === undefined) this.#enterEpoch(epoch, seq);
  }

  message({ seq, epoch, content }: Pick<Message, "seq" | "epoch" | "content">): void {
    const { ledger } = this;
    const now = performance.now();
    ledger.silenceMs = Math.max(ledger.silenceMs, now - this.#heardAt);
    this.#heardAt = now;
    this.enter({ epoch, seq: seq - 1 });
    if (epoch !== this.#epoch) this.#enterEpoch(epoch, 0);
    if (seq <= this.#seq) {
      if (this.seen.get(content) === seq) ledger.doubled++;
      else ledger.inverted++;
      return;
    }
    if (seq > this.#seq + 1) ledger.untold++;
    this.#seq = seq;
    if (this.seen.has(content)) ledger.doubled++;
    this.seen.set(content, seq);
    ledger.delivered++;
  }

  missed({ epoch, to }: Missed): void {
    this.ledger.missed++;
    // Where the epoch has ended, the next one begins at its start.
    if (to === undefined) return;
    if (epoch !== this.#epoch) this.#enterEpoch(epoch, 0);
    this.#seq = Math.max(this.#seq, to);
  }

  /** What came until now is looked for no more: a long run cannot remember all of it. */
  forget(): void {
    this.seen.clear();
  }

  /** Time was quiet until now by intent: silence counts from here. */
  resetSilence(): void {
    this.#heardAt = performance.now();
  }

  #enterEpoch(epoch: string, seq: number): void {
    this.#epoch = epoch;
    this.#seq = seq;
    // One that has been in it before must have seen what came since.
    if (!this.firstSeq.has(epoch)) this.firstSeq.set(epoch, seq);
  }
}
