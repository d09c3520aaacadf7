/**
 * The broker whose messages are carried by RocketMQ. {@linkcode RedisStore} assigns the positions and stores the
 * messages; in the same step it says which nodes listen to the target ({@linkcode RocketmqInterest}). The publishing node
 * sends a copy to each of these nodes, under the node's tag. A node that does not listen gets nothing.
 *
 * Each node gets messages in its own way. Nodes in mode `redis` subscribe to a target's channel, and the step publishes
 * there. Nodes in mode `rocketmq` subscribe to a second channel, on which a node publishes that does not use RocketMQ, and
 * to which a node resorts when RocketMQ fails here or at one that listens (the detour). So both modes may run side by side,
 * and without RocketMQ it is as in mode `redis`.
 *
 * A message that is stored but not sent still reaches the members. If RocketMQ does not accept it, it is put into the
 * node's fallback mailbox in Redis, which the node reads several times a second. If the publisher dies before it has
 * sent it, the other nodes notice within two seconds and compare positions. A node that receives nothing from RocketMQ
 * also compares positions as long as that lasts. The hub repairs whatever arrives late, twice or in the wrong order
 * because of this.
 */
import { pause } from "@gru/shared/pause";
import { inTime, within } from "@gru/shared/within";
import type { Redis } from "ioredis";
import {
  type Accepted,
  type BrokerSink,
  type Carrier,
  type HistoryPage,
  InDoubtError,
  type KnownPosition,
  NotAcceptedError,
  type Publication,
  type ServedBroker,
} from "../broker/broker.ts";
import { InOrder } from "./in_order.ts";
import { RedisStore, type RedisStoreOptions } from "../redis/store.ts";
import { Subscriptions } from "../redis/subscriptions.ts";
import { RocketmqInterest } from "./interest.ts";
import type { RocketmqAccess } from "./client.ts";
import { RocketmqLink } from "./link.ts";
import { RocketmqOutbox } from "./outbox.ts";
import { membershipTarget, RocketmqMembership } from "./membership.ts";
import type { Position, Target } from "../wire.ts";

export interface RocketmqBrokerOptions extends RedisStoreOptions, RocketmqAccess {
  /** `host:port` of the proxies' gRPC */
  readonly proxies: readonly string[];
  /** Must exist, with `message.type=FIFO`. */
  readonly topic: string;
  /**
   * The cluster's identity. The consumer groups are `<topic>-<identity>-lane-<n>`, where n is a slot from 0, as many as
   * there are nodes at one time. If the server does not create groups by itself, they must exist too. Clusters may share a
   * topic: tags and groups of two clusters differ.
   */
  readonly cluster: Promise<string>;
}

const beatMs = 300;
const retryMs = 50;
/** How long a message waits for an earlier one. */
const holdMs = 30;
/** How often positions are compared while nothing arrives from RocketMQ. */
const compareMs = 2000;
/** The longest interval. */
const keepAliveMs = 3_600_000;
/** In UTF-16 units. A larger message is only announced; the nodes read it from history. */
const largestItem = 1_000_000;
const closeMs = 3000;

export class RocketmqBroker implements ServedBroker {
  readonly #options: RocketmqBrokerOptions;
  readonly #sink: BrokerSink;
  readonly #store: RedisStore;
  readonly #membership = new RocketmqMembership({ direct: () => this.direct });
  readonly #interest: RocketmqInterest;
  readonly #subscriptions: Subscriptions;
  readonly #inOrder: InOrder;
  readonly #outbox: RocketmqOutbox;
  /** Work that must end before closing. */
  readonly #tasks = new Set<Promise<void>>();
  readonly #closing = new AbortController();
  readonly #beating: Promise<void>;
  readonly #keepingAlive: ReturnType<typeof setInterval>;
  #link: RocketmqLink | undefined;
  /** Settled by the next heartbeat. */
  #nextBeatDone: PromiseWithResolvers<void> | undefined;
  #cluster: string | undefined;
  #received = 0;
  readonly #sent = { direct: 0, detour: 0, mailbox: 0 };
  #comparedAt = -Infinity;
  #closed: Promise<void> | undefined;

