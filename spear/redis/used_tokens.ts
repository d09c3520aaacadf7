/** The tokens that have been used, over all nodes that share a Redis. */
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import { parseRedisAddress } from "@gru/shared/redis/address";
import { failureOf } from "@gru/shared/redis/link";
import { openTopology, type RedisServer, type RedisTopology } from "@gru/shared/redis/topology";
import type { UsedTokens } from "../session/used_tokens.ts";
import { userTarget } from "../wire.ts";

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
  readonly #servers: RedisTopology;

  /** @throws {TypeError} for an address that is none. */
  constructor({ url, password, node, log }: RedisUsedTokensOptions) {
    this.#servers = openTopology(parseRedisAddress(url), {
      password,
      log,
      name: `gru-${node}-tokens`,
    });
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
        if (failure === "elsewhere" && server !== undefined) this.#servers.refresh(server);
      }
      if (performance.now() > giveUpAt) {
        throw new Error(`Redis did not say within ${giveUpMs} ms whether a token has been used`);
      }
      await pause(retryMs);
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
