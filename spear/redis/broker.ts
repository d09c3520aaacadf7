/**
 * The broker over Redis. {@linkcode RedisStore} counts, keeps and sends out; here a node subscribes to the channels of
 * what it listens to.
 */
import type {
  Accepted,
  BrokerSink,
  HistoryPage,
  KnownPosition,
  Publication,
  ServedBroker,
} from "../broker/broker.ts";
import { RedisStore, type RedisStoreOptions } from "./store.ts";
import { Subscriptions } from "./subscriptions.ts";
import type { Position, Target } from "../wire.ts";

/** At the longest. */
const keepAliveMs = 3_600_000;

export class RedisBroker implements ServedBroker {
  readonly #sink: BrokerSink;
  readonly #store: RedisStore;
  readonly #subscriptions: Subscriptions;
  readonly #keepingAlive: ReturnType<typeof setInterval>;

  /** @throws {TypeError} for an address that is none. */
  constructor(options: RedisStoreOptions, sink: BrokerSink) {
    this.#sink = sink;
    this.#store = new RedisStore(options, {
      onChange: () => void this.#subscriptions.renew(),
      onMessage: (channel, text) => this.#receive(channel, text),
      seen: () => sink.seen(),
    });
    this.#subscriptions = new Subscriptions({
      store: this.#store,
      channelOf: (target) => this.#store.channelOf(target),
      disrupted: () => sink.disrupted(),
      log: options.log,
    });
    // Comparing positions keeps what is listened to from expiring, and finds whatever was missed unnoticed.
    this.#keepingAlive = setInterval(() => {
      if (this.#subscriptions.size > 0) sink.disrupted();
    }, Math.min(this.#store.stateMs / 3, keepAliveMs));
  }

  get connected(): boolean {
    return this.#store.servers.usable;
  }

  proveWritable(): Promise<void> {
    return this.#store.proveWritable();
  }

  async publish(publication: Publication): Promise<Accepted> {
    const { id, epoch, seq } = await this.#store.publish(publication);
    return { id, epoch, seq };
  }

  async listen(target: Target): Promise<Position> {
    try {
      return await this.#subscriptions.listen(target);
    } catch (error) {
      await this.unlisten(target);
      throw error;
    }
  }

  unlisten(target: Target, seen?: Position): Promise<void> {
    if (seen !== undefined) this.#store.left({ target, ...seen });
    return this.#subscriptions.unlisten(target);
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

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#keepingAlive);
    this.#subscriptions.clear();
    await this.#store[Symbol.asyncDispose]();
  }

  #receive(channel: string, text: string): void {
    this.#sink.message(...this.#store.parse(channel, text));
  }
}