  /** @throws {TypeError} for an invalid address of Redis. */
  constructor(options: RocketmqBrokerOptions, sink: BrokerSink) {
    this.#options = options;
    this.#sink = sink;
    this.#inOrder = new InOrder((...message) => this.#sink.message(...message), holdMs);
    this.#store = new RedisStore(options, {
      onChange: () => {
        this.#interest.renew();
        void this.#subscriptions.renew();
      },
      onMessage: (channel, text) => this.#receiveOverRedis(channel, text),
      seen: () => sink.seen(),
      overRedis: () => this.direct ? this.#membership.overRedis : "all",
    });
    this.#subscriptions = new Subscriptions({
      store: this.#store,
      channelOf: (target) => this.#store.detourOf(target),
      disrupted: () => this.#disrupted(),
      log: options.log,
    });
    this.#interest = new RocketmqInterest({
      store: this.#store,
      tag: () => this.#membership.tag,
      missed: () => this.#disrupted(),
      closing: this.#closing.signal,
    });
    this.#outbox = new RocketmqOutbox({
      send: (tag, text) => this.#post(tag, text),
      dropped: () => this.#membership.reportFault(),
    });
    options.cluster.then((id) => this.#cluster = id, () => {});
    this.#beating = this.#beat();
    // Comparing positions keeps the targets from expiring, and finds messages that were missed without notice.
    this.#keepingAlive = setInterval(
      () => this.#disrupted(),
      Math.min(this.#store.stateMs / 4, keepAliveMs),
    );
  }

  /** Without RocketMQ messages are accepted and arrive too, only later. */
  get connected(): boolean {
    return this.#store.servers.usable && this.#membership.slot >= 0;
  }

  /** Messages arrive through RocketMQ. */
  get direct(): boolean {
    return this.#link?.usable ?? false;
  }

  get carrier(): Carrier {
    return {
      direct: this.direct,
      trouble: this.#link?.trouble ?? "",
      roundTripMs: this.#link?.roundTripMs ?? NaN,
      sent: this.#sent,
      faults: this.#membership.reported,
      waiting: this.#outbox.waiting,
    };
  }

  /** How much has arrived from other nodes, in UTF-16 units. */
  get received(): number {
    return this.#received;
  }

  proveWritable(): Promise<void> {
    return this.#store.proveWritable();
  }

  async publish(publication: Publication): Promise<Accepted> {
    const { target, id, body } = publication;
    // A node without a recent heartbeat could die with a stored message that no other node hears of.
    if (!this.#membership.watched || this.#nextBeatDone !== undefined) await this.#nextBeat();
    let accepted;
    try {
      accepted = await this.#store.publish(publication);
    } catch (error) {
      if (error instanceof InDoubtError) this.#membership.reportFault();
      throw error;
    }
    const { epoch, seq } = accepted;
    // An ephemeral one has been sent to all, this node included.
    if (accepted.id !== id || seq === 0) return { id: accepted.id, epoch, seq };
    if (this.#interest.has(target)) this.#inOrder.message(target, epoch, seq, body);
    const tags = this.#interest.others(target, accepted.toCarry);
    if (accepted.overRedis) this.#sent.detour++;
    if (tags.length > 0) {
      const item = encodeItem(target, epoch, seq, body);
      for (const tag of tags) this.#outbox.post(tag, item);
    }
    return { id, epoch, seq };
  }

  async listen(target: Target): Promise<Position> {
    try {
      await this.#interest.enter(target);
      const position = await this.#subscriptions.listen(target);
      this.#inOrder.begin(target, position);
      return position;
    } catch (error) {
      await this.unlisten(target);
      throw error;
    }
  }

  async unlisten(target: Target, seen?: Position): Promise<void> {
    if (seen !== undefined) this.#store.left({ target, ...seen });
    this.#inOrder.end(target);
    await Promise.all([this.#interest.leave(target), this.#subscriptions.unlisten(target)]);
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return this.#store.positions(known);
  }

  history(target: Target, after: Position, bytes?: number): Promise<HistoryPage> {
    return this.#store.history(target, after, bytes);
  }

  clear(target: Target): Promise<void> {
    return this.#store.clear(target);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    clearInterval(this.#keepingAlive);
    this.#subscriptions.clear();
    await this.#beating;
    this.#inOrder[Symbol.dispose]();
    await within(
      (async () => {
        // A task that ended may have started others.
        do {
          await Promise.all(this.#tasks);
          await this.#outbox.emptied();
        } while (this.#tasks.size > 0);
        await this.#interest.leaveAll();
        const redis = this.#redis;
        if (redis !== undefined) await this.#membership.leave(redis);
      })(),
      closeMs,
    );
    await this.#link?.[Symbol.asyncDispose]();
    await this.#store[Symbol.asyncDispose]();
  }

  /** The connection to the server that stores the membership; undefined while it cannot be used. */
  get #redis(): Redis | undefined {
    return this.#store.linkOf(membershipTarget)?.redis;
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
   * Sends through RocketMQ, otherwise through the fallback mailbox. If neither works, all nodes are notified to compare
   * positions.
   */
  async #post(tag: string, text: string): Promise<void> {
    try {
      if (this.#link?.usable) {
        await this.#link.send(tag, text);
        this.#sent.direct++;
        return;
      }
    } catch {
      // Use the mailbox.
    }
    await this.#sendToMailbox(tag, text);
  }

  async #sendToMailbox(tag: string, text: string): Promise<void> {
    try {
      const redis = this.#redis;
      if (redis !== undefined && await this.#membership.post(redis, tag, text)) {
        this.#sent.mailbox++;
        return;
      }
    } catch {
      // The same as without a connection.
    }
    this.#membership.reportFault();
  }

  // Receiving

  #receiveOverRedis(channel: string, text: string): void {
    const [target, epoch, seq, body] = this.#store.parse(channel, text);
    if (!this.#interest.has(target)) return;
    if (seq === 0) this.#sink.message(target, epoch, seq, body);
    else this.#inOrder.message(target, epoch, seq, body);
  }

  #receive(text: string): void {
    this.#received += text.length;
    let items: [Target, string, number, string?][];
    try {
      items = JSON.parse(text);
    } catch (error) {
      this.#options.log.warn(
        "ignored a message in RocketMQ that this cluster did not send: {error}",
        { error },
      );
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
      const { entries: [entry] } = await this.#store.history(target, { epoch, seq: seq - 1 }, 0);
      if (entry?.epoch === epoch && entry.seq === seq) {
        return this.#inOrder.message(target, epoch, seq, entry.body);
      }
    } catch {
      // The same as when it was not found.
    }
    this.#disrupted();
  }

  // Membership

  async #beat(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      const redis = this.#redis;
      try {
        if (redis !== undefined) await this.#beatOnce(redis);
      } catch (error) {
        this.#options.log.debug("Redis did not accept a heartbeat: {error}", { error });
      }
      const untilNext = redis === undefined ? retryMs : beatMs;
      await pause(untilNext, signal);
    }
    this.#nextBeatDone?.reject(new NotAcceptedError("the broker is closed"));
  }

  /** Waiting calls continue in their order. @throws {NotAcceptedError} */
  async #nextBeat(): Promise<void> {
    if (this.#closing.signal.aborted) throw new NotAcceptedError("the broker is closed");
    this.#nextBeatDone ??= Promise.withResolvers();
    const { promise } = this.#nextBeatDone;
    const { publishMs } = this.#options;
    const late = () => new NotAcceptedError(`Redis did not answer within ${publishMs} ms`);
    await inTime(promise, publishMs, late);
  }

  async #beatOnce(redis: Redis): Promise<void> {
    const { changed, faulty, gone, mailbox } = await this.#membership.beat(redis);
    this.#nextBeatDone?.resolve();
    this.#nextBeatDone = undefined;
    this.#interest.removeNodes(gone);
    if (this.#cluster !== undefined && (changed || this.#link === undefined)) {
      this.#openLink(this.#cluster);
    }
    for (const text of mailbox) this.#receive(text);
    this.#interest.renew();
    const compare = !this.direct && performance.now() - this.#comparedAt > compareMs;
    if (compare) this.#comparedAt = performance.now();
    if (faulty || compare) this.#disrupted();
  }

  #openLink(cluster: string): void {
    if (this.#link !== undefined) this.#track(this.#link[Symbol.asyncDispose]());
    const { topic } = this.#options;
    this.#link = new RocketmqLink({
      ...this.#options,
      group: `${topic}-${cluster}-lane-${this.#membership.slot}`,
      holdsGroup: () => this.#membership.holdsSlot,
      tag: this.#membership.tag,
      receive: (text) => this.#receive(text),
      opened: () => this.#disrupted(),
    });
  }
}

function encodeItem(target: Target, epoch: string, seq: number, body: string): string {
  const withBody = body.length <= largestItem;
  return JSON.stringify(withBody ? [target, epoch, seq, body] : [target, epoch, seq]);
}
