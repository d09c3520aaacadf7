/**
 * The broker whose messages travel through RocketMQ. Counting, history and idempotency are those of
 * {@linkcode RedisBroker}. Which nodes listen to a target is a hash in Redis, `gru:{<target>}:nodes`: tag of the node →
 * Unix ms until which that holds if it is not renewed. Whoever publishes sends each of them its own copy, under its tag;
 * a node that does not listen gets nothing.
 *
 * A message that is kept and not sent out reaches the members all the same. When RocketMQ does not take it, it is
 * left in Redis for the node, which fetches its mail several times a second. When its publisher dies before it has sent
 * it, the others notice within two seconds and compare positions. So does a node that hears nothing from RocketMQ, for as
 * long as that lasts. What comes late, twice or in wrong order by all this is put right by the hub.
 */
import { setImmediate, setTimeout as pause } from "node:timers/promises";
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
import { RedisBroker, type RedisBrokerOptions } from "./broker_redis.ts";
import { InOrder } from "./in_order.ts";
import { ClusterRedis } from "./redis_cluster.ts";
import { parseRedisAddress, type RedisServers, SoleRedis } from "./redis_servers.ts";
import { RocketmqLink } from "./rocketmq_link.ts";
import { RocketmqRoll, rollTarget } from "./rocketmq_roll.ts";
import type { Position, Target } from "./wire.ts";

export interface RocketmqBrokerOptions extends RedisBrokerOptions {
  /** `host:port` of the proxy's gRPC */
  readonly rocketmq: string;
  /**
   * Must exist, with `message.type=FIFO`. Default `gru`. The consumer groups are `<topic>-lane-<n>`, n from 0, as many
   * as there are nodes at a time; where the server does not make them by itself they must exist too.
   */
  readonly topic?: string;
}

interface Outbox {
  items: string[];
  size: number;
}

/** Where a target's entry for this node stands. */
interface Registration {
  readonly tag: string;
  readonly connection: object;
  /** Unix ms */
  readonly renewAt: number;
}

const beatMs = 300;
/** An entry of a node that listens. Far more than clocks differ. */
const interestMs = 900_000;
const renewMs = 300_000;
const registrationsAtOnce = 500;
const retryMs = 50;
/** How long a message waits for one that it has overtaken. */
const holdMs = 30;
/** How often positions are compared while nothing is heard from RocketMQ. */
const compareMs = 2000;
/** At the longest. */
const keepAliveMs = 3_600_000;
/** Sizes are in UTF-16 units; RocketMQ takes up to 4 MB a message. */
const batchSize = 250_000;
const batchItems = 1000;
/** A larger message is only announced; the nodes read it from history. */
const largestItem = 1_000_000;
const outboxSize = 32_000_000;
const closeMs = 3000;

export class RocketmqBroker implements Broker {
  readonly #options: RocketmqBrokerOptions;
  readonly #sink: BrokerSink;
  readonly #store: RedisBroker;
  readonly #servers: RedisServers;
  readonly #roll = new RocketmqRoll();
  readonly #inOrder: InOrder;
  readonly #listening = new Map<Target, Registration | undefined>();
  /** Tags of nodes that have gone, and until when (Unix ms) entries of theirs may be found. */
  readonly #buried = new Map<string, number>();
  readonly #outboxes = new Map<string, Outbox>();
  /** What is to be finished before closing. */
  readonly #tasks = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #beating: Promise<void>;
  readonly #keepingAlive: ReturnType<typeof setInterval>;
  #link: RocketmqLink | undefined;
  /** Settled with the next beat. */
  #beaten: PromiseWithResolvers<void> | undefined;
  #received = 0;
  #registering: Promise<void> | undefined;
  #comparedAt = -Infinity;
  #closed: Promise<void> | undefined;

