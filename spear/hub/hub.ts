/**
 * The targets that have members on this node, who those are, and how far each target has come. Whatever the broker
 * sends, members of a target get each message once, in order; where one is missing the hub reads it from history
 * before it goes on, and where history has lost it the members are told.
 */
import { pause } from "@gru/shared/pause";
import { within } from "@gru/shared/within";
import {
  type Broker,
  type BrokerSink,
  type Entry,
  type HistoryPage,
  type KnownPosition,
  NotAcceptedError,
} from "../broker/broker.ts";
import { CompactSet, type ReadonlyCompactSet } from "@gru/shared/compact";
import { frameOf, SharedReads } from "./history_read.ts";
import { type Join, Joining, type Member, type WaitingRoom } from "./joining.ts";
import type { Frame } from "../packets.ts";
import type { Position, Target } from "../wire.ts";

export type { Join, Member } from "./joining.ts";

interface Topic<M extends Member> {
  readonly target: Target;
  epoch: string;
  seq: number;
  /** Epochs that are over, the latest ones. A set of its own from the first on: most topics never have any. */
  past: ReadonlySet<string>;
  /** The live ones. */
  readonly members: CompactSet<M>;
  /** See what members see. A set of its own from the first on: most topics never have any. */
  watchers: Set<(frame: Frame) => void> | undefined;
  /** Those that are not live yet, or not at present. */
  readonly joining: Joining<M>[];
  /** Set until the broker listens. */
  opening: Promise<void> | undefined;
  /** Set while opening or repairing: what arrives waits here. */
  waiting: Entry[] | undefined;
  /** The present or last attempt to read what is missing. */
  reading: Promise<void> | undefined;
  /** What is being read may be out of date: read once more. */
  stale: boolean;
}

export interface JoinOptions {
  /** From a new member without `since`: so many of the newest messages of the present epoch, as far as they are kept. */
  readonly last?: number | undefined;
  /** The first page is not read yet: call `next` for it. */
  readonly paged?: boolean;
  /** Default: as much as comes may wait. */
  readonly room?: WaitingRoom;
}

export interface HubOptions<M> {
  /** One frame to many members: the hot path. */
  readonly fanOut: (frame: Frame, members: ReadonlyCompactSet<M>) => void;
  /** Told of each message when it is given to members, and to how many. */
  readonly onDeliver?: (target: Target, epoch: string, seq: number, members: number) => void;
  /** Told of each time that messages are missing and are read from history for members. */
  readonly onGap?: () => void;
  /** Milliseconds between attempts to read what is missing while the broker is out of reach. */
  readonly retryMs?: number;
}

const comparedAtOnce = 1000;
const comparedAtOnceMs = 200;
const pastEpochsKept = 16;
const none: ReadonlySet<never> = new Set();

export class Hub<M extends Member> implements BrokerSink {
  readonly #topics = new Map<Target, Topic<M>>();
  readonly #fanOut: (frame: Frame, members: ReadonlyCompactSet<M>) => void;
  readonly #onDeliver: HubOptions<M>["onDeliver"];
  readonly #onGap: HubOptions<M>["onGap"];
  readonly #retryMs: number;
  readonly #closing = new AbortController();
  readonly #reads = new SharedReads();
  #broker: Broker | undefined;
  #disrupted = false;
  #comparingAll = false;
  /** The targets about whose position the broker is being asked. */
  readonly #comparing = new Map<Topic<M>, { again: boolean }>();

  constructor(options: HubOptions<M>) {
    this.#fanOut = options.fanOut;
    this.#onDeliver = options.onDeliver;
    this.#onGap = options.onGap;
    this.#retryMs = options.retryMs ?? 200;
  }

  /** The broker is made with the hub as its sink, hence in two steps. */
  connect(broker: Broker): void {
    this.#broker = broker;
  }

