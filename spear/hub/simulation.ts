/** A hub over a broker whose every move is written in a script; keeps the books on what its members must get. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Broker, Entry, HistoryPage, KnownPosition } from "../broker/broker.ts";
import { Hub, type Join, type Member } from "./hub.ts";
import type { Frame } from "../packets.ts";
import type { Position, Target } from "../wire.ts";

const target: Target = "g:1";
const people = 3;
const messagesPerPage = 3;

const who = fc.nat(people - 1);
const which = fc.nat(5);

/** What may happen. Often means are repeated. */
export const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant("publish" as const) }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("deliver" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("double" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("drop" as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("disrupt" as const) }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("read" as const), which }) },
  { weight: 8, arbitrary: fc.record({ do: fc.constant("answer" as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("fail" as const), which }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("forget" as const), count: fc.nat(4) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("failover" as const), lost: fc.nat(3) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant("join" as const),
      who,
      since: fc.constantFrom("none", "own", "head", "last"),
      /** Of the messages that may wait for it, about 45 each. */
      room: fc.constantFrom(Infinity, 100, 0),
    }),
  },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("page" as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("enter" as const), who }) },
  { weight: 6, arbitrary: fc.record({ do: fc.constant("activate" as const), who }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("cancel" as const), who }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("leave" as const), who }) },
);

export type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

interface Question {
  /** What is true at the time of reading. */
  readonly read: () => unknown;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: Error) => void;
  answer?: { readonly value: unknown };
}

/** Holds every question until the script answers it. */
class ScriptedBroker implements Broker {
  readonly connected = true;
  readonly questions: Question[] = [];
  /** Every epoch's messages, as they were published. */
  readonly epochs: { readonly epoch: string; seq: number; kept: Entry[] }[] = [
    { epoch: "e1", seq: 0, kept: [] },
  ];
  /** What history has ever let go of. */
  readonly forgotten = new Set<string>();
  readonly wire: Entry[] = [];
  /** What has come over the wire since the hub listens. */
  readonly arrived = new Set<string>();
  listening = false;

  get head(): Position {
    const { epoch, seq } = this.#present;
    return { epoch, seq };
  }

  get #present() {
    const present = this.epochs.at(-1);
    assert.ok(present);
    return present;
  }

  append(): void {
    const present = this.#present;
    const { epoch } = present;
    const seq = ++present.seq;
    const entry = { epoch, seq, body: JSON.stringify({ id: `${epoch}:${seq}` }) };
    present.kept.push(entry);
    if (this.listening) this.wire.push(entry);
  }

  forget(count: number): void {
    this.#lose(this.#present.kept.splice(0, count));
  }

  /** The next epoch begins on a server that lacks the last messages. */
  failOver(lost: number): void {
    const { kept } = this.#present;
    this.#lose(kept.splice(kept.length - Math.min(lost, kept.length)));
    this.epochs.push({ epoch: `e${this.epochs.length + 1}`, seq: 0, kept: [] });
    // History reaches back by one epoch.
    this.#lose(this.epochs.at(-3)?.kept.splice(0) ?? []);
  }

  #lose(entries: readonly Entry[]): void {
    for (const { epoch, seq } of entries) this.forgotten.add(`${epoch}:${seq}`);
  }

  listen(): Promise<Position> {
    this.listening = true;
    this.arrived.clear();
    const position = this.#ask(() => this.head);
    return position.catch((error) => {
      this.listening = false;
      throw error;
    });
  }

  async clear(): Promise<void> {}

  async unlisten(): Promise<void> {
    this.listening = false;
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return this.#ask(() => known.map(() => this.head));
  }

  history(_target: Target, after: Position): Promise<HistoryPage> {
    const { epoch, seq } = after;
    return this.#ask(() => {
      const [before, present] = [this.epochs.at(-2), this.#present];
      const old = before?.kept ?? [];
      const kept = epoch === present.epoch
        ? present.kept.filter((entry) => entry.seq > seq)
        : [...old.filter((entry) => epoch !== before?.epoch || entry.seq > seq), ...present.kept];
      const entries = kept.slice(0, messagesPerPage);
      const last = entries.at(-1);
      const end = kept.length === entries.length ? present : last ?? present;
      return {
        head: this.head,
        entries,
        next: end === present ? undefined : { epoch: end.epoch, seq: end.seq },
        complete: epoch === present.epoch && seq <= present.seq && entries.length === end.seq - seq,
      };
    });
  }

  publish(): never {
    throw new Error("the script publishes");
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #ask<T>(read: () => T): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    this.questions.push({ read, resolve: (answer) => resolve(answer as T), reject });
    return promise;
  }
}

