/**
 * The broker whose messages travel through RocketMQ. {@linkcode RedisStore} counts and keeps them, and Redis knows which
 * nodes listen to a target ({@linkcode RocketmqInterest}). Whoever publishes sends each of them its own copy, under its
 * tag; a node that does not listen gets nothing.
 *
 * A message that is kept and not sent out reaches the members all the same. When RocketMQ does not take it, it is
 * left in Redis for the node, which fetches its mail several times a second. When its publisher dies before it has sent
 * it, the others notice within two seconds and compare positions. So does a node that hears nothing from RocketMQ, for as
 * long as that lasts. What comes late, twice or in wrong order by all this is put right by the hub.
 */
import { setTimeout as pause } from "node:timers/promises";
import type { Redis } from "ioredis";
import {
  type Accepted,
  type Broker,
  type BrokerSink,
  type History,
  InDoubtError,
  type KnownPosition,
  NotAcceptedError,
  type Publication,
} from "./broker.ts";
import { InOrder } from "./in_order.ts";
import { RedisStore, type RedisStoreOptions } from "./redis_store.ts";
import { RocketmqInterest } from "./rocketmq_interest.ts";
import { RocketmqLink } from "./rocketmq_link.ts";
import { RocketmqOutbox } from "./rocketmq_outbox.ts";
import { RocketmqRoll, rollTarget } from "./rocketmq_roll.ts";
import type { Position, Target } from "./wire.ts";

export interface RocketmqBrokerOptions extends RedisStoreOptions {
  /** `host:port` of the proxy's gRPC */
  readonly rocketmq: string;
  /**
   * Must exist, with `message.type=FIFO`. Default `gru`. The consumer groups are `<topic>-lane-<n>`, n from 0, as many
   * as there are nodes at a time; where the server does not make them by itself they must exist too.
   */
  readonly topic?: string;
}

const beatMs = 300;
const retryMs = 50;
/** How long a message waits for one that it has overtaken. */
const holdMs = 30;
/** How often positions are compared while nothing is heard from RocketMQ. */
const compareMs = 2000;
/** At the longest. */
const keepAliveMs = 3_600_000;
/** In UTF-16 units. A larger message is only announced; the nodes read it from history. */
const largestItem = 1_000_000;
const closeMs = 3000;

export class RocketmqBroker implements Broker {
  readonly #options: RocketmqBrokerOptions;
  readonly #sink: BrokerSink;
  readonly #store: RedisStore;
  readonly #roll = new RocketmqRoll();
  readonly #interest: RocketmqInterest;
  readonly #inOrder: InOrder;
  readonly #outbox: RocketmqOutbox;
  /** What is to be finished before closing. */
  readonly #tasks = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #beating: Promise<void>;
  readonly #keepingAlive: ReturnType<typeof setInterval>;
  #link: RocketmqLink | undefined;
  /** Settled with the next beat. */
  #beaten: PromiseWithResolvers<void> | undefined;
  #received = 0;
  #comparedAt = -Infinity;
  #closed: Promise<void> | undefined;