  /** Also those that are passed over at present because they read history. */
  members(target: Target): ReadonlyCompactSet<M> {
    const topic = this.#topics.get(target);
    if (topic === undefined) return none;
    const { members, joining } = topic;
    if (joining.length === 0) return members;
    const held = joining.filter(({ isMember }) => isMember).map(({ member }) => member);
    return held.length === 0 ? members : new WithHeld(members, held);
  }

  targets(): IterableIterator<Target> {
    return this.#topics.keys();
  }

  /**
   * Rejects when the broker does; then nothing has changed. A member that joins again (with `since`, to fetch what
   * it missed) stays a member throughout, and gets no live messages between the two. Until `activate` or `cancel` it may
   * leave, but must not join again.
   */
  async join(
    target: Target,
    member: M,
    since?: Position,
    { last, paged = false, room = { left: Infinity } }: JoinOptions = {},
  ): Promise<Join> {
    if (this.#closing.signal.aborted) throw new NotAcceptedError("this node is closing");
    const topic = this.#topic(target);
    const wasMember = topic.members.delete(member);
    const joining = new Joining<M>(
      member,
      {
        target,
        position: () => positionOf(topic),
        read: (after, bytes) =>
          this.#reads.read(this.#requireBroker(), target, after, { bytes, now: positionOf(topic) }),
        catchUp: () => this.#catchUp(topic),
        end: (live) => {
          topic.joining.splice(topic.joining.indexOf(joining), 1);
          if (live === undefined) this.#closeIfEmpty(topic);
          else topic.members.add(live);
        },
      },
      room,
      wasMember ? positionOf(topic) : undefined,
    );
    topic.joining.push(joining);
    try {
      // A member goes on from where it is, whatever the broker does.
      if (!wasMember || since !== undefined) await topic.opening;
      joining.begin(since ?? (last === undefined || wasMember ? undefined : { last }));
      if (paged || joining.caughtUp) return joining;
      await joining.next();
      if (joining.left) throw new NotAcceptedError("the member has left meanwhile");
      return joining;
    } catch (error) {
      joining.cancel();
      throw error;
    }
  }

  leave(target: Target, member: M): void {
    const topic = this.#topics.get(target);
    if (topic === undefined) return;
    if (topic.members.delete(member)) return this.#closeIfEmpty(topic);
    topic.joining.find((joining) => joining.isMember && joining.member === member)?.leave();
  }

  /**
   * Gives what members of the target are sent, from now on until disposed, without being one of them. `onFrame` must be
   * quick and not throw. Rejects when the broker does.
   */
  async watch(target: Target, onFrame: (frame: Frame) => void): Promise<Disposable> {
    if (this.#closing.signal.aborted) throw new NotAcceptedError("this node is closing");
    const topic = this.#topic(target);
    (topic.watchers ??= new Set()).add(onFrame);
    await topic.opening;
    return {
      [Symbol.dispose]: () => {
        if (topic.watchers?.delete(onFrame)) this.#closeIfEmpty(topic);
      },
    };
  }

  /** Members here have been given what the target had at this position, or never will be; also where there is none. */
  hasPassed(target: Target, { epoch, seq }: Position): boolean {
    const topic = this.#topics.get(target);
    if (topic === undefined) return true;
    return topic.epoch === epoch ? topic.seq >= seq : topic.past.has(epoch);
  }

  /** Resolves when {@linkcode hasPassed} holds. What has not come by itself within `waitMs` is read; rejects when it cannot be. */
  async passed(target: Target, position: Position, waitMs: number): Promise<void> {
    const topic = this.#topics.get(target);
    if (topic === undefined || this.hasPassed(target, position)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const look = () => {
      if (this.hasPassed(target, position)) resolve();
    };
    (topic.watchers ??= new Set()).add(look);
    await within(promise, waitMs);
    try {
      // Before that it is not known where the target is here.
      await topic.opening;
      if (this.#isOpen(topic) && !this.hasPassed(target, position)) await this.#catchUp(topic);
    } finally {
      topic.watchers.delete(look);
      this.#closeIfEmpty(topic);
    }
  }

  message(target: Target, epoch: string, seq: number, body: string): void {
    const topic = this.#topics.get(target);
    if (topic === undefined) return;
    if (seq === 0) this.#pass(topic, body);
    else this.#arrive(topic, { epoch, seq, body });
  }

  disrupted(): void {
    this.#disrupted = true;
    if (!this.#comparingAll) void this.#compareAll();
  }

  *seen(): Generator<KnownPosition> {
    for (const topic of this.#topics.values()) {
      if (topic.epoch !== "") yield { target: topic.target, ...seenIn(topic) };
    }
  }

  close(): void {
    this.#closing.abort();
    this.#topics.clear();
  }

  #topic(target: Target): Topic<M> {
    return this.#topics.getOrInsertComputed(target, () => {
      const topic: Topic<M> = {
        target,
        epoch: "",
        seq: 0,
        past: none,
        members: new CompactSet(),
        watchers: undefined,
        joining: [],
        opening: undefined,
        waiting: [],
        reading: undefined,
        stale: false,
      };
      topic.opening = this.#listen(topic);
      return topic;
    });
  }

  async #listen(topic: Topic<M>): Promise<void> {
    try {
      const position = await this.#requireBroker().listen(topic.target);
      topic.epoch = position.epoch;
      topic.seq = position.seq;
      topic.opening = undefined;
      this.#takeWaiting(topic);
    } catch (error) {
      if (this.#isOpen(topic)) this.#topics.delete(topic.target);
      throw error;
    }
  }

  #closeIfEmpty(topic: Topic<M>): void {
    if (topic.members.size > 0 || topic.joining.length > 0 || topic.watchers?.size) return;
    if (!this.#isOpen(topic)) return;
    this.#topics.delete(topic.target);
    // A failure is the broker's to mend when it reconnects; without a topic what still arrives is dropped.
    const seen = topic.epoch === "" ? undefined : seenIn(topic);
    this.#requireBroker().unlisten(topic.target, seen).catch(() => {});
  }

  /** Reads what is missing, beginning from now on. Rejects when it fails. */
  async #catchUp(topic: Topic<M>): Promise<void> {
    if (topic.waiting === undefined) this.#startRepair(topic);
    else {
      const { reading } = topic;
      topic.stale = true;
      await reading;
      // It is the next one's turn, unless it was begun after the question.
      if (topic.reading === reading) return;
    }
    await topic.reading;
  }

  #arrive(topic: Topic<M>, entry: Entry): void {
    const { epoch, seq } = entry;
    if (topic.waiting !== undefined) {
      topic.waiting.push(entry);
    } else if (epoch === topic.epoch && seq === topic.seq + 1) {
      this.#deliver(topic, entry);
    } else if (epoch === topic.epoch ? seq > topic.seq : !topic.past.has(epoch)) {
      this.#onGap?.();
      this.#startRepair(topic, [entry]);
    }
  }