/** One client: its position by its own books, which refuse whatever must not come. */
class Person implements Member {
  at: Position | undefined;
  join: Join | undefined;
  /** Something of it is under way. */
  joining = false;
  /** It has been live, and has not left. */
  isMember = false;
  /** It counts as a member. */
  counts = false;
  /** What waited for it may be given up: told as missed, though it was to be had. */
  mayGiveUp = false;
  readonly #broker: ScriptedBroker;
  #since: Position | undefined;
  #before: Position | undefined;
  #last: number | undefined;
  #losses = 0;

  constructor(broker: ScriptedBroker) {
    this.#broker = broker;
  }

  send({ epoch, seq, text }: Frame): void {
    this.#follow(epoch, seq);
    assert.equal(JSON.parse(text.slice(2))[1].id, `${epoch}:${seq}`);
    this.at = { epoch, seq };
  }

  missed(_target: Target, epoch: string, from: number, to: number): void {
    this.#follow(epoch, from);
    assert.ok(to >= from);
    // A member that history has run away from three times is made live without the rest.
    const isPaging = this.joining || this.join !== undefined;
    if (isPaging) this.#losses++;
    for (let seq = from; seq <= to && !this.mayGiveUp && this.#losses <= 3; seq++) {
      const message = `${epoch}:${seq}`;
      assert.ok(this.#broker.forgotten.has(message), `${message} was still to be had`);
      // Held back for one who joins, it may have come between the hub's giving it up and the telling.
      assert.ok(isPaging || !this.#broker.arrived.has(message), `${message} had arrived`);
    }
    this.at = { epoch, seq: to };
  }

  asks(since: Position | undefined, last: number | undefined): void {
    this.#since = since;
    this.#last = last;
    this.#before = this.at;
    this.#losses = 0;
    this.joining = true;
  }

  joined(join: Join): void {
    this.join = join;
    const since = this.#since;
    if (since !== undefined) this.at = since;
    // One that is a member already goes on from where it is.
    else if (!this.isMember) this.at = this.#last === undefined ? join.position : undefined;
    this.page(join);
  }

  page({ missed, recovered, caughtUp, position }: Join): void {
    for (const frame of missed) {
      // Where it is told that something is lost, there may be gaps, but no going back.
      if (recovered) this.send(frame);
      else this.#advance(frame);
    }
    if (this.#last !== undefined && !this.isMember) {
      assert.ok(missed.length <= this.#last);
    }
    if (recovered && caughtUp) assert.deepEqual(this.at, position);
    if (!recovered && caughtUp) this.#expectLoss(position);
    // Where this node is behind the one it comes from, it must not be sent anything twice.
    if (this.at === undefined || this.#isBefore(this.at, position)) this.at = position;
  }

  /** It is told that something may be missing only where something is, or where nobody can know. */
  #expectLoss({ epoch, seq }: Position): void {
    const since = this.#since;
    if (since?.epoch !== epoch || since.seq > seq) return;
    const isLost = Array.from(
      { length: seq - since.seq },
      (_, i) => `${epoch}:${since.seq + 1 + i}`,
    )
      .some((message) => this.#broker.forgotten.has(message));
    assert.ok(isLost, `nothing is lost from ${epoch}:${since.seq} to ${seq}`);
  }

  /** What it asked for is over, and it goes on as before. */
  cancelled(): void {
    if (!this.isMember) this.at = undefined;
    else if (this.at && this.#before && this.#isBefore(this.at, this.#before)) {
      this.at = this.#before;
    }
  }

  #follow(epoch: string, seq: number): void {
    assert.ok(this.at);
    if (epoch === this.at.epoch) return assert.equal(seq, this.at.seq + 1);
    assert.ok(this.#ordinal(epoch) > this.#ordinal(this.at.epoch), "an epoch that is over");
    assert.equal(seq, 1);
  }

  #advance({ epoch, seq }: Position): void {
    if (this.at !== undefined) assert.ok(this.#isBefore(this.at, { epoch, seq }));
    this.at = { epoch, seq };
  }

  #isBefore(one: Position, other: Position): boolean {
    return one.epoch === other.epoch
      ? one.seq < other.seq
      : this.#ordinal(one.epoch) < this.#ordinal(other.epoch);
  }

  #ordinal(epoch: string): number {
    return this.#broker.epochs.findIndex((known) => known.epoch === epoch);
  }
}

export class HubHistory {
  readonly #broker = new ScriptedBroker();
  readonly #hub: Hub<Person>;
  readonly #people: Person[];
  readonly #failures: unknown[] = [];
  #mustDisrupt = false;

  constructor() {
    this.#hub = new Hub<Person>({
      fanOut: (frame, members) => {
        for (const member of members) this.#noting(() => member.send(frame));
      },
      retryMs: 0,
    });
    this.#hub.connect(this.#broker);
    this.#people = Array.from({ length: people }, () => new Person(this.#broker));
  }

