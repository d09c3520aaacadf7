/**
 * Where targets are, asked for many of them by one script: a node whose Redis was away asks for all that it listens to, and one
 * script for each would take seconds of its thread.
 */
import { failureOf } from "@gru/shared/redis/link";
import type { Redis } from "ioredis";

/** The keys and arguments of one target, see `lua/position.lua`. */
export interface PositionQuestion {
  readonly keys: readonly string[];
  readonly args: readonly (string | number)[];
}

export interface PositionQuestionsOptions {
  /** Runs the script on this connection. */
  readonly run: (
    redis: Redis,
    keys: readonly string[],
    args: readonly (string | number)[],
  ) => Promise<readonly (string | number)[]>;
  /** Targets that one script may be asked about: one in a Cluster, where they are in different slots. */
  readonly atOnce: () => number;
}

interface Waiting {
  readonly question: PositionQuestion;
  readonly resolve: (position: readonly [epoch: string, seq: number]) => void;
  readonly reject: (error: unknown) => void;
}

export class PositionQuestions {
  readonly #options: PositionQuestionsOptions;
  /** What is asked for in this round of promises. */
  readonly #gathered = new Map<Redis, Waiting[]>();

  constructor(options: PositionQuestionsOptions) {
    this.#options = options;
  }

  ask(redis: Redis, question: PositionQuestion): Promise<readonly [epoch: string, seq: number]> {
    const { promise, resolve, reject } = Promise.withResolvers<
      readonly [epoch: string, seq: number]
    >();
    const gathered = this.#gathered.getOrInsertComputed(redis, () => {
      queueMicrotask(() => this.#askAll(redis));
      return [];
    });
    gathered.push({ question, resolve, reject });
    return promise;
  }

  #askAll(redis: Redis): void {
    const all = this.#gathered.get(redis) ?? [];
    this.#gathered.delete(redis);
    const atOnce = this.#options.atOnce();
    for (let at = 0; at < all.length; at += atOnce) {
      void this.#askSome(redis, all.slice(at, at + atOnce));
    }
  }

  async #askSome(redis: Redis, some: readonly Waiting[]): Promise<void> {
    try {
      const answer = await this.#options.run(
        redis,
        some.flatMap(({ question }) => question.keys),
        some.flatMap(({ question }) => question.args),
      );
      some.forEach(({ resolve }, i) => resolve([String(answer[2 * i]), Number(answer[2 * i + 1])]));
    } catch (error) {
      // One that is refused, as of a key that is something else, must not refuse the others.
      if (some.length > 1 && failureOf(error) === "refused") {
        for (const one of some) void this.#askSome(redis, [one]);
      } else for (const { reject } of some) reject(error);
    }
  }
}
