/**
 * The broker over Redis. All of a target's state lives under one hash tag: `gru:{<target>}:state` (hash),
 * `gru:{<target>}:log` (stream), `gru:{<target>}:sent:<key>` per idempotency key, channel `gru:{<target>}`.
 * The scripts in `lua/` say what is in them.
 */
import type { Logger } from "@gru/shared/log";
import { type Redis, ReplyError } from "ioredis";
import {
  type Accepted,
  type Broker,
  type BrokerSink,
  type History,
  type HistoryLimits,
  InDoubtError,
  type KnownPosition,
  NotAcceptedError,
  type Publication,
} from "./broker.ts";
import historyScript from "./lua/history.lua" with { type: "text" };
import positionScript from "./lua/position.lua" with { type: "text" };
import publishScript from "./lua/publish.lua" with { type: "text" };
import { RedisAwayError, RedisLink } from "./redis_link.ts";
import type { Position, Target } from "./wire.ts";

export interface RedisBrokerOptions {
  /** `redis://host:port[/database]` */
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

const channelsPerSubscribe = 1000;

export class RedisBroker implements Broker {
  readonly #options: RedisBrokerOptions;
  readonly #sink: BrokerSink;
  readonly #commands: RedisLink;
  readonly #subscriber: RedisLink;
  readonly #session = crypto.randomUUID();
  readonly #listening = new Set<Target>();
  readonly #shas = new Map<Script, string>();
  #publications = 0;

  constructor(options: RedisBrokerOptions, sink: BrokerSink) {
    const { url, password, node, log } = options;
    this.#options = options;
    this.#sink = sink;
    this.#commands = new RedisLink({
      ...{ url, password, log },
      name: `gru-${node}-commands`,
      prepare: (redis) => this.#loadScripts(redis),
    });
    this.#subscriber = new RedisLink({
      ...{ url, password, log },
      name: `gru-${node}-subscriber`,
      prepare: (redis) => this.#resubscribe(redis),
    });
    this.#subscriber.redis.on(
      "message",
      (channel: string, text: string) => this.#receive(channel, text),
    );
  }

  get connected(): boolean {
    return this.#commands.usable && this.#subscriber.usable;
  }

  async publish(publication: Publication): Promise<Accepted> {
    const { target, id, body, idempotencyKey } = publication;
    const { node, history, publishMs } = this.#options;
    const keys = [stateKey(target), logKey(target)];
    if (idempotencyKey !== undefined) keys.push(`gru:{${target}}:sent:${idempotencyKey}`);
    const args = [
      ...[id, body, node, this.#session, ++this.#publications, newEpoch()],
      ...[history.size, history.ageMs, stateMs(history), "PUBLISH", channelOf(target)],
    ];
    const deadline = performance.now() + publishMs;
    let sent = false;
    while (true) {
      try {
        await this.#commands.ready(deadline);
      } catch (cause) {
        if (sent) throw new InDoubtError("Redis took the message and did not answer", { cause });
        throw new NotAcceptedError("Redis is out of reach", { cause });
      }
      try {
        const [itsId, epoch, seq] = await this.#run<[string, string, number]>(
          "publish",
          keys,
          args,
        );
        return { id: itsId, epoch, seq };
      } catch (cause) {
        if (cause instanceof ReplyError) {
          throw new NotAcceptedError(`Redis refused: ${(cause as Error).message}`, { cause });
        }
        // Without a log to find it in, sending the message again could double it.
        if (history.size === 0) {
          throw new InDoubtError("Redis took the message and did not answer", { cause });
        }
        sent = true;
      }
    }
  }

  async listen(target: Target): Promise<Position> {
    const deadline = performance.now() + this.#options.publishMs;
    this.#listening.add(target);
    try {
      await this.#subscriber.ready(deadline);
      await this.#subscriber.redis.subscribe(channelOf(target));
      await this.#commands.ready(deadline);
      return await this.#position({ target, epoch: "", seq: 0 });
    } catch (error) {
      await this.unlisten(target);
      throw error instanceof RedisAwayError ? new NotAcceptedError(error.message) : error;
    }
  }

  async unlisten(target: Target): Promise<void> {
    this.#listening.delete(target);
    if (this.#subscriber.usable) await this.#subscriber.redis.unsubscribe(channelOf(target));
  }

  positions(known: readonly KnownPosition[]): Promise<Position[]> {
    return Promise.all(known.map((position) => this.#position(position)));
  }

  async history(target: Target, after: Position, upTo?: number): Promise<History> {
    await this.#commands.ready(performance.now() + this.#options.publishMs);
    const { size, ageMs } = this.#options.history;
    const [epoch, seq, flat] = await this.#run<[string, number, (string | number)[]]>(
      "history",
      [stateKey(target), logKey(target)],
      [after.epoch, after.seq, upTo === undefined ? "+" : `${upTo}-0`, size, ageMs],
    );
    const entries = [];
    for (let i = 0; i + 1 < flat.length; i += 2) {
      entries.push({ seq: Number(flat[i]), body: String(flat[i + 1]) });
    }
    const wanted = Math.max(0, Math.min(upTo ?? seq, seq) - after.seq);
    return {
      head: { epoch, seq },
      entries,
      complete: epoch === after.epoch && entries.length === wanted,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      [this.#commands, this.#subscriber].map((link) => link[Symbol.asyncDispose]()),
    );
  }

  async #position({ target, epoch, seq }: KnownPosition): Promise<Position> {
    const [itsEpoch, itsSeq] = await this.#run<[string, number]>(
      "position",
      [stateKey(target), logKey(target)],
      [epoch, seq, newEpoch(), stateMs(this.#options.history)],
    );
    return { epoch: itsEpoch, seq: itsSeq };
  }

  /** All at once on every new connection: loading on demand would let later publications pass earlier ones. */
  async #loadScripts(redis: Redis): Promise<void> {
    for (const [name, text] of Object.entries(scripts)) {
      this.#shas.set(name as Script, String(await redis.script("LOAD", text)));
    }
  }

  async #run<T>(
    script: Script,
    keys: readonly string[],
    args: readonly (string | number)[],
  ): Promise<T> {
    const { redis } = this.#commands;
    const call = () => redis.evalsha(this.#shas.get(script) ?? "", keys.length, ...keys, ...args);
    try {
      return await call() as T;
    } catch (error) {
      if (!(error instanceof ReplyError && (error as Error).message.startsWith("NOSCRIPT"))) {
        throw error;
      }
      // Somebody has flushed the server's scripts.
      await this.#loadScripts(redis);
      return await call() as T;
    }
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

  /** What was sent out while the connection was down is found by comparing positions, after all channels stand again. */
  async #resubscribe(redis: Redis): Promise<void> {
    const channels = [...this.#listening].map(channelOf);
    for (let at = 0; at < channels.length; at += channelsPerSubscribe) {
      await redis.subscribe(...channels.slice(at, at + channelsPerSubscribe));
    }
    if (channels.length > 0) this.#sink.disrupted();
  }
}

function channelOf(target: Target): string {
  return `gru:{${target}}`;
}

function stateKey(target: Target): string {
  return `gru:{${target}}:state`;
}

function logKey(target: Target): string {
  return `gru:{${target}}:log`;
}

/** The state outlives the history, so that an idle target does not change its epoch while somebody may still ask. */
function stateMs({ ageMs }: HistoryLimits): number {
  return ageMs * 2;
}

function newEpoch(): string {
  return crypto.randomUUID().slice(0, 13);
}
