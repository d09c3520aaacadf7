/**
 * What Redis counts and keeps of targets. All of a target's state lives under one hash tag: `gru:{<target>}:state`
 * (hash), `gru:{<target>}:log` (stream), `gru:{<target>}:sent:<key>` per idempotency key, `gru:{<target>}:nodes` (hash: the
 * nodes in mode `rocketmq` that listen), channel `gru:{<target>}` for the nodes in mode `redis` and `gru:{<target>}:rocketmq` for
 * those in mode `rocketmq` (`gru:<database>:{<target>}` in another database than 0: channels know no databases, and clusters apart
 * must not hear each other).
 * The scripts in `lua/` say what is in them. All of it expires when nobody uses it.
 *
 * What Redis has answered for is as safe as Redis keeps it: with `appendfsync always` through any crash, with `everysec`
 * through the death of its process. A replica (Sentinel, Cluster) that takes over may lack the last messages its primary
 * had accepted, and a primary cut off from the others goes on accepting for a while what is lost later: Redis cannot
 * promise more. Either shows as a new epoch, and so does what a machine without power or a backup has lost ({@linkcode Incarnations}).
 */
import type { Logger } from "@gru/shared/log";
import type { Redis } from "ioredis";
import {
  type Broker,
  historyBytes,
  type HistoryLimits,
  type HistoryOf,
  type HistoryPage,
  type KnownPosition,
  largestSeq,
  messagesPerPage,
  newEpoch,
  NotAcceptedError,
  OverRateError,
  pageBytes,
  type Publication,
  type Rate,
} from "../broker/broker.ts";
import { stepsOf } from "../broker/rate.ts";
import historyScript from "./lua/history.lua" with { type: "text" };
import incarnationScript from "./lua/incarnation.lua" with { type: "text" };
import positionScript from "./lua/position.lua" with { type: "text" };
import publishScript from "./lua/publish.lua" with { type: "text" };
import { parseRedisAddress } from "@gru/shared/redis/address";
import { rememberedMs } from "./incarnation.ts";
import { KnownPositions } from "./known_positions.ts";
import { PositionQuestions } from "./position_questions.ts";
import { failureOf, type RedisDriver, type RedisLink } from "@gru/shared/redis/link";
import { RedisScripts } from "@gru/shared/redis/scripts";
import { RedisPublisher, type Stored } from "./publisher.ts";
import { ServerNames } from "./server_names.ts";
import {
  openTopology,
  type RedisServer,
  type RedisTopology,
  type RedisTopologyOptions,
} from "@gru/shared/redis/topology";
import { inTime, within } from "@gru/shared/within";
import { groupTarget, type Position, type Target } from "../wire.ts";

export interface RedisStoreOptions {
  /** See {@linkcode parseRedisAddress}. */
  readonly url: string;
  readonly password?: string | undefined;
  readonly driver?: RedisDriver | undefined;
  /** Names this spear among all that use the same Redis. */
  readonly node: string;
  readonly history: HistoryLimits;
  /** Default: {@linkcode history} for all. */
  readonly historyOf?: HistoryOf | undefined;
  /** A publication is accepted or refused within this time. */
  readonly publishMs: number;
  /** What a success means: Redis has it, or a replica of it as well. Default `one`. */
  readonly durability?: "one" | "replica" | undefined;
  readonly log: Logger;
}

/** Without `onMessage` it has no connections for subscriptions. */
export interface RedisStoreEvents extends Pick<RedisTopologyOptions, "onMessage"> {
  /** As {@linkcode RedisTopologyOptions.onChange}. */
  readonly onChange: () => void;
  /** Where this node has been, of what it listens to. */
  readonly seen: () => Iterable<KnownPosition>;
  /**
   * Which nodes in mode `rocketmq` get their messages over their channel in Redis, within the step that counts a message:
   * `all`, or those with these tags. To the others the caller carries them. Default `all`.
   */
  readonly overRedis?: () => "all" | readonly string[];
}

const scriptTexts = {
  publish: publishScript,
  position: positionScript,
  history: historyScript,
  incarnation: incarnationScript,
};
type Script = keyof typeof scriptTexts;

const retryMs = 50;
/** Positions that one script is asked for, and that are compared with a server before others get their turn. */
const comparedAtOnce = 1000;
/** No client can name them: they are no group ids. Of several servers one that is away must not stand for all. */
const proofTargets = Array.from({ length: 16 }, (_, i) => groupTarget(`!proof${i}`));
const proofMs = 2000;
/** How long a replica has to confirm; meanwhile nothing else is answered on the connection. */
const replicaMs = 1000;

