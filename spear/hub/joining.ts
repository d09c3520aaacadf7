/**
 * A member on its way into a target: it is sent what it has missed, page by page, before it is live. What comes meanwhile
 * waits, up to a number of bytes; beyond it is let go and read from history when its turn comes.
 */
import { NotAcceptedError, pageBytes } from "../broker/broker.ts";
import type { FramePage } from "./history_read.ts";
import type { Frame } from "../packets.ts";
import type { Position, Target } from "../wire.ts";

/** What the hub knows of its members. */
export interface Member {
  send(frame: Frame): void;
  /** Messages `from` to `to` of this epoch are lost to this member for good. */
  missed(target: Target, epoch: string, from: number, to: number): void;
}

/** Bytes of messages that may wait for joins to become live; joins of one client share it. */
export interface WaitingRoom {
  left: number;
}

/**
 * The time between asking for a target and being live in it. `missed` is the first page. Send it, and while not
 * `caughtUp` call `next` and send the next one; then send the result and `activate`, all in one turn.
 */
export interface Join {
  /** What the member has not seen, in order: the present page. */
  readonly missed: readonly Frame[];
  /** Bytes of the present page, in UTF-16 units. */
  readonly bytesRead: number;
  /** Nothing is missing after `missed`. It may be undone while others are waited for: too much has come meanwhile. */
  readonly caughtUp: boolean;
  /** The last page ends here; when caught up, live messages follow from here. */
  readonly position: Position;
  /** Nothing between what the member named as seen and `position` is lost. */
  readonly recovered: boolean;
  /** The member has left meanwhile: nothing is to be done any more. */
  readonly left: boolean;
  /**
   * Reads the next page. `missed` must have been sent, here as before `activate` and `cancel`.
   * @throws {NotAcceptedError} history is out of reach, or begins one epoch after the other.
   */
  next(bytes?: number): Promise<void>;
  /** From here on it counts as a member, and only messages pass it over. */
  enter(): void;
  /** Sends what came meanwhile and makes the member live. Nothing happens when it has left. */
  activate(): void;
  /** Instead of `activate`: one that was a member goes on as such, and is told what it cannot be given any more. */
  cancel(): void;
}

/** The target's side. */
export interface JoinScene<M> {
  readonly target: Target;
  readonly position: () => Position;
  /** What is kept after a position, with all that had come by now. */
  readonly read: (after: Position, bytes: number) => Promise<FramePage>;
  /** Brings this node to where the target is now. Rejects when history cannot be read. */
  readonly catchUp: () => Promise<void>;
  /** It is not joining any more. A member that is given is live now. */
  readonly end: (member: M | undefined) => void;
}

interface Loss {
  readonly epoch: string;
  readonly from: number;
  readonly to: number;
}

/** A member that history has run away from so often is made live without the rest. */
const gapsAtMost = 3;
const attempts = 4;

export class Joining<M extends Member> implements Join {
  readonly member: M;
  readonly #scene: JoinScene<M>;
  readonly #room: WaitingRoom;
  /** Where it was when it was live before, if it was. */
  readonly #liveAt: Position | undefined;
  missed: readonly Frame[] = [];
  bytesRead = 0;
  recovered = false;
  #position: Position = { epoch: "", seq: 0 };
  /** What the member has seen of this epoch is not known: it is left out. */
  #skipped: string | undefined;
  /** The member has what comes before `#position`: what is lost behind it can be named. */
  #follows = false;
  #gaps = 0;
  #reached = false;
  /** What has come since `#heldFrom`; undefined: not all of it. */
  #held: (Frame | Loss)[] | undefined;
  #heldFrom: Position = { epoch: "", seq: 0 };
  #heldLength = 0;
  #isMember: boolean;
  /** It asked for nothing of before, and is not told yet where it begins: it may as well begin later. */
  #beginsAnywhere = false;
  #over = false;

