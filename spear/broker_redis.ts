/**
 * The broker over Redis. {@linkcode RedisStore} counts, keeps and sends out; here a node subscribes to the channels of
 * what it listens to.
 */
import type {
  Accepted,
  Broker,
  BrokerSink,
  History,
  KnownPosition,
  Publication,
} from "./broker.ts";
import { failureOf, type RedisLink } from "./redis_link.ts";
import type { RedisServer } from "./redis_servers.ts";
import { channelOf, RedisStore, type RedisStoreOptions } from "./redis_store.ts";
import type { Position, Target } from "./wire.ts";

/** At the longest. */
const keepAliveMs = 3_600_000;
const channelsPerSubscribe = 1000;
const subscribeAgainMs = 200;

interface Batch {
  readonly server: RedisServer;
  readonly subscriber: RedisLink;
  readonly targets: Target[];
}

export class RedisBroker implements Broker {
  readonly #options: RedisStoreOptions;
  readonly #sink: BrokerSink;
  readonly #store: RedisStore;
  /** The targets listened to, and on which connection of a subscriber. */
  readonly #listening = new Map<Target, object | undefined>();
  readonly #keepingAlive: ReturnType<typeof setInterval>;
  #subscribing = false;
  #subscribeAgain = false;

  /** @throws {TypeError} for an address that is none. */
  constructor(options: RedisStoreOptions, sink: BrokerSink) {
    this.#options = options;
    this.#sink = sink;
    this.#store = new RedisStore(options, {
      onChange: () => void this.#subscribeAll(),
      onMessage: (channel, text) => this.#receive(channel, text),
    });
    // Comparing positions keeps what is listened to from expiring, and finds whatever was missed unnoticed.
    this.#keepingAlive = setInterval(() => {
      if (this.#listening.size > 0) sink.disrupted();
    }, Math.min(this.#store.stateMs / 3, keepAliveMs));
  }

  get connected(): boolean {
    return this.#store.servers.usable;
  }

  publish(publication: Publication): Promise<Accepted> {
    return this.#store.publish(publication);
  }

  async listen(target: Target): Promise<Position> {
    this.#listening.set(target, undefined);
    try {
      return await this.#store.persist(target, "subscriber", async (subscriber, server) => {
        subscriber.gather();
        // The question follows the subscription on one connection: nothing can come between the two.
        const [, position] = await Promise.all([
          this.#subscribe([target], subscriber),
          this.#store.positionOver(subscriber, server, { target, epoch: "", seq: 0 }),
        ]);
        return position;
      });
    } catch (error) {
      await this.unlisten(target);
      throw error;
    }
  }

  async unlisten(target: Target): Promise<void> {
    const connection = this.#listening.get(target);
    this.#listening.delete(target);
    const subscriber = this.#store.servers.serverOf(target)?.subscriber;
    if (connection === undefined || subscriber?.connection !== connection) return;
    // With the connection the subscription ends too.
    await this.#unsubscribe([target], subscriber).catch(() => {});
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return this.#store.positions(known);
  }

  history(target: Target, after: Position, upTo?: number): Promise<History> {
    return this.#store.history(target, after, upTo);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#keepingAlive);
    this.#listening.clear();
    await this.#store[Symbol.asyncDispose]();
  }

  /**
   * Subscribes to what is listened to wherever it is not yet: on a new connection, or on another server. What was sent
   * out meanwhile is found by comparing positions afterwards.
   */
  async #subscribeAll(): Promise<void> {
    this.#subscribeAgain = true;
    if (this.#subscribing) return;
    this.#subscribing = true;
    while (this.#subscribeAgain && !this.#store.closed) {
      this.#subscribeAgain = false;
      const batches = this.#unsubscribed();
      await Promise.all(batches.map(async ({ server, subscriber, targets }) => {
        try {
          await this.#subscribe(targets, subscriber);
        } catch (error) {
          if (failureOf(error) === "lost") return;
          this.#options.log.warn("Redis refused a subscription: {error}", { error });
          if (failureOf(error) === "elsewhere") this.#store.servers.lookAgain(server);
          await this.#store.change(subscribeAgainMs);
          this.#subscribeAgain = true;
        }
      }));
      if (batches.length > 0 && !this.#store.closed) this.#sink.disrupted();
    }
    this.#subscribing = false;
  }

  /** In pieces that can be subscribed to with one command. */
  #unsubscribed(): Batch[] {
    const { servers } = this.#store;
    const largest = servers.sharded ? 1 : channelsPerSubscribe;
    const batches: Batch[] = [];
    for (const [target, connection] of this.#listening) {
      const server = servers.serverOf(target);
      if (!server?.subscriber) continue;
      const { subscriber } = server;
      const present = subscriber.connection;
      if (present === undefined || present === connection) continue;
      const last = batches.at(-1);
      if (last?.server === server && last.targets.length < largest) last.targets.push(target);
      else batches.push({ server, subscriber, targets: [target] });
    }
    return batches;
  }

  async #subscribe(targets: readonly Target[], subscriber: RedisLink): Promise<void> {
    const { connection, redis } = subscriber;
    const channels = targets.map(channelOf);
    const { sharded } = this.#store.servers;
    await (sharded ? redis.ssubscribe(...channels) : redis.subscribe(...channels));
    const unwanted = targets.filter((target) => !this.#listening.has(target));
    for (const target of targets) {
      if (this.#listening.has(target)) this.#listening.set(target, connection);
    }
    if (unwanted.length > 0) await this.#unsubscribe(unwanted, subscriber);
  }

  #unsubscribe(targets: readonly Target[], { redis }: RedisLink): Promise<unknown> {
    const channels = targets.map(channelOf);
    const { sharded } = this.#store.servers;
    return sharded ? redis.sunsubscribe(...channels) : redis.unsubscribe(...channels);
  }

  #receive(channel: string, text: string): void {
    const first = text.indexOf(" ");
    const second = text.indexOf(" ", first + 1);
    this.#sink.message(
      channel.slice("gru:{".length, -1) as Target,
      text.slice(0, first),
      Number(text.slice(first + 1, second)),
      text.slice(second + 1),
    );
  }
}
