/** How far one client has seen one target, and whether it is a member, by what it has been told itself. */
import { type At, type Books, text } from "./sim_books.ts";

type Phase = "out" | "joining" | "in" | "again" | "leaving";

/** A question to join that has not been answered. */
interface Ask {
  readonly number: number;
  readonly since: At | undefined;
  readonly wasIn: boolean;
  /** What has come since it was asked: the answer may bring it once more. */
  readonly got: Set<string>;
  /** How often it was told since then that something is lost. */
  readonly losses: number;
  /** Wrongly, if it is not refused: a member that is refused goes on where it is, without what could not wait for it. */
  readonly wronglyLost: string[];
}

/** History has run away so often from one that is brought up to date: its node may give up the rest, be it kept or not. */
const lossesBeforeGivingUp = 3;

export class Track {
  readonly target: string;
  at: At | undefined;
  phase: Phase = "out";
  /** Virtual milliseconds since it is in or out. */
  since = 0;
  readonly #who: string;
  readonly #books: Books;
  readonly #past = new Set<string>();
  /** Answered in this order, except those that are refused at once because they are too many. */
  #asks: Ask[] = [];
  #count = 0;
  /** Something was passed over while it is brought up to date. */
  #gap = false;

  constructor(who: string, target: string, books: Books) {
    this.#who = who;
    this.target = target;
    this.#books = books;
  }

  get isIn(): boolean {
    return this.phase === "in" || this.phase === "again" || this.phase === "leaving";
  }