  /** @param liveAt of one that is a member already */
  constructor(
    member: M,
    scene: JoinScene<M>,
    room: WaitingRoom,
    liveAt: Position | undefined,
  ) {
    this.member = member;
    this.#scene = scene;
    this.#room = room;
    this.#liveAt = liveAt;
    this.#isMember = liveAt !== undefined;
    // So that it can go on as if nothing had been.
    if (liveAt !== undefined) this.#hold(liveAt);
  }

  get position(): Position {
    return this.#position;
  }

  get caughtUp(): boolean {
    return this.#reached && this.#held !== undefined;
  }

  get left(): boolean {
    return this.#over;
  }

  /** It counts as a member. */
  get isMember(): boolean {
    return this.#isMember && !this.#over;
  }

  /**
   * After a position that the member names, or with the newest messages of the present epoch: these are to be read. Or
   * else from where the target is now.
   */
  begin(from: Position | { readonly last: number } | undefined): void {
    const now = this.#scene.position();
    if (from === undefined) {
      this.#arriveAt(now);
      // One that was a member has waited since the joining began.
      if (this.#liveAt === undefined) {
        this.#hold(now);
        this.#beginsAnywhere = true;
      }
    } else if ("last" in from) {
      this.#position = { ...now, seq: Math.max(0, now.seq - from.last) };
    } else {
      this.#position = from;
      this.recovered = true;
    }
  }

