/**
 * The broker over Redis. All of a target's state lives under one hash tag: `gru:{<target>}:state` (hash),
 * `gru:{<target>}:log` (stream), `gru:{<target>}:sent:<key>` per idempotency key, channel `gru:{<target>}`.
 * The scripts in `lua/` say what is in them. All of it expires when nobody uses it.
 *
 * What Redis has answered for is as safe as Redis keeps it: with `appendfsync always` through any crash, with `everysec`
 * through the death of its process. A replica (Sentinel, Cluster) that takes over may lack the last messages its primary
 * had accepted, and a primary cut off from the others goes on accepting for a while what is lost later: Redis cannot
 * promise more. Either shows as a new epoch.
 */
import type { Logger } from "@gru/shared/log";
import type { Redis } from "ioredis";
import {
  type Accepted,
  type Broker,
  type BrokerSink,
  type History,
  type HistoryLimits,
  type KnownPosition,
  NotAcceptedError,
  type Publication,
} from "./broker.ts";
import historyScript from "./lua/history.lua" with { type: "text" };
import positionScript from "./lua/position.lua" with { type: "text" };
import publishScript from "./lua/publish.lua" with { type: "text" };
import { ClusterRedis } from "./redis_cluster.ts";
import { failureOf, type RedisLink } from "./redis_link.ts";
import { RedisPublisher } from "./redis_publisher.ts";
import {
  parseRedisAddress,
  type RedisServer,
  type RedisServers,
  type RedisServersOptions,
  SoleRedis,
} from "./redis_servers.ts";
import type { Position, Target } from "./wire.ts";

export interface RedisBrokerOptions {
  /** See {@linkcode parseRedisAddress}. */
  readonly url: string;
  readonly password?: string | undefined;
  /** Names this spear among all that use the same Redis. */
  readonly node: string;
  readonly history: HistoryLimits;
  /** A publication is accepted or refused within this time. */
  readonly publishMs: number;
  readonly log: Logger;
}

const scripts = { publish: publishScript, position: positionScript, history: historyScript };
type Script = keyof typeof scripts;

const retryMs = 50;
/** At the longest. */
const keepAliveMs = 3_600_000;
const channelsPerSubscribe = 1000;
const subscribeAgainMs = 200;

export class RedisBroker implements Broker {
  readonly #options: RedisBrokerOptions;
  readonly #sink: BrokerSink;
  readonly #servers: RedisServers;
  readonly #publisher: RedisPublisher;
  readonly #session = crypto.randomUUID().slice(0, 13);
  readonly #shas = new Map<Script, string>();
  /** Which server a connection has led to. */
  readonly #homes = new WeakMap<Redis, string>();
  /** The targets listened to, and on which connection of a subscriber. */
  readonly #listening = new Map<Target, object | undefined>();
  readonly #stateMs: number;
  readonly #keepingAlive: ReturnType<typeof setInterval>;
  readonly #waiting = new Set<() => void>();
  #subscribing = false;
  #subscribeAgain = false;
  #closed = false;