  /** @returns the number of what is asked, for its answer */
  join(since: At | undefined): number {
    const wasIn = this.isIn;
    if (this.#asks.length === 0) this.#gap = false;
    const number = ++this.#count;
    this.#asks.push({ number, since, wasIn, got: new Set(), losses: 0, wronglyLost: [] });
    this.phase = wasIn ? "again" : "joining";
    return number;
  }

  refused(number: number, now: number): void {
    const ask = this.#asks.find((one) => one.number === number);
    this.#asks = this.#asks.filter((one) => one !== ask);
    if (this.#asks.length === 0) this.#set(ask?.wasIn ? "in" : "out", now);
  }

  leave(): void {
    this.phase = "leaving";
  }

  /** It has left or was taken out; what it has asked since is still to be answered. */
  left(now: number): void {
    this.#set(this.#asks.length > 0 ? "joining" : "out", now);
    this.#asks = this.#asks.map((ask) => ({ ...ask, wasIn: false }));
  }

  /** Its connection has ended. */
  off(now: number): void {
    this.#asks = [];
    this.left(now);
  }

  joined(number: number, position: At, recovered: boolean, now: number): void {
    const ask = this.#asks.shift();
    const { at } = this;
    const where = `${this.#who}, ${this.target}:`;
    if (ask === undefined) {
      this.#books.fail(`${where} is told that it has joined, and has not asked`);
    } else if (ask.number !== number) {
      this.#books.fail(`${where} is told that it has joined before what it asked first`);
    }
    for (const wrong of ask?.wronglyLost ?? []) this.#books.fail(wrong);
    // It may have seen what the store has lost since it asked.
    const isLost = this.#books.hasLost && at?.epoch === position.epoch && at.seq > position.seq;
    if (recovered) {
      if (this.#gap) this.#books.fail(`${where} recovered, with a gap before ${text(position)}`);
      if (at !== undefined && text(at) !== text(position) && !isLost) {
        this.#books.fail(
          `${where} recovered up to ${text(position)}, but it has come to ${text(at)}`,
        );
      }
    } else if (ask?.since !== undefined) {
      this.#books.unrecovered(this.#who, this.target, ask.since, position);
    } else if (
      ask?.wasIn && at?.epoch === position.epoch && at.seq !== position.seq && !isLost
    ) {
      this.#books.fail(`${where} a member at ${text(at)} joined again at ${text(position)}`);
    }
    this.#gap = false;
    // What is refused behind this leaves it where it is now.
    this.#asks = this.#asks.map((later) => ({ ...later, wasIn: true }));
    this.#set(this.#asks.length > 0 ? "again" : "in", now);
    // Without recovery it goes on from where it is told, unless it knows better.
    if (this.#past.has(position.epoch)) return;
    if (at?.epoch === position.epoch && at.seq > position.seq && ask?.since !== undefined) return;
    this.#skipTo(position);
    this.#move(position);
  }

  message(epoch: string, seq: number, content: string): void {
    const where = `${this.#who}, ${this.target}:`;
    if (this.phase === "out") {
      this.#books.fail(`${where} got ${epoch}:${seq} without being a member`);
    }
    if (this.phase === "joining" && this.#asks[0]?.since === undefined) {
      this.#books.fail(`${where} got ${epoch}:${seq} before it was told that it is a member`);
    }
    this.#books.deliver(this.#who, content, this.target, { epoch, seq });
    if (this.#isRepeat({ epoch, seq })) return;
    for (const { got } of this.#asks) got.add(text({ epoch, seq }));
    this.#follow(epoch, seq, `got ${epoch}:${seq}`);
    this.#move({ epoch, seq });
  }

  missed(epoch: string, from: number, to: number): void {
    if (this.phase === "out") {
      this.#books.fail(
        `${this.#who}, ${this.target}: was told of missing messages without being a member`,
      );
    }
    const [ask] = this.#asks;
    const wrong = (ask?.losses ?? 0) < lossesBeforeGivingUp
      ? this.#books.missed(this.#who, this.target, { epoch, from, to })
      : undefined;
    if (wrong !== undefined && ask?.wasIn) ask.wronglyLost.push(wrong);
    else if (wrong !== undefined) this.#books.fail(wrong);
    this.#asks = this.#asks.map((one) => ({ ...one, losses: one.losses + 1 }));
    let first = from;
    while (first <= to && this.#isRepeat({ epoch, seq: first })) first++;
    if (first > to) return;
    // They do not come by themselves: the answer may bring them, or tell it once more.
    for (let seq = first; seq <= to; seq++) {
      for (const { got } of this.#asks) got.add(text({ epoch, seq }));
    }
    this.#follow(epoch, first, `was told that ${epoch}:${first}-${to} is lost`);
    this.#move({ epoch, seq: to });
  }

  /** It goes on from here without what came before: whoever has asked for that behind this is still brought it. */
  #skipTo({ epoch, seq }: At): void {
    for (const { since, got } of this.#asks) {
      if (since === undefined) continue;
      const first = since.epoch === epoch ? since.seq + 1 : 1;
      for (let skipped = first; skipped <= seq; skipped++) got.add(text({ epoch, seq: skipped }));
    }
  }

  /** Who asks from where it is may get what was under way to it by then once more. */
  #isRepeat(at: At): boolean {
    return this.#asks[0]?.since !== undefined && this.#asks[0].got.has(text(at));
  }

  #follow(epoch: string, seq: number, what: string): void {
    const { at } = this;
    const where = `${this.#who}, ${this.target}: ${what}`;
    if (at === undefined) return;
    if (this.#past.has(epoch)) {
      return this.#books.fail(`${where}, of an epoch that is over (at ${text(at)})`);
    }
    const due = epoch === at.epoch ? at.seq + 1 : 1;
    if (seq < due) this.#books.fail(`${where} again (at ${text(at)})`);
    if (seq <= due) return;
    if (this.phase === "joining" || this.phase === "again") this.#gap = true;
    else this.#books.fail(`${where}, untold of ${epoch}:${due}-${seq - 1}`);
  }

  #move(at: At): void {
    if (this.at !== undefined && this.at.epoch !== at.epoch) this.#past.add(this.at.epoch);
    this.at = { epoch: at.epoch, seq: at.seq };
  }

  #set(phase: Phase, now: number): void {
    const was = this.isIn;
    // Who asked may have been in without hearing of it.
    const mayHaveBeen = this.phase === "joining";
    this.phase = phase;
    if (was !== this.isIn || mayHaveBeen) this.since = now;
  }
}
