/**
 * One node's connection to RocketMQ: sends texts to other nodes by their tag, and receives its own from a consumer
 * group. It works through one of the proxies, and begins anew with the next one when nothing has worked for a while: so
 * whatever an operator puts right is noticed without a restart.
 */
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import { within } from "@gru/shared/within";
import type { MessageView } from "rocketmq-client-nodejs";
import { causeOf, hastyAnswers } from "./causes.ts";
import {
  type Broker,
  openClients,
  type Receiver,
  type RocketmqAccess,
  type Sender,
} from "./client.ts";

export interface RocketmqLinkOptions extends RocketmqAccess {
  /** The proxies' gRPC addresses, `host:port` or `[::1]:port`; one at a time is used. */
  readonly proxies: readonly string[];
  /** Of type FIFO: messages from one node to another stay in one queue, in order. */
  readonly topic: string;
  readonly group: string;
  /** Returns true when the group belongs to this link alone; only then it may request messages. */
  readonly holdsGroup: () => boolean;
  /** Messages sent to this tag reach this link. */
  readonly tag: string;
  readonly receive: (text: string) => void;
  /** The connection works (again); messages sent to the tag before may be late or lost. */
  readonly opened: () => void;
  readonly log: Logger;
}

const probeEveryMs = 1000;
/** The connection counts as broken when no probe has come back for this long. */
const silenceMs = 4000;
/** Clients with which nothing works for this long are replaced. */
const patienceMs = 8000;
const routesEveryMs = 10_000;
const retryMs = 300;
/** A text is sent another way only if it has failed soon: a server that does not answer may have stored it. */
const soonMs = 1000;
const ways = 4;
/** Longer than a request for messages takes. */
const closeMs = 9000;
/** A server that has no message keeps the answer back for longer than this. One that never does is not asked all the time. */
const hastyMs = 1000;
const hastyMost = 5;
/** Begins a text that no node sends as a message. */
const probe = "probe";
const remembered = 1000;

export class RocketmqLink implements AsyncDisposable {
  readonly #options: RocketmqLinkOptions;
  readonly #running: Promise<void>;
  readonly #closing = new AbortController();
  readonly #polls = new Set<Promise<void>>();
  /** How a text last reached a node, where the first way had failed. */
  readonly #ways = new Map<string, number>();
  /** The probes that the server has and that have not come back, with the time on the clock of `performance.now()`. */
  readonly #underWay = new Map<string, number>();
  /** The brokers that cannot be polled now. */
  readonly #failing = new Set<string>();
  /** What the log holds since all worked, by the kind of cause. */
  readonly #told = new Map<string, string>();
  #sender: Sender | undefined;
  #proxy = 0;
  #probes = 0;
  #works = false;
  #heardAt = -Infinity;
  #failedAt = -Infinity;
  #roundTripMs = NaN;

