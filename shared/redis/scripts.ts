/** Lua scripts that every connection to Redis is given before it is used. */
import type { Buffer } from "node:buffer";
import type { Redis } from "ioredis";

export class RedisScripts<Name extends string> {
  readonly #texts: Readonly<Record<Name, string>>;
  readonly #shas = new Map<Name, string>();

  constructor(texts: Readonly<Record<Name, string>>) {
    this.#texts = texts;
  }

  /** All at once: loading on demand would let later commands pass earlier ones. */
  async load(redis: Redis): Promise<void> {
    const names = Object.keys(this.#texts) as Name[];
    const shas = await Promise.all(names.map((name) => redis.script("LOAD", this.#texts[name])));
    names.forEach((name, i) => this.#shas.set(name, String(shas[i])));
  }

  /** Rejects with `NOSCRIPT` where the server has lost the scripts, see `failureOf`. */
  run<T>(
    redis: Redis,
    name: Name,
    keys: readonly string[],
    args: readonly (string | number | Buffer)[],
  ): Promise<T> {
    const sha = this.#shas.get(name) ?? "";
    return redis.evalsha(sha, keys.length, ...keys, ...args) as Promise<T>;
  }
}
