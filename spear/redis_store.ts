/**
 * What Redis counts and keeps of targets. All of a target's state lives under one hash tag: `gru:{<target>}:state`
 * (hash), `gru:{<target>}:log` (stream), `gru:{<target>}:sent:<key>` per idempotency key, channel `gru:{<target>}`.
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
  type History,
  type HistoryLimits,
  type KnownPosition,
  newEpoch,
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

export interface RedisStoreOptions {
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

/** `onMessage` is for a store that sends out what it keeps. Without it, it has no connections for subscriptions either. */
export type RedisStoreEvents = Pick<RedisServersOptions, "onChange" | "onMessage">;

const scripts = { publish: publishScript, position: positionScript, history: historyScript };
type Script = keyof typeof scripts;

const retryMs = 50;

export class RedisStore implements Pick<Broker, "publish" | "positions" | "history"> {
  readonly servers: RedisServers;
  /** How long a target's position is kept while nobody publishes to it or asks for it. */
  readonly stateMs: number;
  readonly #options: RedisStoreOptions;
  readonly #sends: boolean;
  readonly #publisher: RedisPublisher;
  readonly #session = crypto.randomUUID().slice(0, 13);
  readonly #shas = new Map<Script, string>();
  /** Which server a connection has led to. */
  readonly #homes = new WeakMap<Redis, string>();
  readonly #waiting = new Set<() => void>();
  #closed = false;

  /** @throws {TypeError} for an address that is none. */
  constructor(options: RedisStoreOptions, { onChange, onMessage }: RedisStoreEvents) {
    const { url, password, node, log, history, publishMs } = options;
    this.#options = options;
    this.#sends = onMessage !== undefined;
    // Longer than history, so that an idle target does not change its epoch while somebody may still ask; and longer
    // than a publication is repeated, because the state tells a repetition.
    this.stateMs = Math.max(2 * history.ageMs, 4 * publishMs);
    const address = parseRedisAddress(url);
    const common: RedisServersOptions = {
      password,
      log,
      name: `gru-${node}`,
      prepare: (redis) => this.#prepare(redis),
      onMessage,
      onChange: () => {
        this.#publisher.resume();
        this.#wake();
        onChange();
      },
    };
    this.servers = address.kind === "cluster"
      ? new ClusterRedis(address.nodes, common)
      : new SoleRedis(address.place, common);
    this.#publisher = new RedisPublisher({
      servers: this.servers,
      publishMs,
      send: (server, publication, number, repeated) =>
        this.#send(server, publication, number, repeated),
    });
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** For commands to the server that has the target; undefined while there is none that can be used. */
  linkOf(target: Target): RedisLink | undefined {
    const commands = this.servers.serverOf(target)?.commands;
    return commands?.usable ? commands : undefined;
  }

  publish(publication: Publication): Promise<Accepted> {
    return this.#publisher.publish(publication);
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return Promise.all(known.map((position) => this.position(position)));
  }

  /** As {@linkcode positions}. */
  position(known: KnownPosition): Promise<Position> {
    return this.persist(
      known.target,
      "commands",
      (commands, server) => this.positionOver(commands, server, known),
    );
  }

  /** Asks once, over this connection to the server. */
  async positionOver(
    link: RedisLink,
    server: RedisServer,
    { target, epoch, seq }: KnownPosition,
  ): Promise<Position> {
    const [itsEpoch, itsSeq] = await this.#run<[string, number]>(
      link,
      "position",
      keysOf(target),
      [epoch, seq, newEpoch(), this.#homeOf(server), this.stateMs],
    );
    return { epoch: itsEpoch, seq: itsSeq };
  }

  async history(target: Target, after: Position, upTo?: number): Promise<History> {
    const { size, ageMs } = this.#options.history;
    const [epoch, seq, before, flat] = await this.persist(
      target,
      "commands",
      (commands) =>
        this.#run<[string, number, string, (string | number)[]]>(
          commands,
          "history",
          keysOf(target),
          [after.epoch, after.seq, upTo ?? "+", size, ageMs],
        ),
    );
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

  /**
   * Tries until it is done, over the connection to whichever server has the target by then.
   * @throws {NotAcceptedError} time for a publication is up, Redis refuses, or the store is closed.
   */
  async persist<T>(
    target: Target,
    kind: keyof RedisServer,
    attempt: (link: RedisLink, server: RedisServer) => Promise<T>,
  ): Promise<T> {
    const { publishMs } = this.#options;
    const deadline = performance.now() + publishMs;
    let cause: unknown;
    while (!this.#closed) {
      const server = this.servers.serverOf(target);
      const link = server?.[kind];
      const left = deadline - performance.now();
      if (left <= 0) {
        throw new NotAcceptedError(`Redis did not answer within ${publishMs} ms`, { cause });
      }
      if (server === undefined || !link?.usable) {
        await this.change(left);
        continue;
      }
      try {
        return await attempt(link, server);
      } catch (error) {
        cause = error;
        if (error instanceof NotAcceptedError) throw error;
        const failure = failureOf(error);
        if (failure === "refused") {
          throw new NotAcceptedError(`Redis refused: ${(error as Error).message}`, { cause });
        }
        if (failure === "elsewhere") this.servers.lookAgain(server);
        if (failure === "unprepared" && server.commands.usable) void server.commands.prepare();
        await this.change(Math.min(left, retryMs));
      }
    }
    throw new NotAcceptedError("the broker is closed");
  }

  /** Resolves when the servers have changed, when the store is closed, or after the time given. */
  async change(ms: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#waiting.add(resolve);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(resolve);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#publisher[Symbol.dispose]();
    this.#wake();
    await this.servers[Symbol.asyncDispose]();
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
      : this.servers.sharded
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
    const [itsId, epoch, seq] = await this.#run<[string, string, number]>(
      server.commands,
      "publish",
      keys,
      [
        ...[id, body, this.#session, number, repeated ? 1 : 0, newEpoch()],
        ...[this.#homeOf(server), history.size, history.ageMs, this.stateMs],
        ...(this.#sends ? [this.servers.sharded ? "SPUBLISH" : "PUBLISH", channelOf(target)] : []),
      ],
    );
    return { id: itsId, epoch, seq };
  }

  #run<T>(
    link: RedisLink,
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<T> {
    const sha = this.#shas.get(script) ?? "";
    link.gather();
    return link.redis.evalsha(sha, keys.length, ...keys, ...args) as Promise<T>;
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  #homeOf({ commands }: RedisServer): string {
    return this.#homes.get(commands.redis) ?? "";
  }
}

export function channelOf(target: Target): string {
  return `gru:{${target}}`;
}

function keysOf(target: Target): string[] {
  return [`gru:{${target}}:state`, `gru:{${target}}:log`];
}