  /** @throws {TypeError} for an address of Redis that is none. */
  constructor(options: RocketmqBrokerOptions, sink: BrokerSink) {
    this.#options = options;
    this.#sink = sink;
    this.#inOrder = new InOrder((...message) => this.#sink.message(...message), holdMs);
    this.#store = new RedisStore(options, { onChange: () => this.#interest.renew() });
    this.#interest = new RocketmqInterest({
      store: this.#store,
      tag: () => this.#roll.tag,
      missed: () => this.#disrupted(),
      closing: this.#closing.signal,
    });
    this.#outbox = new RocketmqOutbox({
      send: (tag, text) => this.#post(tag, text),
      dropped: () => this.#roll.reportFault(),
    });
    this.#beating = this.#beat();
    // Comparing positions keeps what is listened to from expiring, and finds whatever was missed unnoticed.
    this.#keepingAlive = setInterval(
      () => this.#disrupted(),
      Math.min(this.#store.stateMs / 4, keepAliveMs),
    );
  }

  /** Without RocketMQ messages are accepted and arrive too, only later. */
  get connected(): boolean {
    return this.#store.servers.usable && this.#roll.lane >= 0;
  }

  /** Messages come through RocketMQ. */
  get direct(): boolean {
    return this.#link?.usable ?? false;
  }

  /** How much has come from other nodes, in UTF-16 units. */
  get received(): number {
    return this.#received;
  }

  async publish(publication: Publication): Promise<Accepted> {
    const { target, id, body } = publication;
    // Whoever is not watched could die with a message that is kept and that nobody hears of.
    if (!this.#roll.watched || this.#beaten !== undefined) await this.#nextBeat();
    let accepted;
    try {
      accepted = await this.#store.publish(publication);
    } catch (error) {
      if (error instanceof InDoubtError) this.#roll.reportFault();
      throw error;
    }
    if (accepted.id !== id) return accepted;
    const { epoch, seq } = accepted;
    if (this.#interest.has(target)) this.#inOrder.message(target, epoch, seq, body);
    this.#track(this.#forward(target, epoch, seq, body));
    return accepted;
  }

  async listen(target: Target): Promise<Position> {
    try {
      await this.#interest.enter(target);
      const position = await this.#store.position({ target, epoch: "", seq: 0 });
      this.#inOrder.begin(target, position);
      return position;
    } catch (error) {
      await this.unlisten(target);
      throw error;
    }
  }

  async unlisten(target: Target): Promise<void> {
    this.#inOrder.end(target);
    await this.#interest.leave(target);
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return this.#store.positions(known);
  }

  history(target: Target, after: Position, upTo?: number): Promise<History> {
    return this.#store.history(target, after, upTo);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#keepingAlive);
    await this.#beating;
    this.#inOrder[Symbol.dispose]();
    await within(
      closeMs,
      (async () => {
        // One that is done may have begun others.
        do {
          await Promise.all(this.#tasks);
          await this.#outbox.emptied();
        } while (this.#tasks.size > 0);
        await this.#interest.leaveAll();
        const redis = this.#redis;
        if (redis !== undefined) await this.#roll.leave(redis);
      })(),
    );
    await this.#link?.[Symbol.asyncDispose]();
    await this.#store[Symbol.asyncDispose]();
  }

  /** The connection to the server that has the roll; undefined while it can't be used. */
  get #redis(): Redis | undefined {
    return this.#store.linkOf(rollTarget)?.redis;
  }

  #disrupted(): void {
    if (this.#interest.size > 0) this.#sink.disrupted();
  }

  #track(task: Promise<void>): void {
    this.#tasks.add(task);
    task.finally(() => this.#tasks.delete(task));
  }

  // Sending

  /**
   * Asking for the nodes after the message has been counted is early enough: one that listens from a moment in between
   * knows of the message by its position.
   */
  async #forward(target: Target, epoch: string, seq: number, body: string): Promise<void> {
    let tags;
    try {
      tags = await this.#interest.others(target);
    } catch {
      return this.#roll.reportFault();
    }
    if (tags.length === 0) return;
    const item = encodeItem(target, epoch, seq, body);
    for (const tag of tags) this.#outbox.post(tag, item);
  }

  /** Through RocketMQ, or else by mail; whoever cannot be reached at all is told to compare positions. */
  async #post(tag: string, text: string): Promise<void> {
    try {
      if (this.#link?.usable) return await this.#link.send(tag, text);
    } catch {
      // As where there is no way through RocketMQ.
    }
    await this.#mail(tag, text);
  }

  async #mail(tag: string, text: string): Promise<void> {
    try {
      const redis = this.#redis;
      if (redis !== undefined && await this.#roll.post(redis, tag, text)) return;
    } catch {
      // As where there is no connection.
    }
    this.#roll.reportFault();
  }

  // Receiving

  #receive(text: string): void {
    this.#received += text.length;
    let items: [Target, string, number, string?][];
    try {
      items = JSON.parse(text);
    } catch (error) {
      this.#options.log.warn("not a message of ours in RocketMQ: {error}", { error });
      return;
    }
    for (const [target, epoch, seq, body] of items) {
      if (!this.#interest.has(target)) continue;
      if (body !== undefined) this.#inOrder.message(target, epoch, seq, body);
      else this.#track(this.#fetch(target, epoch, seq));
    }
  }

  async #fetch(target: Target, epoch: string, seq: number): Promise<void> {
    try {
      const { entries } = await this.#store.history(target, { epoch, seq: seq - 1 }, seq);
      for (const entry of entries) {
        if (entry.epoch === epoch) this.#inOrder.message(target, epoch, entry.seq, entry.body);
      }
      if (entries.length > 0) return;
    } catch {
      // As where it was not found.
    }
    this.#disrupted();
  }

  // Being there

  async #beat(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const redis = this.#redis;
      try {
        if (redis !== undefined) await this.#beatOnce(redis);
      } catch (error) {
        this.#options.log.debug("Redis did not take a sign of life: {error}", { error });
      }
      const untilNext = redis === undefined ? retryMs : beatMs;
      await pause(untilNext, undefined, { signal }).catch(() => {});
    }
    this.#beaten?.reject(new NotAcceptedError("the broker is closed"));
  }

  /** Those who wait go on in the order of their calls. @throws {NotAcceptedError} */
  async #nextBeat(): Promise<void> {
    if (this.#closing.signal.aborted) throw new NotAcceptedError("the broker is closed");
    this.#beaten ??= Promise.withResolvers();
    const { promise } = this.#beaten;
    const over = new AbortController();
    const late = pause(this.#options.publishMs, undefined, { signal: over.signal }).then(() => {
      throw new NotAcceptedError(`Redis did not answer within ${this.#options.publishMs} ms`);
    });
    late.catch(() => {});
    try {
      await Promise.race([promise, late]);
    } finally {
      over.abort();
    }
  }

  async #beatOnce(redis: Redis): Promise<void> {
    const { moved, faulty, gone, mail } = await this.#roll.beat(redis);
    this.#beaten?.resolve();
    this.#beaten = undefined;
    this.#interest.bury(gone);
    if (moved) this.#openLink();
    for (const text of mail) this.#receive(text);
    this.#interest.renew();
    const compare = !this.direct && performance.now() - this.#comparedAt > compareMs;
    if (compare) this.#comparedAt = performance.now();
    if (faulty || compare) this.#disrupted();
  }

  #openLink(): void {
    if (this.#link !== undefined) this.#track(this.#link[Symbol.asyncDispose]());
    const { rocketmq, topic = "gru", log } = this.#options;
    this.#link = new RocketmqLink({
      endpoints: rocketmq,
      topic,
      group: `${topic}-lane-${this.#roll.lane}`,
      holdsGroup: () => this.#roll.holdsLane,
      tag: this.#roll.tag,
      receive: (text) => this.#receive(text),
      opened: () => this.#disrupted(),
      log,
    });
  }
}

function encodeItem(target: Target, epoch: string, seq: number, body: string): string {
  const withBody = body.length <= largestItem;
  return JSON.stringify(withBody ? [target, epoch, seq, body] : [target, epoch, seq]);
}

/** Waits for the work's end or failure, not longer than the time given. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  await Promise.race([
    work.catch(() => {}).finally(() => over.abort()),
    pause(ms, undefined, { signal: over.signal }).catch(() => {}),
  ]);
}
