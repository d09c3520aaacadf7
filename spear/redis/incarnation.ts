/**
 * Whether a Redis server that has started again may go on where it was. A process that is killed has lost nothing of its append-only
 * file; a machine that lost power has lost its last moments, and a backup much more. If such a server went on, it would give
 * a `seq` a second time. Redis cannot tell; the nodes that live through it can, see `lua/incarnation.lua`.
 */
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import type { Redis } from "ioredis";

export interface IncarnationsOptions {
  /** Of this node, another after each of its starts. */
  readonly session: string;
  /** Names the node for people. */
  readonly node: string;
  /** Runs the script on this connection. */
  readonly run: (
    redis: Redis,
    key: string,
    args: readonly (string | number)[],
  ) => Promise<[judged: number, home: string, nowMs: number]>;
  /**
   * Compares where this node has been with what the server has: a target that is behind has begun a new epoch when this resolves.
   */
  readonly compare: (redis: Redis) => Promise<void>;
  readonly log: Logger;
}

/** A start of a server. */
export interface Incarnation {
  /** Another one after each start. */
  readonly run: string;
  /** The name that the server has if it was never judged. */
  readonly home: string;
  /** A hash tag whose keys are on this server. */
  readonly tag: string;
  /** It answers for nothing before that is on the disk: what nodes know that are gone by now cannot be missing. */
  readonly syncsAlways: boolean;
}

/** How long the votes of nodes that were there before are waited for. */
const votesMs = 3000;
/** What the nodes remember of their own publications: a server that lacks more cannot be compared. */
export const rememberedMs = 10_000;
const beatMs = 1000;
const askAgainMs = 50;

export class Incarnations implements Disposable {
  readonly #options: IncarnationsOptions;
  /** By key: when this node was last there, on the server's clock. */
  readonly #lastThere = new Map<string, number>();
  readonly #present = new Map<Redis, Incarnation>();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #closing = new AbortController();

  constructor(options: IncarnationsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#beat(), beatMs);
  }

  /** The name under which the server counts, once it has been judged. Rejects when the connection breaks. */
  async judge(redis: Redis, incarnation: Incarnation): Promise<string> {
    const { node, log, compare } = this.#options;
    const fresh = crypto.randomUUID().slice(0, 12);
    this.#present.delete(redis);
    let [judged, home] = await this.#ask(redis, incarnation, fresh, false);
    if (judged === 0) {
      await compare(redis);
      [judged, home] = await this.#ask(redis, incarnation, fresh, true);
      while (judged === 0) {
        await pause(askAgainMs, this.#closing.signal);
        this.#closing.signal.throwIfAborted();
        [judged, home] = await this.#ask(redis, incarnation, fresh, true);
      }
      if (home === fresh) {
        log.warn(
          "{node}: Redis has started again, and may lack messages that it had accepted: all groups and users begin a new epoch",
          { node },
        );
      }
    }
    this.#present.set(redis, incarnation);
    return home;
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
    clearInterval(this.#timer);
  }

  async #ask(redis: Redis, incarnation: Incarnation, fresh: string, vote: boolean) {
    const { run, home, tag, syncsAlways } = incarnation;
    const key = `gru:incarnation:${home}:{${tag}}`;
    const lastThere = this.#lastThere.get(key) ?? 0;
    const waitMs = syncsAlways ? 0 : votesMs;
    const args = [run, this.#options.session, home, fresh, vote ? 1 : 0, lastThere, waitMs];
    const answer = await this.#options.run(redis, key, [...args, rememberedMs / 2]);
    if (answer[0] === 1) this.#lastThere.set(key, answer[2]);
    return answer;
  }

  #beat(): void {
    for (const [redis, incarnation] of this.#present) {
      if (redis.status !== "ready") this.#present.delete(redis);
      // A connection that breaks is judged anew.
      else void this.#ask(redis, incarnation, "", false).catch(() => {});
    }
  }
}