  constructor(options: RocketmqLinkOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Probes that this node sends to itself come back, over all brokers that take them, and no text has failed since. */
  get usable(): boolean {
    const now = performance.now();
    if (!this.#works || now - this.#heardAt > silenceMs) return false;
    if (this.#failing.size > 0) return true;
    return !this.#underWay.values().some((at) => now - at > silenceMs);
  }

  /** Of the last probe that came back, NaN before. */
  get roundTripMs(): number {
    return this.#roundTripMs;
  }

  /** What does not work now, as the log says it; "" when all does. */
  get trouble(): string {
    return [...this.#told.values()].at(-1) ?? "";
  }

  /**
   * Resolves when the server has stored the text. Rejects in bounded time; the server may have stored it nevertheless.
   */
  async send(tag: string, text: string): Promise<void> {
    const startedAt = performance.now();
    for (let attempt = 1; true; attempt++) {
      const way = this.#ways.get(tag) ?? 0;
      try {
        return await this.#post(tag, way, text);
      } catch (error) {
        this.#note("sending", error);
        if (this.#ways.size > remembered) this.#ways.clear();
        this.#ways.set(tag, (way + 1) % ways);
        if (attempt < ways && performance.now() - startedAt < soonMs) continue;
        // Where one broker of several does not answer, what goes to the others is not to wait.
        if (performance.now() - this.#heardAt > 2 * probeEveryMs) this.#works = false;
        throw error;
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#works = false;
      this.#closing.abort();
      // Ends the requests for messages that are under way, because they cannot be cancelled.
      await Promise.all(
        Array.from({ length: ways }, (_, way) => this.#post(this.#options.tag, way, probe)),
      ).catch(() => {});
    }
    await this.#running;
  }

  async #post(tag: string, way: number, text: string): Promise<void> {
    if (this.#sender === undefined) throw new Error("RocketMQ cannot be reached");
    await this.#sender.post(this.#options.topic, tag, way, text);
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { proxies, group, tag } = this.#options;
    while (!signal.aborted) {
      try {
        await using stack = new AsyncDisposableStack();
        const options = { ...this.#options, proxy: this.#address };
        const { sender, receiver } = await openClients(stack, options, { group, tag }, signal);
        this.#sender = sender;
        stack.defer(() => this.#sender = undefined);
        await this.#work(sender, receiver);
      } catch (error) {
        this.#note("starting", error);
      }
      this.#proxy = (this.#proxy + 1) % proxies.length;
      await pause(retryMs, signal);
    }
  }

  get #address(): string {
    return this.#options.proxies[this.#proxy] ?? "";
  }

  /** Until nothing works any more, or the link is closed. */
  async #work(sender: Sender, receiver: Receiver): Promise<void> {
    const { signal } = this.#closing;
    const { topic } = this.#options;
    const startedAt = performance.now();
    let [routesAt, probedAt] = [startedAt, -Infinity];
    const polled = new Map<string, AbortController>();
    this.#underWay.clear();
    try {
      while (!signal.aborted) {
        const now = performance.now();
        if (now - Math.max(startedAt, this.#heardAt) > patienceMs) return;
        if (now - routesAt > routesEveryMs) {
          routesAt = now;
          void Promise.all([sender.refresh(), receiver.refresh()])
            .catch((error) => this.#note("asking for the topic", error));
        }
        const brokers = await receiver.brokers(topic);
        this.#pollAll(receiver, brokers, polled);
        if (now - probedAt > probeEveryMs) {
          probedAt = now;
          void this.#sendProbe();
        }
        await pause(retryMs, signal);
      }
    } finally {
      for (const over of polled.values()) over.abort();
      await within(Promise.all(this.#polls), signal.aborted ? closeMs : 0);
      this.#failing.clear();
    }
  }

  /** One loop for each broker that there is now. */
  #pollAll(receiver: Receiver, brokers: readonly Broker[], polled: Map<string, AbortController>) {
    const names = new Set(brokers.map(({ broker }) => broker.name));
    for (const [name, over] of polled) {
      if (names.has(name)) continue;
      over.abort();
      polled.delete(name);
      this.#failing.delete(name);
    }
    for (const broker of brokers) {
      const { name } = broker.broker;
      if (polled.has(name)) continue;
      const over = new AbortController();
      polled.set(name, over);
      const poll = this.#poll(receiver, broker, over.signal);
      this.#polls.add(poll);
      poll.finally(() => this.#polls.delete(poll));
    }
  }

  async #poll(receiver: Receiver, broker: Broker, over: AbortSignal): Promise<void> {
    const { holdsGroup, tag } = this.#options;
    const { name } = broker.broker;
    const ended = () => over.aborted || this.#closing.signal.aborted;
    let hasty = 0;
    while (!ended()) {
      try {
        if (holdsGroup()) {
          const askedAt = performance.now();
          const messages = await receiver.poll(broker, tag);
          this.#take(receiver, messages);
          hasty = messages.length === 0 && performance.now() - askedAt < hastyMs ? hasty + 1 : 0;
          if (hasty > hastyMost) throw new Error(hastyAnswers);
          this.#failing.delete(name);
          continue;
        }
        this.#works = false;
      } catch (error) {
        if (ended()) return;
        this.#failing.add(name);
        this.#note("receiving", error);
      }
      await pause(retryMs, over);
    }
  }

  #take(receiver: Receiver, messages: readonly MessageView[]): void {
    if (messages.length === 0) return;
    // A message that is not acknowledged is delivered again, and recognised then.
    receiver.acknowledge(this.#options.topic, messages)
      .catch((error) => this.#note("acknowledging", error));
    for (const { body, tag } of messages) {
      if (tag !== this.#options.tag) continue;
      const text = body.toString();
      if (text.startsWith(probe)) this.#heardProbe(text);
      else this.#options.receive(text);
    }
  }

  async #sendProbe(): Promise<void> {
    const number = ++this.#probes;
    const text = `${probe} ${number}`;
    const now = performance.now();
    // What a broker had when it died comes back when it does, or never.
    for (const [one, at] of this.#underWay) {
      if (now - at > 2 * silenceMs) this.#underWay.delete(one);
    }
    this.#underWay.set(text, now);
    try {
      await this.#post(this.#options.tag, number % ways, text);
    } catch (error) {
      this.#underWay.delete(text);
      this.#note("sending", error);
    }
  }

  #heardProbe(text: string): void {
    const sentAt = this.#underWay.get(text);
    if (sentAt === undefined || this.#closing.signal.aborted) return;
    const now = performance.now();
    this.#underWay.delete(text);
    this.#roundTripMs = now - sentAt;
    const wasUsable = this.usable;
    this.#heardAt = now;
    this.#works = true;
    if (this.#told.size > 0 && now - this.#failedAt > silenceMs && this.#failing.size === 0) {
      this.#told.clear();
      this.#options.log.info("RocketMQ works again, all of it");
    }
    if (!wasUsable) this.#options.opened();
  }

  /** Each cause once, until all works again. */
  #note(action: string, error: unknown): void {
    if (this.#closing.signal.aborted) return;
    this.#failedAt = performance.now();
    const { topic, group, log } = this.#options;
    const cause = causeOf(error, { proxy: this.#address, topic, group });
    // What follows in brackets differs from one time to the next.
    const [kind = ""] = cause.split(" (");
    // The clients are being replaced, and why has been said.
    if (/^(RocketMQ cannot be reached|closed)$/.test(cause) || this.#told.has(kind)) return;
    if (this.#told.size >= 10) return;
    this.#told.set(kind, cause);
    log.warn("RocketMQ: {cause}; {action} failed, messages take the way through Redis meanwhile", {
      ...{ action, cause },
    });
  }
}
