/**
 * The targets that have members on this node, who those are, and how far each target has come. Whatever the broker
 * sends, members of a target get each message once, in order; where one is missing the hub reads it from history
 * before it goes on, and where history has lost it the members are told.
 */
import { setTimeout as pause } from "node:timers/promises";
import { type Broker, type BrokerSink, type Entry, NotAcceptedError } from "./broker.ts";
import { CompactSet, type ReadonlyCompactSet } from "./compact.ts";
import { Frame } from "./packets.ts";
import { encodePacket, type Position, type Target } from "./wire.ts";

/** What the hub knows of whoever joins. */
export interface Member {
  send(frame: Frame): void;
  /** Messages `from` to `to` of this epoch are lost to this member for good. */
  missed(target: Target, epoch: string, from: number, to: number): void;
}

/** The moment between reading history and being live: the member's turn to send its result. */
export interface Join {
  /** Live messages follow from here. */
  readonly position: Position;
  /** Nothing between `since` and `position` is lost. */
  readonly recovered: boolean;
  /** What the member has not seen up to `position`, in order. */
  readonly missed: readonly Frame[];
  /** Sends what came meanwhile and makes the member live. */
  activate(): void;
  /** Instead of `activate`. */
  cancel(): void;
}

type Held<M> = ((member: M) => void)[];

interface Topic<M extends Member> {
  readonly target: Target;
  epoch: string;
  seq: number;
  /** Epochs that are over, the latest ones. A set of its own from the first on: most topics never have any. */
  past: ReadonlySet<string>;
  readonly members: CompactSet<M>;
  /** See what members see. A set of its own from the first on: most topics never have any. */
  watchers: Set<(frame: Frame) => void> | undefined;
  /** For each member that is still reading history, what is held back for it. */
  readonly joining: Held<M>[];
  /** Set until the broker listens. */
  opening: Promise<void> | undefined;
  /** Set while opening or repairing: what arrives waits here. */
  waiting: Entry[] | undefined;
  /** The present or last attempt to read what is missing. */
  reading: Promise<void> | undefined;
  /** What is being read may be out of date: read once more. */
  stale: boolean;
}

export interface HubOptions<M> {
  /** One frame to many members: the hot path. */
  readonly fanOut: (frame: Frame, members: ReadonlyCompactSet<M>) => void;
  /** Milliseconds between attempts to read what is missing while the broker is out of reach. */
  readonly retryMs?: number;
}

const positionsPerRequest = 1000;
const pastEpochsKept = 16;
const none: ReadonlySet<never> = new Set();

export class Hub<M extends Member> implements BrokerSink {
  readonly #topics = new Map<Target, Topic<M>>();
  readonly #fanOut: (frame: Frame, members: ReadonlyCompactSet<M>) => void;
  readonly #retryMs: number;
  readonly #closing = new AbortController();
  #broker: Broker | undefined;
  #disrupted = false;
  #repairingAll = false;

  constructor(options: HubOptions<M>) {
    this.#fanOut = options.fanOut;
    this.#retryMs = options.retryMs ?? 200;
  }

  /** The broker is made with the hub as its sink, hence in two steps. */
  connect(broker: Broker): void {
    this.#broker = broker;
  }

  members(target: Target): ReadonlyCompactSet<M> {
    return this.#topics.get(target)?.members ?? none;
  }

  targets(): IterableIterator<Target> {
    return this.#topics.keys();
  }