  /** @throws {TypeError} for an address that is none. */
  constructor(options: RedisBrokerOptions, sink: BrokerSink) {
    const { url, password, node, log, history, publishMs } = options;
    this.#options = options;
    this.#sink = sink;
    // Longer than history, so that an idle target does not change its epoch while somebody may still ask; and longer
    // than a publication is repeated, because the state tells a repetition.
    this.#stateMs = Math.max(2 * history.ageMs, 4 * publishMs);
    const address = parseRedisAddress(url);
    const common: RedisServersOptions = {
      password,
      log,
      name: `gru-${node}`,
      prepare: (redis) => this.#prepare(redis),
      onMessage: (channel, text) => this.#receive(channel, text),
      onChange: () => this.#changed(),
    };
    this.#servers = address.kind === "cluster"
      ? new ClusterRedis(address.nodes, common)
      : new SoleRedis(address.place, common);
    this.#publisher = new RedisPublisher({
      servers: this.#servers,
      publishMs,
      send: (server, publication, number, repeated) =>
        this.#send(server, publication, number, repeated),
    });
    // Comparing positions keeps what is listened to from expiring, and finds whatever was missed unnoticed.
    this.#keepingAlive = setInterval(() => {
      if (this.#listening.size > 0) sink.disrupted();
    }, Math.min(this.#stateMs / 3, keepAliveMs));
  }

  get connected(): boolean {
    return this.#servers.usable;
  }

  publish(publication: Publication): Promise<Accepted> {
    return this.#publisher.publish(publication);
  }

  async listen(target: Target): Promise<Position> {
    this.#listening.set(target, undefined);
    try {
      await this.#persist(target, async ({ subscriber }) => {
        if (this.#closed) throw new NotAcceptedError("the broker is closed");
        await this.#subscribe([target], subscriber);
      }, "subscriber");
      return await this.#position({ target, epoch: "", seq: 0 });
    } catch (error) {
      await this.unlisten(target);
      throw error;
    }
  }

  async unlisten(target: Target): Promise<void> {
    const connection = this.#listening.get(target);
    this.#listening.delete(target);
    const subscriber = this.#servers.serverOf(target)?.subscriber;
    if (connection === undefined || subscriber?.connection !== connection) return;
    // With the connection the subscription ends too.
    await this.#unsubscribe([target], subscriber).catch(() => {});
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return Promise.all(known.map((position) => this.#position(position)));
  }

  async history(target: Target, after: Position, upTo?: number): Promise<History> {
    const { size, ageMs } = this.#options.history;
    const [epoch, seq, before, flat] = await this.#ask<
      [string, number, string, (string | number)[]]
    >(target, "history", () => [after.epoch, after.seq, upTo ?? "+", size, ageMs]);
    const entries = [];
    for (let i = 0; i + 2 < flat.length; i += 3) {
      const [isOld, itsSeq, body] = flat.slice(i, i + 3);
      entries.push({
        epoch: Number(isOld) === 0 ? epoch : before,
        seq: Number(itsSeq),
        body: String(body),
      });
    }
    const wanted = Math.max(0, Math.min(upTo ?? seq, seq) - after.seq);
    return {
      head: { epoch, seq },
      entries,
      complete: epoch === after.epoch && after.seq <= seq && entries.length === wanted,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearInterval(this.#keepingAlive);
    this.#publisher[Symbol.dispose]();
    this.#wake();
    this.#listening.clear();
    await this.#servers[Symbol.asyncDispose]();
  }

  /**
   * The scripts all at once on every new connection: loading on demand would let later publications pass earlier ones.
   * And who the server is: one that may know less than the one before it must have another name. A server that keeps
   * all it has confirmed may keep its name; behind Sentinel or without an append-only file each process has its own.
   */
  async #prepare(redis: Redis): Promise<void> {
    const [info, ...shas] = await Promise.all([
      redis.info(),
      ...Object.values(scripts).map((text) => redis.script("LOAD", text)),
    ]);
    Object.keys(scripts).forEach((name, i) => this.#shas.set(name as Script, String(shas[i])));
    const keeps = /^aof_enabled:1/m.test(info) && !this.#options.url.startsWith("sentinel:");
    const process = /^run_id:(\w{12})/m.exec(info)?.[1] ?? "";
    const home = !keeps
      ? process
      : this.#servers.sharded
      ? String(await redis.call("CLUSTER", "MYID")).slice(0, 12)
      : "one";
    this.#homes.set(redis, home);
  }

  async #send(
    server: RedisServer,
    { target, id, body, idempotencyKey }: Publication,
    number: number,
    repeated: boolean,
  ): Promise<Accepted> {
    const { history } = this.#options;
    const keys = keysOf(target);
    if (idempotencyKey !== undefined) keys.push(`gru:{${target}}:sent:${idempotencyKey}`);
    const [itsId, epoch, seq] = await this.#run<[string, string, number]>(server, "publish", keys, [
      ...[id, body, this.#session, number, repeated ? 1 : 0, newEpoch()],
      ...[this.#homeOf(server), history.size, history.ageMs, this.#stateMs],
      ...[this.#servers.sharded ? "SPUBLISH" : "PUBLISH", channelOf(target)],
    ]);
    return { id: itsId, epoch, seq };
  }

  async #position({ target, epoch, seq }: KnownPosition): Promise<Position> {
    const [itsEpoch, itsSeq] = await this.#ask<[string, number]>(
      target,
      "position",
      (server) => [epoch, seq, newEpoch(), this.#homeOf(server), this.#stateMs],
    );
    return { epoch: itsEpoch, seq: itsSeq };
  }

  /** Runs a script that may be run again. */
  #ask<T>(
    target: Target,
    script: Script,
    args: (server: RedisServer) => (string | number)[],
  ): Promise<T> {
    return this.#persist(
      target,
      (server) => this.#run<T>(server, script, keysOf(target), args(server)),
      "commands",
    );
  }

  #run<T>(
    { commands }: RedisServer,
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<T> {
    const sha = this.#shas.get(script) ?? "";
    commands.gather();
    return commands.redis.evalsha(sha, keys.length, ...keys, ...args) as Promise<T>;
  }

  /** Tries until it is done, on whichever server has the target by then. @throws {NotAcceptedError} time is up. */
  async #persist<T>(
    target: Target,
    attempt: (server: RedisServer) => Promise<T>,
    link: keyof RedisServer,
  ): Promise<T> {
    const { publishMs } = this.#options;
    const deadline = performance.now() + publishMs;
    let cause: unknown;
    while (!this.#closed) {
      const server = this.#servers.serverOf(target);
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new NotAcceptedError(`Redis did not answer within ${publishMs} ms`, { cause });
      }
      if (!server?.[link].usable) {
        await this.#change(left);
        continue;
      }
      try {
        return await attempt(server);
      } catch (error) {
        cause = error;
        if (error instanceof NotAcceptedError) throw error;
        const failure = failureOf(error);
        if (failure === "refused") {
          throw new NotAcceptedError(`Redis refused: ${(error as Error).message}`, { cause });
        }
        if (failure === "elsewhere") this.#servers.lookAgain(server);
        if (failure === "unprepared" && server.commands.usable) void server.commands.prepare();
        await this.#change(Math.min(left, retryMs));
      }
    }
    throw new NotAcceptedError("the broker is closed");
  }

  #changed(): void {
    this.#publisher.resume();
    this.#wake();
    void this.#subscribeAll();
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves when the servers have changed, or after the time given. */
  async #change(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#waiting.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
  }

  /**
   * Subscribes to what is listened to wherever it is not yet: on a new connection, or on another server. What was sent
   * out meanwhile is found by comparing positions afterwards.
   */
  async #subscribeAll(): Promise<void> {
    this.#subscribeAgain = true;
    if (this.#subscribing) return;
    this.#subscribing = true;
    while (this.#subscribeAgain && !this.#closed) {
      this.#subscribeAgain = false;
      const batches = this.#unsubscribed();
      await Promise.all(batches.map(async ({ server, targets }) => {
        try {
          await this.#subscribe(targets, server.subscriber);
        } catch (error) {
          if (failureOf(error) === "lost") return;
          this.#options.log.warn("Redis refused a subscription: {error}", { error });
          if (failureOf(error) === "elsewhere") this.#servers.lookAgain(server);
          await this.#change(subscribeAgainMs);
          this.#subscribeAgain = true;
        }
      }));
      if (batches.length > 0 && !this.#closed) this.#sink.disrupted();
    }
    this.#subscribing = false;
  }

  /** In pieces that can be subscribed to with one command. */
  #unsubscribed(): { server: RedisServer; targets: Target[] }[] {
    const largest = this.#servers.sharded ? 1 : channelsPerSubscribe;
    const batches: { server: RedisServer; targets: Target[] }[] = [];
    for (const [target, connection] of this.#listening) {
      const server = this.#servers.serverOf(target);
      const present = server?.subscriber.connection;
      if (server === undefined || present === undefined || present === connection) continue;
      const last = batches.at(-1);
      if (last?.server === server && last.targets.length < largest) last.targets.push(target);
      else batches.push({ server, targets: [target] });
    }
    return batches;
  }

  async #subscribe(targets: readonly Target[], subscriber: RedisLink): Promise<void> {
    const { connection, redis } = subscriber;
    const channels = targets.map(channelOf);
    await (this.#servers.sharded ? redis.ssubscribe(...channels) : redis.subscribe(...channels));
    const unwanted = targets.filter((target) => !this.#listening.has(target));
    for (const target of targets) {
      if (this.#listening.has(target)) this.#listening.set(target, connection);
    }
    if (unwanted.length > 0) await this.#unsubscribe(unwanted, subscriber);
  }

  #unsubscribe(targets: readonly Target[], { redis }: RedisLink): Promise<unknown> {
    const channels = targets.map(channelOf);
    return this.#servers.sharded ? redis.sunsubscribe(...channels) : redis.unsubscribe(...channels);
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

  #homeOf({ commands }: RedisServer): string {
    return this.#homes.get(commands.redis) ?? "";
  }
}

function channelOf(target: Target): string {
  return `gru:{${target}}`;
}

function keysOf(target: Target): string[] {
  return [`gru:{${target}}:state`, `gru:{${target}}:log`];
}

function newEpoch(): string {
  return crypto.randomUUID().slice(0, 13);
}
