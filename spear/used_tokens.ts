/** Remembers which tokens have been used: each lets in once, wherever in the cluster. */
import type { Logger } from "@gru/shared/log";
import { ClusterRedis } from "./redis_cluster.ts";
import { failureOf } from "./redis_link.ts";
import {
  parseRedisAddress,
  type RedisServer,
  type RedisServers,
  SoleRedis,
} from "./redis_servers.ts";
import { userTarget } from "./wire.ts";

export interface UsedTokens extends AsyncDisposable {
  /**
   * Whether this is the token's first use; exactly one of several at the same time is told so. Rejects when that
   * cannot be found out in bounded time: nobody is let in then.
   * @param until Unix milliseconds: after that the token is refused anyway.
   */
  use(userId: string, tokenId: string, until: number): Promise<boolean>;
}

/** For a node that is alone. */
export class MemoryUsedTokens implements UsedTokens {
  readonly #until = new Map<string, number>();
  #sweepAt = 1000;

  async use(_userId: string, tokenId: string, until: number): Promise<boolean> {
    if (this.#until.has(tokenId)) return false;
    if (this.#until.size >= this.#sweepAt) this.#sweep();
    this.#until.set(tokenId, until);
    return true;
  }

  get size(): number {
    return this.#until.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #sweep(): void {
    const now = Date.now();
    for (const [id, until] of this.#until) if (until < now) this.#until.delete(id);
    this.#sweepAt = Math.max(1000, 2 * this.#until.size);
  }
}

export interface RedisUsedTokensOptions {
  /** See {@linkcode parseRedisAddress}. */
  readonly url: string;
  readonly password?: string | undefined;
  readonly node: string;
  readonly log: Logger;
}

const giveUpMs = 3000;
const retryMs = 50;

/**
 * Over the cluster: `gru:{u:<user>}:used:<token>`, gone when the token has expired. As safe as Redis keeps it: a replica that
 * takes over may have forgotten the last second.
 */
export class RedisUsedTokens implements UsedTokens {
  readonly #servers: RedisServers;

  /** @throws {TypeError} for an address that is none. */
  constructor({ url, password, node, log }: RedisUsedTokensOptions) {
    const address = parseRedisAddress(url);
    const options = {
      password,
      log,
      name: `gru-${node}-tokens`,
      prepare: async () => {},
      onMessage: () => {},
      onChange: () => {},
    };
    this.#servers = address.kind === "cluster"
      ? new ClusterRedis(address.nodes, options)
      : new SoleRedis(address.place, options);
  }

  async use(userId: string, tokenId: string, until: number): Promise<boolean> {
    const target = userTarget(userId);
    const lifeMs = Math.max(1, Math.ceil(until - Date.now()));
    const key = `gru:{${target}}:used:${tokenId}`;
    const mine = crypto.randomUUID();
    const giveUpAt = performance.now() + giveUpMs;
    for (;;) {
      const server = this.#servers.serverOf(target);
      try {
        if (server?.commands.usable) return await claim(server, key, mine, lifeMs);
      } catch (error) {
        const failure = failureOf(error);
        if (failure === "refused") throw error;
        if (failure === "elsewhere" && server !== undefined) this.#servers.lookAgain(server);
      }
      if (performance.now() > giveUpAt) {
        throw new Error(`Redis did not say within ${giveUpMs} ms whether a token has been used`);
      }
      await new Promise((resolve) => setTimeout(resolve, retryMs));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#servers[Symbol.asyncDispose]();
  }
}

/** May be repeated when its outcome is not known. */
async function claim(
  { commands: { redis } }: RedisServer,
  key: string,
  mine: string,
  lifeMs: number,
): Promise<boolean> {
  if (await redis.set(key, mine, "PX", lifeMs, "NX") === "OK") return true;
  return await redis.get(key) === mine;
}