export class RedisStore implements Pick<Broker, "publish" | "positions" | "history" | "clear"> {
  readonly servers: RedisTopology;
  /** How long a target's position is kept at least while nobody publishes to it or asks for it. */
  readonly stateMs: number;
  readonly #options: RedisStoreOptions;
  readonly #historyOf: HistoryOf;
  readonly #overRedis: NonNullable<RedisStoreEvents["overRedis"]>;
  /** How their names begin. */
  readonly #channels: string;
  readonly #publisher: RedisPublisher;
  readonly #session = crypto.randomUUID().slice(0, 13);
  readonly #names: ServerNames;
  readonly #seen: RedisStoreEvents["seen"];
  /** Of what it published, and of what it does not listen to any longer. */
  readonly #known: KnownPositions;
  readonly #replications = new Map<RedisLink, Promise<void>>();
  readonly #scripts = new RedisScripts(scriptTexts);
  readonly #questions = new PositionQuestions({
    run: (redis, keys, args) => this.#scripts.run(redis, "position", keys, args),
    atOnce: () => this.servers.sharded ? 1 : comparedAtOnce,
  });
  readonly #waiting = new Set<() => void>();
  #closed = false;

  /** @throws {TypeError} for an address that is none. */
  constructor(
    options: RedisStoreOptions,
    { onChange, onMessage, seen, overRedis = () => "all" }: RedisStoreEvents,
  ) {
    const { url, password, driver, node, log, history, publishMs } = options;
    this.#options = options;
    this.#historyOf = options.historyOf ?? (() => history);
    this.#seen = seen;
    this.#names = new ServerNames({
      ...{ session: this.#session, node, log },
      isOneOfMany: url.startsWith("sentinel:"),
      isSharded: () => this.servers.sharded,
      tryToPublish: (redis, tag) => this.#tryToPublish(redis, tag),
      run: (redis, key, args) => this.#scripts.run(redis, "incarnation", [key], args),
      compare: (redis) => this.#compare(redis),
    });
    this.#overRedis = overRedis;
    this.#known = new KnownPositions({
      keepMs: rememberedMs,
      provenAt: (target) => {
        const link = this.linkOf(target);
        return link && this.#names.since(link.redis);
      },
    });
    // Longer than history, so that an idle target does not change its epoch while somebody may still ask; and longer
    // than a publication is repeated, because the state tells a repetition.
    this.stateMs = Math.max(2 * history.ageMs, 4 * publishMs);
    const address = parseRedisAddress(url);
    const db = address.kind === "one" && "db" in address.place ? address.place.db : undefined;
    this.#channels = db ? `gru:${db}:{` : "gru:{";
    this.servers = openTopology(address, {
      driver,
      password,
      log,
      name: `gru-${node}`,
      prepare: (redis, server) => this.#prepare(redis, server),
      onMessage,
      onChange: () => {
        this.#publisher.resume();
        this.#wake();
        onChange();
      },
    });
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

  channelOf(target: Target): string {
    return `${this.#channels}${target}}`;
  }

  /** The channel of nodes in mode `rocketmq`. */
  detourOf(target: Target): string {
    return `${this.#channels}${target}}:rocketmq`;
  }

  /** A message of either channel. */
  parse(channel: string, text: string): [target: Target, epoch: string, seq: number, body: string] {
    const first = text.indexOf(" ");
    const second = text.indexOf(" ", first + 1);
    return [
      channel.slice(this.#channels.length, channel.lastIndexOf("}")) as Target,
      text.slice(0, first),
      Number(text.slice(first + 1, second)),
      text.slice(second + 1),
    ];
  }

  publish(publication: Publication): Promise<Stored> {
    const { rate } = publication;
    const published = this.#publisher.publish(publication);
    return rate === undefined ? published : published.then((stored) => requireWithin(stored, rate));
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return Promise.all(known.map((position) => this.position(position)));
  }

  /** Nobody listens here any longer to what has been there. */
  left(position: KnownPosition): void {
    this.#known.note(position);
  }

  /** As {@linkcode positions}. */
  position(known: KnownPosition): Promise<Position> {
    return this.persist(
      known.target,
      "commands",
      (commands, server) => this.#positionFrom(commands, server, known, true),
    );
  }

  /** Asks once, over this connection to the server. */
  positionOver(link: RedisLink, server: RedisServer, known: KnownPosition): Promise<Position> {
    // The server may have become another one already than the one that commands go to.
    return this.#positionFrom(link, server, known, false);
  }

  async #positionFrom(
    link: RedisLink,
    server: RedisServer,
    { target, epoch, seq }: KnownPosition,
    isNamed: boolean,
  ): Promise<Position> {
    const question = {
      keys: keysOf(target),
      args: [
        ...[epoch, seq, newEpoch(), this.#homeOf(server), this.#stateMsOf(target), isNamed ? 1 : 0],
      ],
    };
    // Over a subscriber it follows a subscription, at once.
    const [itsEpoch, itsSeq] = isNamed
      ? await this.#questions.ask(link.redis, question)
      : await this.#run<[string, number]>(link, "position", question.keys, question.args);
    return { epoch: itsEpoch, seq: itsSeq };
  }

  async history(target: Target, after: Position, bytes = pageBytes): Promise<HistoryPage> {
    const { size, ageMs } = this.#historyOf(target);
    const afterSeq = Math.min(after.seq, largestSeq);
    const [epoch, seq, before, next, flat, isBefore] = await this.persist(
      target,
      "commands",
      async (commands, server) => {
        const read = () =>
          this.#run<[string, number, string, number[], (string | number)[], number] | null>(
            commands,
            "history",
            keysOf(target),
            [
              ...[after.epoch, afterSeq, size, ageMs, messagesPerPage, Math.min(bytes, pageBytes)],
              this.#homeOf(server),
            ],
          );
        const page = await read();
        if (page !== null) return page;
        await this.#positionFrom(commands, server, { target, epoch: "", seq: 0 }, true);
        const renewed = await read();
        if (renewed === null) throw new Error(`${target} goes from one server to another`);
        return renewed;
      },
    );
    const positionAt = (isOld: unknown, itsSeq: unknown) => ({
      epoch: Number(isOld) === 0 ? epoch : before,
      seq: Number(itsSeq),
    });
    const entries = [];
    for (let i = 0; i + 2 < flat.length; i += 3) {
      const [isOld, itsSeq, body] = flat.slice(i, i + 3);
      entries.push({ ...positionAt(isOld, itsSeq), body: String(body) });
    }
    const end = next.length === 0 ? seq : Number(next[1]);
    return {
      head: { epoch, seq },
      entries,
      next: next.length === 0 ? undefined : positionAt(...next as [number, number]),
      complete: epoch === after.epoch && afterSeq <= seq && entries.length === end - afterSeq,
      ...(isBefore === 1 ? { allOf: before } : {}),
    };
  }

  async clear(target: Target): Promise<void> {
    const [, log] = keysOf(target);
    await this.persist(target, "commands", ({ redis }) => redis.del(log));
  }

  /** As {@linkcode ServedBroker.proveWritable}. */
  async proveWritable(): Promise<void> {
    const proofTarget = proofTargets.find((target) => this.linkOf(target) !== undefined);
    const server = proofTarget && this.servers.serverOf(proofTarget);
    if (server === undefined || !this.servers.usable) {
      throw new Error(this.servers.trouble || "there is no connection");
    }
    const key = `gru:{${proofTarget}}:sent:${this.#options.node}`;
    try {
      await inTime(
        server.commands.redis.set(key, "", "PX", proofMs),
        proofMs,
        () => new Error(`no answer within ${proofMs} ms`),
      );
    } catch (error) {
      if (failureOf(error) === "elsewhere") this.servers.refresh(server);
      throw error;
    }
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
      // Which server it is shows the connection for commands: without its name a target would begin an epoch that ends at once.
      if (server === undefined || !link?.usable || !server.commands.usable) {
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
        if (failure === "elsewhere") this.servers.refresh(server);
        if (failure === "unprepared" && server.commands.usable) void server.commands.prepare();
        await this.change(Math.min(left, retryMs));
      }
    }
    throw new NotAcceptedError("the broker is closed");
  }

  /** Resolves when the servers have changed, when the store is closed, or after the time given. */
  async change(ms: number): Promise<void> {
    if (this.#closed) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    await within(promise, ms);
    this.#waiting.delete(resolve);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#names[Symbol.dispose]();
    this.#known[Symbol.dispose]();
    this.#publisher[Symbol.dispose]();
    this.#wake();
    await this.servers[Symbol.asyncDispose]();
  }

  /** Every new connection gets the scripts, and it is found out which server it leads to. */
  async #prepare(redis: Redis, server: string): Promise<void> {
    const [info] = await Promise.all([redis.info(), this.#scripts.load(redis)]);
    if (this.#options.durability === "replica" && !/^connected_slaves:[1-9]/m.test(info)) {
      throw new Error("durability is replica, and this Redis has no replica now");
    }
    await this.#names.find(redis, server, info);
  }

  /** Rejects, naming it, when this user of Redis lacks a permission. */
  async #tryToPublish(redis: Redis, tag: string): Promise<void> {
    const { history, node } = this.#options;
    const keys = [
      ...keysOf(tag as Target),
      nodesKeyOf(tag as Target),
      `gru:{${tag}}:sent:${node}`,
    ];
    await this.#scripts.run(redis, "publish", keys, [
      ...["", "", this.#session, 0, 0, "", "", history.size, history.ageMs, this.stateMs, 0],
      ...this.#sending(tag as Target, undefined),
    ]);
  }

  /** The command, the channels and what goes over the second, and what the target takes, for the script. */
  #sending(target: Target, rate: Rate | undefined): string[] {
    const overRedis = this.#overRedis();
    return [
      this.servers.sharded ? "SPUBLISH" : "PUBLISH",
      this.channelOf(target),
      this.detourOf(target),
      overRedis === "all" ? "all" : "some",
      rate === undefined ? "" : rateText(rate),
      ...(overRedis === "all" ? [] : overRedis),
    ];
  }

  /** Where this node has been beyond what the server has, the server begins a new epoch. */
  async #compare(redis: Redis): Promise<void> {
    const known = [...this.#seen(), ...this.#known]
      .filter(({ target }) => this.servers.serverOf(target)?.commands.redis === redis);
    const compareOne = async ({ target, epoch, seq }: KnownPosition) => {
      const home = this.#names.of(redis);
      const compare = (epoch: string, seq: number, fresh = newEpoch()) =>
        this.#questions.ask(redis, {
          keys: keysOf(target),
          args: [epoch, seq, fresh, home, this.#stateMsOf(target), 0],
        }).then(([found]) => found === fresh ? undefined : found);
      try {
        const found = await compare(epoch, seq);
        // The beginning of an epoch may be among what is lost: then the server is back in one that went further, and nobody
        // here can tell from one that others have begun since.
        if (found !== undefined && found !== epoch) await compare(found, largestSeq);
      } catch (error) {
        // What another server has by now is compared there.
        if (failureOf(error) !== "elsewhere") throw error;
      }
    };
    // All at once would keep this node, and the server, from anything else for seconds.
    for (let at = 0; at < known.length; at += comparedAtOnce) {
      await Promise.all(known.slice(at, at + comparedAtOnce).map(compareOne));
    }
  }

  async #send(
    server: RedisServer,
    { target, id, body, idempotencyKey, rate, ephemeral }: Publication,
    number: number,
    repeated: boolean,
  ): Promise<Stored> {
    const history = this.#historyOf(target);
    const keys = [...keysOf(target), nodesKeyOf(target)];
    if (idempotencyKey !== undefined) keys.push(`gru:{${target}}:sent:${idempotencyKey}`);
    const published = this.#run<[string, string, number, string[], number?, number?]>(
      server.commands,
      "publish",
      keys,
      [
        ...[id, body, this.#session, number, repeated ? 1 : 0, newEpoch()],
        ...[this.#homeOf(server), ephemeral ? -1 : history.size],
        ...[history.ageMs, this.#stateMsOf(target)],
        history.bytes ?? historyBytes,
        ...this.#sending(target, rate),
      ],
    );
    const [[itsId, epoch, seq, toCarry, sent, retryAfterMs]] =
      this.#options.durability === "replica"
        ? await Promise.all([published, this.#replicated(server.commands)])
        : [await published];
    // Of a repetition of what was ephemeral, too, and of what was refused.
    if (seq === 0) {
      return { id: itsId, epoch: "", seq, toCarry: [], overRedis: false, retryAfterMs };
    }
    this.#known.note({ target, epoch, seq });
    return { id: itsId, epoch, seq, toCarry, overRedis: sent === 1, retryAfterMs };
  }

  /**
   * Rejects when no replica has confirmed what was written to this connection until the end of this round of promises. Whether
   * one has it is not known then: the connection is given up, and what was sent is sent again on the next one.
   */
  #replicated(link: RedisLink): Promise<void> {
    return this.#replications.getOrInsertComputed(link, async () => {
      // Behind all that is sent in this round.
      await undefined;
      this.#replications.delete(link);
      if (await link.redis.wait(1, replicaMs) > 0) return;
      link.reconnect();
      throw new Error(`no replica has confirmed it within ${replicaMs} ms`);
    });
  }

  #run<T>(
    link: RedisLink,
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<T> {
    link.gather();
    return this.#scripts.run(link.redis, script, keys, args);
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Never less than for all: that is how often targets are asked for that are listened to. */
  #stateMsOf(target: Target): number {
    return Math.max(this.stateMs, 2 * this.#historyOf(target).ageMs);
  }

  #homeOf({ commands }: RedisServer): string {
    return this.#names.of(commands.redis);
  }
}

function rateText(rate: Rate): string {
  const { step, allowed, full } = stepsOf(rate);
  return `${step} ${allowed} ${full}`;
}

/** @throws {OverRateError} */
function requireWithin(stored: Stored, rate: Rate): Stored {
  if (stored.retryAfterMs === undefined) return stored;
  throw new OverRateError(rate, stored.retryAfterMs);
}

function keysOf(target: Target): [state: string, log: string] {
  return [`gru:{${target}}:state`, `gru:{${target}}:log`];
}

/** The nodes in mode `rocketmq` that listen to the target. */
export function nodesKeyOf(target: Target): string {
  return `gru:{${target}}:nodes`;
}
