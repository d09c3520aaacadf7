/**
 * What a node subscribes to in Redis, one channel for each target that it listens to, wherever the server is that has
 * the target by now. After every gap the sink is told to compare positions.
 */
import type { Logger } from "@gru/shared/log";
import { slotOf } from "@gru/shared/redis/cluster";
import { failureOf, type RedisLink } from "@gru/shared/redis/link";
import type { RedisServer } from "@gru/shared/redis/topology";
import type { RedisStore } from "./store.ts";
import type { Position, Target } from "../wire.ts";

export interface SubscriptionsOptions {
  /** It must have been opened with `onMessage`. */
  readonly store: RedisStore;
  readonly channelOf: (target: Target) => string;
  /** Messages may have been missed, of any target. */
  readonly disrupted: () => void;
  readonly log: Logger;
}

interface Batch {
  readonly server: RedisServer;
  readonly subscriber: RedisLink;
  readonly targets: Target[];
}

const channelsPerSubscribe = 1000;
const subscribeAgainMs = 200;

export class Subscriptions {
  readonly #options: SubscriptionsOptions;
  /** The targets listened to, and on which connection of a subscriber. */
  readonly #listening = new Map<Target, object | undefined>();
  #subscribing = false;
  #subscribeAgain = false;

  constructor(options: SubscriptionsOptions) {
    this.#options = options;
  }

  /** How many targets are listened to. */
  get size(): number {
    return this.#listening.size;
  }

  /**
   * Every message after the position that this resolves to arrives.
   * @throws {NotAcceptedError} and then it is not certain whether messages arrive: call {@linkcode unlisten}
   */
  listen(target: Target): Promise<Position> {
    const { store } = this.#options;
    this.#listening.set(target, undefined);
    return store.persist(target, "subscriber", async (subscriber, server) => {
      subscriber.gather();
      // The question follows the subscription on one connection: nothing can come between the two.
      const [, position] = await Promise.all([
        this.#subscribe([target], subscriber),
        store.positionOver(subscriber, server, { target, epoch: "", seq: 0 }),
      ]);
      return position;
    });
  }

  async unlisten(target: Target): Promise<void> {
    const connection = this.#listening.get(target);
    this.#listening.delete(target);
    const subscriber = this.#options.store.servers.serverOf(target)?.subscriber;
    if (connection === undefined || subscriber?.connection !== connection) return;
    // With the connection the subscription ends too.
    await this.#unsubscribe([target], subscriber).catch(() => {});
  }

  /** Nothing is subscribed to again; what is subscribed ends with the connections. */
  clear(): void {
    this.#listening.clear();
  }

  /**
   * Subscribes to what is listened to wherever it is not yet: on a new connection, or on another server. What was sent
   * out meanwhile is found by comparing positions afterwards.
   */
  async renew(): Promise<void> {
    const { store, disrupted, log } = this.#options;
    this.#subscribeAgain = true;
    if (this.#subscribing) return;
    this.#subscribing = true;
    while (this.#subscribeAgain && !store.closed) {
      this.#subscribeAgain = false;
      const batches = this.#unsubscribed();
      await Promise.all(batches.map(async ({ server, subscriber, targets }) => {
        try {
          await this.#subscribe(targets, subscriber);
        } catch (error) {
          if (failureOf(error) === "lost") return;
          log.warn("Redis refused a subscription: {error}", { error });
          if (failureOf(error) === "elsewhere") store.servers.refresh(server);
          await store.change(subscribeAgainMs);
          this.#subscribeAgain = true;
        }
      }));
      if (batches.length > 0 && !store.closed) disrupted();
    }
    this.#subscribing = false;
  }

  /** In pieces that can be subscribed to with one command: of one server, in a Cluster of one slot. */
  #unsubscribed(): Batch[] {
    const { servers } = this.#options.store;
    const batches: Batch[] = [];
    const open = new Map<RedisServer | number, Batch>();
    for (const [target, connection] of this.#listening) {
      const server = servers.serverOf(target);
      if (!server?.subscriber) continue;
      const { subscriber } = server;
      const present = subscriber.connection;
      if (present === undefined || present === connection) continue;
      const place = servers.sharded ? slotOf(target) : server;
      const batch = open.get(place);
      if (batch !== undefined && batch.targets.length < channelsPerSubscribe) {
        batch.targets.push(target);
        continue;
      }
      const begun = { server, subscriber, targets: [target] };
      open.set(place, begun);
      batches.push(begun);
    }
    return batches;
  }

  async #subscribe(targets: readonly Target[], subscriber: RedisLink): Promise<void> {
    const { connection, redis } = subscriber;
    const channels = targets.map((target) => this.#options.channelOf(target));
    const { sharded } = this.#options.store.servers;
    await (sharded ? redis.ssubscribe(...channels) : redis.subscribe(...channels));
    const unwanted = targets.filter((target) => !this.#listening.has(target));
    for (const target of targets) {
      if (this.#listening.has(target)) this.#listening.set(target, connection);
    }
    if (unwanted.length > 0) await this.#unsubscribe(unwanted, subscriber);
  }

  #unsubscribe(targets: readonly Target[], { redis }: RedisLink): Promise<unknown> {
    const channels = targets.map((target) => this.#options.channelOf(target));
    const { sharded } = this.#options.store.servers;
    return sharded ? redis.sunsubscribe(...channels) : redis.unsubscribe(...channels);
  }
}