  async next(bytes = pageBytes): Promise<void> {
    this.missed = [];
    this.bytesRead = 0;
    this.#reached = false;
    let askedWhetherAhead = false;
    for (let attempt = 1; !this.#over; attempt++) {
      const start = this.#scene.position();
      const after = this.#position;
      if (this.#liveAt === undefined || this.#held === undefined) this.#hold(start);
      if (this.#beginsAnywhere) return this.#arriveAt(start);
      if (after.epoch === start.epoch && after.seq >= start.seq) {
        if (after.seq > start.seq && !askedWhetherAhead) {
          // It comes from a node that was faster than this one, or says so.
          askedWhetherAhead = true;
          await this.#scene.catchUp();
          continue;
        }
        this.recovered &&= after.seq === start.seq;
        return this.#arriveAt(start);
      }
      if (this.#gaps >= gapsAtMost) return this.#giveUp(start);
      const page = await this.#scene.read(after, bytes);
      if (this.#over) return;
      const { head, next } = page;
      const isLast = attempt >= attempts;
      if (head.epoch !== start.epoch) {
        if (isLast) throw new NotAcceptedError(`${this.#scene.target} changes its epoch`);
        // Where this node is behind, it gets there first: else what the member has seen would be sent to it again.
        if (head.epoch !== this.#scene.position().epoch) await this.#scene.catchUp();
        continue;
      }
      // The store knows less than has come from it: it may be another one that is behind.
      if (next === undefined && head.seq < start.seq && !isLast) continue;
      return this.#take(page, start);
    }
  }

  enter(): void {
    this.#isMember = true;
  }

  activate(): void {
    if (this.#over) return;
    this.#end(this.#position);
  }

  cancel(): void {
    if (this.#over) return;
    if (this.#liveAt === undefined) return this.leave();
    this.#end(this.#follows ? this.#later(this.#liveAt, this.#position) : this.#liveAt);
  }

  /** The member has gone. */
  leave(): void {
    if (this.#over) return;
    this.#over = true;
    this.#release();
    this.#scene.end(undefined);
  }

  /** A message that live members get now. */
  live(frame: Frame): void {
    if (this.#held === undefined) return;
    const { length } = frame.text;
    if (length > this.#room.left) return this.#release();
    this.#room.left -= length;
    this.#heldLength += length;
    this.#held.push(frame);
  }

  /** Live members are told of a loss now. */
  lost(epoch: string, from: number, to: number): void {
    this.#held?.push({ epoch, from, to });
  }

  #take({ next, complete, head, frames }: FramePage, start: Position): void {
    const after = this.#position;
    const reached = next === undefined ||
      (next.epoch === start.epoch && next.seq >= start.seq);
    // It comes from an epoch that history does not know, as one whose beginning the store has lost: it may have had all of
    // the epoch before that.
    // Also where all of a page is too old to be sent.
    const foreign = [...frames, ...(next === undefined ? [] : [next])]
      .find(({ epoch }) => epoch !== start.epoch && epoch !== after.epoch);
    if (foreign !== undefined) this.#skipped = foreign.epoch;
    this.missed = frames.filter(({ epoch, seq }) =>
      epoch !== this.#skipped && (epoch !== start.epoch || seq <= start.seq) &&
      (epoch !== after.epoch || seq > after.seq)
    );
    for (const { text } of this.missed) this.bytesRead += text.length;
    const isWhole = complete && (next !== undefined || head.seq >= start.seq);
    this.recovered &&= isWhole;
    const end = reached ? start : next ?? start;
    if (!isWhole && this.#follows) {
      // A page of the epoch before is never called whole.
      if (after.epoch === start.epoch) this.#gaps++;
      const first = this.missed[0];
      const isSame = after.epoch === end.epoch && after.epoch !== this.#skipped &&
        (first === undefined || first.epoch === after.epoch);
      if (isSame) this.#tell(after.epoch, after.seq + 1, (first?.seq ?? end.seq + 1) - 1);
    }
    if (reached) return this.#arriveAt(start);
    // What came meanwhile is in the pages that follow. One that was a member may have to go on without them.
    if (this.#liveAt === undefined) this.#release();
    this.#position = end;
    this.#follows = true;
  }

  #giveUp(start: Position): void {
    this.recovered = false;
    const { epoch, seq } = this.#position;
    this.#tell(start.epoch, epoch === start.epoch ? seq + 1 : 1, start.seq);
    this.#arriveAt(start);
  }

  #arriveAt(position: Position): void {
    this.#position = position;
    this.#follows = true;
    this.#reached = true;
  }

  /** Live after what it has been given. */
  #end(given: Position): void {
    const { member } = this;
    const { epoch, seq } = this.#scene.position();
    const held = this.#heldAfter(given);
    this.#over = true;
    if (held === undefined) {
      this.#tell(epoch, given.epoch === epoch ? given.seq + 1 : 1, seq);
    } else {
      for (const item of held) {
        if ("seq" in item) member.send(item);
        else this.#tell(item.epoch, item.from, item.to);
      }
    }
    this.#release();
    this.#scene.end(member);
  }

  /** Undefined when something between the two is missing. */
  #heldAfter({ epoch, seq }: Position): (Frame | Loss)[] | undefined {
    const held = this.#held;
    const from = this.#heldFrom;
    if (held === undefined || (epoch === from.epoch && seq < from.seq)) return undefined;
    const last = held.findLastIndex((item) =>
      item.epoch === epoch && ("seq" in item ? item.seq : item.to) <= seq
    );
    if (last >= 0 || epoch === from.epoch) return held.slice(last + 1);
    const first = held.findIndex((item) => item.epoch === epoch);
    if (first >= 0) return held.slice(first);
    // Nothing of this epoch has come yet, or it is older than all that has.
    return epoch === this.#scene.position().epoch ? [] : undefined;
  }

  #later(one: Position, other: Position): Position {
    if (one.epoch === other.epoch) return one.seq > other.seq ? one : other;
    return one.epoch === this.#scene.position().epoch ? one : other;
  }

  #tell(epoch: string, from: number, to: number): void {
    if (to >= from) this.member.missed(this.#scene.target, epoch, from, to);
  }

  #hold(from: Position): void {
    this.#release();
    this.#held = [];
    this.#heldFrom = from;
  }

  #release(): void {
    this.#room.left += this.#heldLength;
    this.#heldLength = 0;
    this.#held = undefined;
  }
}