  /** @throws {TypeError} for an address of Redis that is none. */
  constructor(options: RocketmqBrokerOptions, sink: BrokerSink) {
    const { url, password, node, log, history, publishMs } = options;
    this.#options = options;
    this.#sink = sink;
    this.#inOrder = new InOrder((...message) => this.#sink.message(...message), holdMs);
    const address = parseRedisAddress(url);
    const settings = {
      ...{ password, log, name: `gru-${node}-rocketmq` },
      prepare: () => Promise.resolve(),
      onMessage() {},
      onChange: () => this.#register(),
    };
    this.#servers = address.kind === "cluster"
      ? new ClusterRedis(address.nodes, settings)
      : new SoleRedis(address.place, settings);
    this.#store = new RedisBroker(options, { message() {}, disrupted() {} });
    this.#beating = this.#beat();
    // Comparing positions keeps what is listened to from expiring, and finds whatever was missed unnoticed.
    this.#keepingAlive = setInterval(
      () => this.#disrupted(),
      Math.min(Math.max(history.ageMs / 2, publishMs), keepAliveMs),
    );
  }

  /** Without RocketMQ messages are accepted and arrive too, only later. */
  get connected(): boolean {
    return this.#store.connected && this.#servers.usable && this.#roll.lane >= 0;
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
    if (this.#listening.has(target)) this.#inOrder.message(target, epoch, seq, body);
    this.#track(this.#forward(target, epoch, seq, body));
    return accepted;
  }

  async listen(target: Target): Promise<Position> {
    this.#listening.set(target, undefined);
    try {
      await this.#registerSoon(target);
      const [position] = await this.#store.positions([{ target, epoch: "", seq: 0 }]);
      if (position === undefined) throw new NotAcceptedError(`no position of ${target}`);
      this.#inOrder.begin(target, position);
      return position;
    } catch (error) {
      await this.unlisten(target);
      throw error;
    }
  }

  async unlisten(target: Target): Promise<void> {
    this.#listening.delete(target);
    this.#inOrder.end(target);
    await this.#commands(target)?.hdel(nodesKey(target), this.#roll.tag).catch(() => {});
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
        while (this.#tasks.size > 0) await Promise.all(this.#tasks);
        const targets = [...this.#listening.keys()];
        this.#listening.clear();
        await inBatches(targets, async (target) => {
          await this.#commands(target)?.hdel(nodesKey(target), this.#roll.tag);
        });
        const redis = this.#commands(rollTarget);
        if (redis !== undefined) await this.#roll.leave(redis);
      })(),
    );
    await this.#link?.[Symbol.asyncDispose]();
    await Promise.all([this.#servers, this.#store].map((part) => part[Symbol.asyncDispose]()));
  }

  /** The connection to the server that has the target; undefined while it can't be used. */
  #commands(target: Target): Redis | undefined {
    const commands = this.#servers.serverOf(target)?.commands;
    return commands?.usable ? commands.redis : undefined;
  }

  #disrupted(): void {
    if (this.#listening.size > 0) this.#sink.disrupted();
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
    let nodes;
    try {
      nodes = await this.#commands(target)?.hgetall(nodesKey(target));
    } catch {
      // As where there is no connection.
    }
    if (nodes === undefined) return this.#roll.reportFault();
    let item: string | undefined;
    for (const [tag, until] of Object.entries(nodes)) {
      if (tag === this.#roll.tag) continue;
      if (this.#buried.has(tag) || Number(until) < Date.now()) {
        this.#commands(target)?.hdel(nodesKey(target), tag).catch(() => {});
        continue;
      }
      item ??= encodeItem(target, epoch, seq, body);
      this.#post(tag, item);
    }
  }

  #post(tag: string, item: string): void {
    let outbox = this.#outboxes.get(tag);
    if (outbox === undefined) {
      outbox = { items: [], size: 0 };
      this.#outboxes.set(tag, outbox);
      this.#track(this.#empty(tag, outbox));
    }
    outbox.items.push(item);
    outbox.size += item.length;
    if (outbox.size <= outboxSize) return;
    outbox.items = [];
    outbox.size = 0;
    this.#roll.reportFault();
  }

  /** One after the other, so that they stay in order; what comes meanwhile goes together. */
  async #empty(tag: string, outbox: Outbox): Promise<void> {
    while (true) {
      // What comes in this turn goes together too.
      await setImmediate();
      if (outbox.items.length === 0) break;
      const text = `[${takeBatch(outbox).join()}]`;
      try {
        if (!this.#link?.usable) throw new Error("RocketMQ is out of reach");
        await this.#link.send(tag, text);
      } catch {
        await this.#mail(tag, text);
      }
    }
    this.#outboxes.delete(tag);
  }

  async #mail(tag: string, text: string): Promise<void> {
    try {
      const redis = this.#commands(rollTarget);
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
      if (!this.#listening.has(target)) continue;
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
      const redis = this.#commands(rollTarget);
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
    const now = Date.now();
    for (const tag of gone) this.#buried.set(tag, now + interestMs);
    for (const [tag, until] of this.#buried) {
      if (until > now) break;
      this.#buried.delete(tag);
    }
    if (moved) this.#openLink();
    for (const text of mail) this.#receive(text);
    this.#register();
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

  /** Enters this node wherever it listens and is not entered: anew after a reconnect, under a new tag, and from time to time. */
  #register(): void {
    this.#registering ??= this.#registerAll().finally(() => this.#registering = undefined);
  }

  async #registerAll(): Promise<void> {
    const now = Date.now();
    const due = [...this.#listening].filter(([target, registration]) =>
      registration !== undefined && !this.#isCurrent(target, registration, now)
    );
    let missed = false;
    await inBatches(due, async ([target, registration]) => {
      await this.#enter(target);
      if (registration !== undefined && registration.renewAt > now) missed = true;
    }).catch(() => {
      // Tried again with the next beat.
    });
    // Only what was not merely renewed: from the old entry nothing has come for a while.
    if (missed && !this.#closing.signal.aborted) this.#disrupted();
  }

  #isCurrent(target: Target, { tag, connection, renewAt }: Registration, now: number): boolean {
    const present = this.#servers.serverOf(target)?.commands.connection;
    // Without a connection there is nothing to do now.
    if (present === undefined) return true;
    return tag === this.#roll.tag && connection === present && renewAt > now;
  }

  async #enter(target: Target): Promise<boolean> {
    const commands = this.#servers.serverOf(target)?.commands;
    const connection = commands?.connection;
    if (commands === undefined || connection === undefined) return false;
    const { tag } = this.#roll;
    const key = nodesKey(target);
    const now = Date.now();
    await Promise.all([
      commands.redis.hset(key, tag, now + interestMs),
      commands.redis.pexpire(key, interestMs),
    ]);
    if (!this.#listening.has(target)) {
      // Left meanwhile, maybe on an older connection.
      await commands.redis.hdel(key, tag);
      return true;
    }
    // At different times, so that not all are renewed at once.
    const renewAt = now + renewMs * (0.5 + Math.random() / 2);
    this.#listening.set(target, { tag, connection, renewAt });
    return true;
  }

  /** @throws {NotAcceptedError} */
  async #registerSoon(target: Target): Promise<void> {
    const { publishMs } = this.#options;
    const deadline = performance.now() + publishMs;
    let cause: unknown;
    while (!this.#closing.signal.aborted) {
      try {
        if (await this.#enter(target)) return;
      } catch (error) {
        cause = error;
      }
      if (performance.now() > deadline) {
        throw new NotAcceptedError(`Redis did not answer within ${publishMs} ms`, { cause });
      }
      await pause(retryMs);
    }
    throw new NotAcceptedError("the broker is closed");
  }
}

function nodesKey(target: Target): string {
  return `gru:{${target}}:nodes`;
}

function encodeItem(target: Target, epoch: string, seq: number, body: string): string {
  const withBody = body.length <= largestItem;
  return JSON.stringify(withBody ? [target, epoch, seq, body] : [target, epoch, seq]);
}

function takeBatch(outbox: Outbox): string[] {
  let [count, size] = [0, 0];
  for (const { length } of outbox.items) {
    if (count > 0 && (size + length > batchSize || count === batchItems)) break;
    count++;
    size += length;
  }
  outbox.size -= size;
  return outbox.items.splice(0, count);
}

async function inBatches<T>(
  list: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < list.length; at += registrationsAtOnce) {
    await Promise.all(list.slice(at, at + registrationsAtOnce).map(work));
  }
}

/** Waits for the work's end or failure, not longer than the time given. */
async function within(ms: number, work: Promise<unknown>): Promise<void> {
  const over = new AbortController();
  await Promise.race([
    work.catch(() => {}).finally(() => over.abort()),
    pause(ms, undefined, { signal: over.signal }).catch(() => {}),
  ]);
}