  async take(step: Step): Promise<void> {
    const broker = this.#broker;
    switch (step.do) {
      case "publish":
        broker.append();
        break;
      case "deliver":
        this.#deliver(broker.wire.shift());
        break;
      case "double":
        this.#deliver(broker.wire[0]);
        break;
      case "drop":
        if (broker.wire.shift() !== undefined) this.#mustDisrupt = true;
        break;
      case "disrupt":
        this.#disrupt();
        break;
      case "read": {
        const question = broker.questions[step.which % broker.questions.length];
        if (question !== undefined) question.answer ??= { value: question.read() };
        break;
      }
      case "answer":
        this.#answer(step.which);
        break;
      case "fail":
        broker.questions.splice(step.which % broker.questions.length, 1)[0]?.reject(
          new Error("the broker is away"),
        );
        break;
      case "forget":
        broker.forget(step.count);
        break;
      case "failover":
        broker.failOver(step.lost);
        this.#mustDisrupt = true;
        break;
      case "join":
        this.#join(this.#person(step.who), step.since, step.room);
        break;
      case "page":
        this.#page(this.#person(step.who));
        break;
      case "enter":
        this.#enter(this.#person(step.who));
        break;
      case "activate":
        this.#activate(this.#person(step.who));
        break;
      case "cancel":
        this.#cancel(this.#person(step.who));
        break;
      case "leave":
        this.#leave(this.#person(step.who));
    }
    await turn();
    this.#noting(() => this.#checkMembers());
  }