  /**
   * Rejects when the broker does; then nothing has changed. A member that joins again (with `since`, to fetch what
   * it missed) gets no live messages between the two. Until `activate` or `cancel` it must not leave or join again.
   */
  async join(target: Target, member: M, since?: Position): Promise<Join> {
    if (this.#closing.signal.aborted) throw new NotAcceptedError("this node is closing");
    const topic = this.#topic(target);
    const held: Held<M> = [];
    topic.joining.push(held);
    const wasMember = topic.members.delete(member);
    const activate = () => {
      stopJoining(topic, held);
      for (const give of held.splice(0)) give(member);
      topic.members.add(member);
    };
    const cancel = () => {
      if (wasMember) return activate();
      stopJoining(topic, held);
      this.#closeIfEmpty(topic);
    };
    if (wasMember && since === undefined) {
      return { position: positionOf(topic), recovered: false, missed: [], activate, cancel };
    }
    try {
      await topic.opening;
      // It comes from a node that was faster than this one.
      if (since?.epoch === topic.epoch && since.seq > topic.seq) await this.#catchUp(topic);
      const position = positionOf(topic);
      const heldBefore = held.length;
      const { missed, recovered } = await this.#missedSince(target, position, since);
      // From here on these are part of `missed`, or older than the joining.
      held.splice(0, heldBefore);
      return { position, recovered, missed, activate, cancel };
    } catch (error) {
      cancel();
      throw error;
    }
  }

  leave(target: Target, member: M): void {
    const topic = this.#topics.get(target);
    if (topic?.members.delete(member)) this.#closeIfEmpty(topic);
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

  message(target: Target, epoch: string, seq: number, body: string): void {
    const topic = this.#topics.get(target);
    if (topic !== undefined) this.#arrive(topic, { epoch, seq, body });
  }

  disrupted(): void {
    this.#disrupted = true;
    if (!this.#repairingAll) void this.#repairAll();
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
    this.#requireBroker().unlisten(topic.target).catch(() => {});
  }

  /** Waits for the present attempt to read what is missing, or makes one. Rejects when it fails. */
  async #catchUp(topic: Topic<M>): Promise<void> {
    if (topic.waiting === undefined) this.#startRepair(topic);
    await topic.reading;
  }

  async #missedSince(target: Target, position: Position, since: Position | undefined) {
    if (since === undefined) return { missed: [], recovered: false };
    if (since.epoch === position.epoch && since.seq >= position.seq) {
      return { missed: [], recovered: since.seq === position.seq };
    }
    const { head, entries, complete } = await this.#requireBroker().history(
      target,
      since,
      position.seq,
    );
    // Where an epoch has ended between the two readings, the topic's own repair tells the members of the next one.
    const isCurrent = head.epoch === position.epoch;
    const missed = entries.filter(({ epoch, seq }) =>
      epoch === position.epoch ? seq <= position.seq : isCurrent
    );
    return {
      missed: missed.map((entry) => frameOf(target, entry)),
      recovered: isCurrent && complete,
    };
  }

