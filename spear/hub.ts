/**
 * The targets that have members on this node, who those are, and how far each target has come. Whatever the broker
 * sends, members of a target get each message once, in order; where one is missing the hub reads it from history
 * before it goes on, and where history has lost it the members are told.
 */
import type { Broker, BrokerSink, Entry } from "./broker.ts";
import { encodePacket, type Position, type Target } from "./wire.ts";

export interface Frame {
  readonly target: Target;
  readonly epoch: string;
  readonly seq: number;
  /** The socket.io packet. */
  readonly packet: string;
}

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

interface Arrival {
  readonly epoch: string;
  readonly seq: number;
  readonly body: string;
}

type Held<M> = ((member: M) => void)[];

interface Topic<M> {
  readonly target: Target;
  epoch: string;
  seq: number;
  readonly members: Set<M>;
  /** For each member that is still reading history, what is held back for it. */
  readonly joining: Set<Held<M>>;
  /** Set until the broker listens. */
  opening: Promise<void> | undefined;
  /** Set while opening or repairing: what arrives waits here. */
  waiting: Arrival[] | undefined;
}

export interface HubOptions<M> {
  /** One frame to many members: the hot path. */
  readonly fanOut: (frame: Frame, members: ReadonlySet<M>) => void;
  /** Milliseconds between attempts to read what is missing while the broker is out of reach. */
  readonly retryMs?: number;
}

const positionsPerRequest = 1000;

export class Hub<M extends Member> implements BrokerSink {
  readonly #topics = new Map<Target, Topic<M>>();
  readonly #fanOut: (frame: Frame, members: ReadonlySet<M>) => void;
  readonly #retryMs: number;
  #broker: Broker | undefined;
  #repairingAll: Promise<void> | undefined;
  #disruptions = 0;
  #closed = false;

  constructor(options: HubOptions<M>) {
    this.#fanOut = options.fanOut;
    this.#retryMs = options.retryMs ?? 200;
  }

  /** The broker is made with the hub as its sink, hence in two steps. */
  connect(broker: Broker): void {
    this.#broker = broker;
  }

  members(target: Target): ReadonlySet<M> {
    return this.#topics.get(target)?.members ?? new Set();
  }

  targets(): IterableIterator<Target> {
    return this.#topics.keys();
  }

  /**
   * Rejects when the broker does; then nothing has changed. A member that joins again (with `since`, to fetch what
   * it missed) gets no live messages between the two.
   */
  async join(target: Target, member: M, since?: Position): Promise<Join> {
    const topic = this.#topic(target);
    const held: Held<M> = [];
    topic.joining.add(held);
    const wasMember = topic.members.delete(member);
    const activate = () => {
      topic.joining.delete(held);
      for (const give of held) give(member);
      topic.members.add(member);
    };
    const cancel = () => {
      if (wasMember) return activate();
      topic.joining.delete(held);
      this.#closeIfEmpty(topic);
    };
    try {
      await topic.opening;
      const position = { epoch: topic.epoch, seq: topic.seq };
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

  message(target: Target, epoch: string, seq: number, body: string): void {
    const topic = this.#topics.get(target);
    if (topic === undefined) return;
    if (topic.waiting !== undefined) {
      topic.waiting.push({ epoch, seq, body });
    } else if (epoch === topic.epoch && seq === topic.seq + 1) {
      this.#deliver(topic, seq, body);
    } else if (epoch !== topic.epoch || seq > topic.seq) {
      topic.waiting = [{ epoch, seq, body }];
      void this.#repair(topic);
    }
  }

  disrupted(): void {
    this.#disruptions++;
    this.#repairingAll ??= this.#repairAll().finally(() => this.#repairingAll = undefined);
  }

  close(): void {
    this.#closed = true;
    this.#topics.clear();
  }

  #topic(target: Target): Topic<M> {
    return this.#topics.getOrInsertComputed(target, () => {
      const topic: Topic<M> = {
        target,
        epoch: "",
        seq: 0,
        members: new Set(),
        joining: new Set(),
        opening: undefined,
        waiting: [],
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
      this.#topics.delete(topic.target);
      throw error;
    }
  }

  #closeIfEmpty(topic: Topic<M>): void {
    if (topic.members.size > 0 || topic.joining.size > 0) return;
    if (this.#topics.get(topic.target) !== topic) return;
    this.#topics.delete(topic.target);
    // A failure is the broker's to mend when it reconnects; without a topic what still arrives is dropped.
    this.#requireBroker().unlisten(topic.target).catch(() => {});
  }

  async #missedSince(target: Target, position: Position, since: Position | undefined) {
    if (since === undefined) return { missed: [], recovered: false };
    if (since.epoch === position.epoch && since.seq >= position.seq) {
      return { missed: [], recovered: since.seq === position.seq };
    }
    const history = await this.#requireBroker().history(target, since, position.seq);
    // Data lost between the two reads: the topic's own repair tells the members.
    if (history.head.epoch !== position.epoch) return { missed: [], recovered: false };
    const missed = history.entries.map((entry) => frameOf(target, position.epoch, entry));
    return { missed, recovered: history.complete };
  }