  /** Lets everything come to rest with a broker that behaves. */
  async settle(): Promise<void> {
    for (let calm = 0; calm < 3;) {
      calm++;
      for (const person of this.#people) {
        this.#page(person);
        this.#activate(person);
      }
      while (this.#broker.wire.length > 0) {
        this.#deliver(this.#broker.wire.shift());
        calm = 0;
      }
      if (this.#mustDisrupt) this.#disrupt();
      while (this.#broker.questions.length > 0) {
        this.#answer(0);
        await turn();
      }
      // A pause between two attempts is over by then.
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (
        this.#broker.questions.length > 0 ||
        this.#people.some(({ joining, join }) => joining || join)
      ) {
        calm = 0;
      }
    }
  }

  /** Everybody who is a member has come as far as the target has. */
  check(): void {
    if (this.#failures.length > 0) throw this.#failures[0];
    const { head } = this.#broker;
    for (const { isMember, at } of this.#people) {
      if (isMember && head.seq > 0) assert.deepEqual(at, head);
    }
  }

  /** When all have left nothing is listened to. */
  async end(): Promise<void> {
    for (const person of this.#people) this.#cancel(person);
    for (const person of this.#people) this.#leave(person);
    await turn();
    assert.deepEqual([...this.#hub.targets()], []);
    assert.equal(this.#broker.listening, false);
    assert.equal(this.#broker.questions.length, 0);
    this.#hub.close();
  }

  #person(at: number): Person {
    return this.#people[at] as Person;
  }

  #deliver(entry: Entry | undefined): void {
    if (entry === undefined) return;
    this.#broker.arrived.add(`${entry.epoch}:${entry.seq}`);
    this.#noting(() => this.#hub.message(target, entry.epoch, entry.seq, entry.body));
  }

  #disrupt(): void {
    this.#mustDisrupt = false;
    this.#hub.disrupted();
  }

  #answer(which: number): void {
    const { questions } = this.#broker;
    const [question] = questions.splice(which % questions.length, 1);
    question?.resolve(question.answer === undefined ? question.read() : question.answer.value);
  }

  #join(person: Person, kind: string, left: number): void {
    if (person.joining || person.join !== undefined) return;
    const since = kind === "none" || kind === "last"
      ? undefined
      : kind === "own" && person.at !== undefined
      ? person.at
      : this.#broker.head;
    const last = kind === "last" ? 4 : undefined;
    person.asks(since, last);
    const epochs = this.#broker.epochs.length;
    person.mayGiveUp = left !== Infinity;
    this.#hub.join(target, person, since, { last, room: { left } }).then(
      (join) => {
        if (!join.left) this.#noting(() => person.joined(join));
      },
      (error) => {
        this.#noting(() => {
          this.#checkRefusal(error, epochs);
          person.cancelled();
        });
      },
    ).catch((error) => this.#failures.push(error)).finally(() => person.joining = false);
  }

  #page(person: Person): void {
    const { join } = person;
    if (person.joining || join === undefined || join.caughtUp) return;
    person.joining = true;
    const epochs = this.#broker.epochs.length;
    join.next().then(
      () => {
        if (!join.left) this.#noting(() => person.page(join));
      },
      (error) => {
        this.#noting(() => this.#checkRefusal(error, epochs));
        if (!join.left) this.#cancel(person);
      },
    ).catch((error) => this.#failures.push(error)).finally(() => person.joining = false);
  }

  /** @param epochs how many there were when the member asked */
  #checkRefusal({ message }: Error, epochs: number): void {
    if (/ epoch/.test(message)) assert.ok(this.#broker.epochs.length > epochs, message);
    else assert.match(message, /away|left/);
  }

  #enter(person: Person): void {
    if (person.join === undefined) return;
    person.join.enter();
    person.counts = true;
  }

  #activate(person: Person): void {
    if (person.joining || !person.join?.caughtUp) return;
    this.#noting(() => person.join?.activate());
    person.join = undefined;
    person.isMember = person.counts = true;
  }

  #cancel(person: Person): void {
    const { join } = person;
    if (join === undefined) return;
    person.cancelled();
    this.#noting(() => join.cancel());
    person.join = undefined;
    person.counts = person.isMember;
    if (!person.isMember) person.at = undefined;
  }

  /** Also in the middle of whatever it has asked for. */
  #leave(person: Person): void {
    if (!person.counts) return;
    this.#hub.leave(target, person);
    person.join = undefined;
    person.isMember = person.counts = false;
  }

  /** Everybody who counts is there at every moment, and nobody else. */
  #checkMembers(): void {
    const there = this.#hub.members(target);
    const expected = this.#people.filter(({ counts }) => counts);
    assert.equal(there.size, expected.length);
    assert.deepEqual(new Set(there), new Set(expected));
    for (const person of this.#people) assert.equal(there.has(person), person.counts);
  }

  /** What a member objects to must not disturb the hub. */
  #noting(work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#failures.push(error);
    }
  }
}

/** All that can happen without anybody's doing has happened. */
async function turn(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