  /** An ephemeral one: for all who are members now, whatever else they wait for. */
  #pass(topic: Topic<M>, body: string): void {
    const frame = frameOf(topic.target, { epoch: "", seq: 0, body });
    const members = this.members(topic.target);
    if (members.size > 0) this.#fanOut(frame, members);
    if (topic.watchers !== undefined) { for (const watch of topic.watchers) watch(frame); }
  }

  #deliver(topic: Topic<M>, entry: Entry): void {
    topic.seq = entry.seq;
    const frame = frameOf(topic.target, entry);
    for (const joining of topic.joining) joining.live(frame);
    if (topic.members.size > 0) this.#fanOut(frame, topic.members);
    this.#onDeliver?.(topic.target, entry.epoch, entry.seq, topic.members.size);
    if (topic.watchers !== undefined) { for (const watch of topic.watchers) watch(frame); }
  }

  /** Hands on what waited, as far as it follows on; the first gap starts a repair. */
  #takeWaiting(topic: Topic<M>): void {
    const waiting = topic.waiting ?? [];
    topic.waiting = undefined;
    for (const entry of waiting) this.#arrive(topic, entry);
  }

  #startRepair(topic: Topic<M>, waiting: Entry[] = []): void {
    topic.waiting = waiting;
    void this.#repair(topic);
  }

  /** Reads what is missing until it can be handed on. Called with `waiting` set. */
  async #repair(topic: Topic<M>): Promise<void> {
    do {
      topic.stale = false;
      topic.reading = this.#readMissing(topic);
      try {
        await topic.reading;
      } catch {
        topic.stale = true;
        await this.#pause();
      }
    } while (topic.stale && this.#isOpen(topic));
    if (this.#isOpen(topic)) this.#takeWaiting(topic);
  }

  async #readMissing(topic: Topic<M>): Promise<void> {
    for (let after: Position | undefined = positionOf(topic); after !== undefined;) {
      const before = topic.waiting ?? [];
      const during: Entry[] = topic.waiting = [];
      let page;
      try {
        page = await this.#requireBroker().history(topic.target, after);
        if (topic.past.has(page.head.epoch)) await this.#endEpoch(topic, page.head.epoch);
      } catch (error) {
        topic.waiting = [...before, ...during];
        throw error;
      }
      if (!this.#isOpen(topic)) return;
      after = page.next;
      this.#takePage(topic, page, before, during);
    }
  }

  /** Hands on what is kept, and what has arrived of it or could no longer be kept. */
  #takePage(topic: Topic<M>, page: HistoryPage, before: Entry[], during: Entry[]): void {
    const { head, entries, next } = page;
    // What lies beyond the page is looked for on the next one.
    const end = next ?? head;
    if (next !== undefined) topic.waiting = [...before, ...during];
    if (page.allOf !== undefined && !topic.past.has(page.allOf)) {
      this.#enterEpoch(topic, page.allOf);
    }
    const first = entries[0]?.epoch ?? head.epoch;
    // History has the epoch before its present one and not the one that members are in: they may have had all of it.
    if (first !== topic.epoch && first !== head.epoch) this.#endedBefore(topic, first);
    for (const epoch of new Set([topic.epoch, ...entries.map(({ epoch }) => epoch), end.epoch])) {
      if (topic.past.has(epoch)) continue;
      if (epoch !== topic.epoch) this.#enterEpoch(topic, epoch);
      const isEnd = epoch === end.epoch;
      const found = new Map<number, Entry>();
      // What came while reading, from beyond the head, may hide another gap: its turn is next.
      const timely = during.filter(({ seq }) => !isEnd || seq <= end.seq);
      const early = before.filter(({ seq }) => next === undefined || !isEnd || seq <= end.seq);
      for (const entry of [...entries, ...early, ...timely]) {
        if (entry.epoch === epoch) found.set(entry.seq, entry);
      }
      for (const entry of [...found.values()].sort((a, b) => a.seq - b.seq)) {
        if (entry.seq <= topic.seq) continue;
        if (entry.seq > topic.seq + 1) this.#tellMissed(topic, entry.seq - 1);
        this.#deliver(topic, entry);
      }
      if (isEnd && topic.seq < end.seq) {
        this.#tellMissed(topic, end.seq);
        topic.seq = end.seq;
      }
    }
  }

  #enterEpoch(topic: Topic<M>, epoch: string): void {
    this.#endedBefore(topic, topic.epoch);
    topic.epoch = epoch;
    topic.seq = 0;
  }

  #endedBefore(topic: Topic<M>, epoch: string): void {
    topic.past = new Set([...topic.past, epoch].slice(-pastEpochsKept));
  }

  /** The target has gone back to an epoch that was over: an old copy of its data. Nothing must be counted on from there. */
  async #endEpoch({ target }: Topic<M>, epoch: string): Promise<never> {
    await this.#requireBroker().positions([{ target, epoch, seq: Number.MAX_SAFE_INTEGER }]);
    throw new NotAcceptedError(`${target} went back to epoch ${epoch}`);
  }

  #tellMissed({ target, epoch, seq, members, joining }: Topic<M>, to: number): void {
    for (const member of members) member.missed(target, epoch, seq + 1, to);
    for (const join of joining) join.lost(epoch, seq + 1, to);
  }

  async #compareAll(): Promise<void> {
    this.#comparingAll = true;
    while (this.#disrupted && !this.#closing.signal.aborted) {
      this.#disrupted = false;
      const topics = [...this.#topics.values()];
      for (let at = 0; at < topics.length; at += comparedAtOnce) {
        const asked = topics.slice(at, at + comparedAtOnce).map((topic) => this.#compare(topic));
        // One that is not answered holds up nobody for longer.
        await this.#pauseAtMost(comparedAtOnceMs, Promise.all(asked));
      }
    }
    this.#comparingAll = false;
  }

  /** Resolves when it was first asked where the target is; where that fails it is asked again, apart from all others. */
  #compare(topic: Topic<M>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    topic.stale = true;
    const underWay = this.#comparing.get(topic);
    // What is being answered may be older than the question.
    if (underWay === undefined) void this.#comparePersistently(topic, resolve);
    else {
      underWay.again = true;
      resolve();
    }
    return promise;
  }

  async #comparePersistently(topic: Topic<M>, asked: () => void): Promise<void> {
    const comparing = { again: true };
    this.#comparing.set(topic, comparing);
    while (comparing.again) {
      comparing.again = false;
      try {
        // One that opens may have read its position before the disruption.
        await topic.opening;
      } catch {
        break;
      }
      // One that waits is under repair, and reads once more because it is stale.
      if (!this.#isOpen(topic) || topic.waiting !== undefined) break;
      try {
        const [position] = await this.#requireBroker().positions([topic]);
        if (position === undefined || topic.waiting !== undefined) continue;
        if (position.epoch === topic.epoch && position.seq <= topic.seq) continue;
        this.#onGap?.();
        this.#startRepair(topic);
      } catch {
        comparing.again = true;
        asked();
        await this.#pause();
      }
    }
    this.#comparing.delete(topic);
    asked();
  }

  #isOpen(topic: Topic<M>): boolean {
    return this.#topics.get(topic.target) === topic;
  }

  /** Cut short by closing. */
  async #pause(): Promise<void> {
    const { signal } = this.#closing;
    await pause(this.#retryMs, signal);
  }

  async #pauseAtMost(ms: number, work: Promise<unknown>): Promise<void> {
    const over = new AbortController();
    void work.finally(() => over.abort());
    await pause(ms, AbortSignal.any([over.signal, this.#closing.signal]));
  }

  #requireBroker(): Broker {
    if (this.#broker === undefined) throw new Error("the hub is not connected to a broker");
    return this.#broker;
  }
}

/** Also what waits for something before it has been given. */
function seenIn({ epoch, seq, waiting }: Position & Pick<Topic<never>, "waiting">): Position {
  const held = waiting?.findLast((entry) => entry.epoch === epoch)?.seq ?? 0;
  return { epoch, seq: Math.max(seq, held) };
}

function positionOf({ epoch, seq }: Position): Position {
  return { epoch, seq };
}

/** A view, so that nothing is copied. */
class WithHeld<M extends object> implements ReadonlyCompactSet<M> {
  readonly #live: ReadonlyCompactSet<M>;
  readonly #held: readonly M[];

  constructor(live: ReadonlyCompactSet<M>, held: readonly M[]) {
    this.#live = live;
    this.#held = held;
  }

  get size(): number {
    return this.#live.size + this.#held.length;
  }

  has(member: M): boolean {
    return this.#live.has(member) || this.#held.includes(member);
  }

  *[Symbol.iterator](): IterableIterator<M> {
    yield* this.#held;
    yield* this.#live;
  }
}