  #deliver(topic: Topic<M>, seq: number, body: string): void {
    topic.seq = seq;
    const frame = frameOf(topic.target, topic.epoch, { seq, body });
    for (const held of topic.joining) held.push((member) => member.send(frame));
    if (topic.members.size > 0) this.#fanOut(frame, topic.members);
  }

  /** Hands on what waited, as far as it follows on; the first gap starts a repair. */
  #takeWaiting(topic: Topic<M>): void {
    const waiting = topic.waiting ?? [];
    topic.waiting = undefined;
    for (const { epoch, seq, body } of waiting) this.message(topic.target, epoch, seq, body);
  }

  /** Reads what is missing until it can be handed on. Called with `waiting` set. */
  async #repair(topic: Topic<M>): Promise<void> {
    while (!this.#closed && this.#topics.get(topic.target) === topic) {
      try {
        const before = topic.waiting ?? [];
        topic.waiting = [];
        const after = { epoch: topic.epoch, seq: topic.seq };
        const { head, entries } = await this.#requireBroker().history(topic.target, after);
        const bodies = new Map(entries.map((entry) => [entry.seq, entry.body]));
        // What waits beyond the head came after the reading and may hide another gap: its turn is next.
        for (const { epoch, seq, body } of [...before, ...topic.waiting]) {
          if (epoch === head.epoch && seq <= head.seq) bodies.set(seq, body);
        }
        if (head.epoch !== topic.epoch) {
          topic.epoch = head.epoch;
          topic.seq = 0;
        }
        for (const seq of [...bodies.keys()].sort((a, b) => a - b)) {
          if (seq <= topic.seq) continue;
          if (seq > topic.seq + 1) this.#tellMissed(topic, seq - 1);
          this.#deliver(topic, seq, bodies.get(seq) ?? "");
        }
        if (topic.seq < head.seq) {
          this.#tellMissed(topic, head.seq);
          topic.seq = head.seq;
        }
        this.#takeWaiting(topic);
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, this.#retryMs));
      }
    }
  }

  #tellMissed({ target, epoch, seq, members, joining }: Topic<M>, to: number): void {
    const tell = (member: M) => member.missed(target, epoch, seq + 1, to);
    for (const member of members) tell(member);
    for (const held of joining) held.push(tell);
  }

  async #repairAll(): Promise<void> {
    let seen;
    do {
      seen = this.#disruptions;
      const topics = [...this.#topics.values()];
      for (let at = 0; at < topics.length; at += positionsPerRequest) {
        await this.#repairSome(topics.slice(at, at + positionsPerRequest));
      }
    } while (seen !== this.#disruptions && !this.#closed);
  }

  async #repairSome(topics: readonly Topic<M>[]): Promise<void> {
    // One that opens may have read its position before the disruption.
    await Promise.allSettled(topics.map((topic) => topic.opening));
    while (!this.#closed) {
      try {
        const positions = await this.#requireBroker().positions(topics);
        await Promise.all(topics.map((topic, i) => {
          const position = positions[i];
          // One that waits is already under repair, or could not be opened.
          if (position === undefined || topic.waiting !== undefined) return;
          if (position.epoch === topic.epoch && position.seq <= topic.seq) return;
          topic.waiting = [];
          return this.#repair(topic);
        }));
        return;
      } catch {
        await new Promise((resolve) => setTimeout(resolve, this.#retryMs));
      }
    }
  }

  #requireBroker(): Broker {
    if (this.#broker === undefined) throw new Error("the hub is not connected to a broker");
    return this.#broker;
  }
}

function frameOf(target: Target, epoch: string, { seq, body }: Entry): Frame {
  return { target, epoch, seq, packet: encodePacket(body, epoch, seq) };
}