  #arrive(topic: Topic<M>, entry: Entry): void {
    const { epoch, seq } = entry;
    if (topic.waiting !== undefined) {
      topic.waiting.push(entry);
    } else if (epoch === topic.epoch && seq === topic.seq + 1) {
      this.#deliver(topic, entry);
    } else if (epoch === topic.epoch ? seq > topic.seq : !topic.past.has(epoch)) {
      this.#startRepair(topic, [entry]);
    }
  }

  #deliver(topic: Topic<M>, entry: Entry): void {
    topic.seq = entry.seq;
    const frame = frameOf(topic.target, entry);
    for (const held of topic.joining) held.push((member) => member.send(frame));
    if (topic.members.size > 0) this.#fanOut(frame, topic.members);
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
    const before = topic.waiting ?? [];
    const during: Entry[] = topic.waiting = [];
    let history;
    try {
      history = await this.#requireBroker().history(topic.target, positionOf(topic));
      if (topic.past.has(history.head.epoch)) await this.#endEpoch(topic, history.head.epoch);
    } catch (error) {
      topic.waiting = [...before, ...during];
      throw error;
    }
    if (!this.#isOpen(topic)) return;
    const { head, entries } = history;
    for (const epoch of new Set([topic.epoch, ...entries.map(({ epoch }) => epoch), head.epoch])) {
      if (topic.past.has(epoch)) continue;
      if (epoch !== topic.epoch) this.#enterEpoch(topic, epoch);
      const isHead = epoch === head.epoch;
      const found = new Map<number, Entry>();
      // What came while reading, from beyond the head, may hide another gap: its turn is next.
      const timely = during.filter(({ seq }) => !isHead || seq <= head.seq);
      for (const entry of [...entries, ...before, ...timely]) {
        if (entry.epoch === epoch) found.set(entry.seq, entry);
      }
      for (const entry of [...found.values()].sort((a, b) => a.seq - b.seq)) {
        if (entry.seq <= topic.seq) continue;
        if (entry.seq > topic.seq + 1) this.#tellMissed(topic, entry.seq - 1);
        this.#deliver(topic, entry);
      }
      if (isHead && topic.seq < head.seq) {
        this.#tellMissed(topic, head.seq);
        topic.seq = head.seq;
      }
    }
  }

  #enterEpoch(topic: Topic<M>, epoch: string): void {
    topic.past = new Set([...topic.past, topic.epoch].slice(-pastEpochsKept));
    topic.epoch = epoch;
    topic.seq = 0;
  }

  /** The target has gone back to an epoch that was over: an old copy of its data. Nothing must be counted on from there. */
  async #endEpoch({ target }: Topic<M>, epoch: string): Promise<never> {
    await this.#requireBroker().positions([{ target, epoch, seq: Number.MAX_SAFE_INTEGER }]);
    throw new Error(`${target} went back to epoch ${epoch}`);
  }

  #tellMissed({ target, epoch, seq, members, joining }: Topic<M>, to: number): void {
    const tell = (member: M) => member.missed(target, epoch, seq + 1, to);
    for (const member of members) tell(member);
    for (const held of joining) held.push(tell);
  }

  async #repairAll(): Promise<void> {
    this.#repairingAll = true;
    while (this.#disrupted && !this.#closing.signal.aborted) {
      this.#disrupted = false;
      const topics = [...this.#topics.values()];
      for (let at = 0; at < topics.length; at += positionsPerRequest) {
        await this.#repairSome(topics.slice(at, at + positionsPerRequest));
      }
    }
    this.#repairingAll = false;
  }

  async #repairSome(topics: readonly Topic<M>[]): Promise<void> {
    for (const topic of topics) topic.stale = true;
    // One that opens may have read its position before the disruption.
    await Promise.allSettled(topics.map((topic) => topic.opening));
    while (!this.#closing.signal.aborted) {
      // One that waits is under repair, and reads once more because it is stale.
      const open = topics.filter((topic) => this.#isOpen(topic) && topic.waiting === undefined);
      try {
        const positions = await this.#requireBroker().positions(open);
        open.forEach((topic, i) => {
          const position = positions[i];
          if (position === undefined || topic.waiting !== undefined) return;
          if (position.epoch === topic.epoch && position.seq <= topic.seq) return;
          this.#startRepair(topic);
        });
        return;
      } catch {
        await this.#pause();
      }
    }
  }

  #isOpen(topic: Topic<M>): boolean {
    return this.#topics.get(topic.target) === topic;
  }

  /** Cut short by closing. */
  async #pause(): Promise<void> {
    const { signal } = this.#closing;
    await pause(this.#retryMs, undefined, { signal }).catch(() => {});
  }

  #requireBroker(): Broker {
    if (this.#broker === undefined) throw new Error("the hub is not connected to a broker");
    return this.#broker;
  }
}

function stopJoining<M extends Member>({ joining }: Topic<M>, held: Held<M>): void {
  joining.splice(joining.indexOf(held), 1);
}

function positionOf({ epoch, seq }: Position): Position {
  return { epoch, seq };
}

function frameOf(target: Target, { epoch, seq, body }: Entry): Frame {
  return new Frame(target, epoch, seq, encodePacket(body, epoch, seq));
}
