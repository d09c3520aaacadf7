/**
 * Changes the list of shards while nodes run: holds all shards, moves what has another shard from now on, and opens
 * them with the new list. A node waits meanwhile, and sends again what was not answered; what it sends again is
 * recognised, because what is known of it has moved too. Begun again after it was interrupted it goes on: what has been
 * moved already is where it belongs.
 */
import { formatHostAndPort, type HostAndPort, parseHostAndPort } from "../address.ts";
import type { Logger } from "../log.ts";
import { Redis } from "ioredis";
import {
  addressesOf,
  holdShard,
  listOf,
  openShard,
  readShardList,
  type ShardList,
  ShardRing,
  shardsTag,
} from "./shard_list.ts";

export interface MoveShardsOptions {
  /** Some of the present shards. */
  readonly seeds: readonly HostAndPort[];
  /** All that are to be. */
  readonly next: readonly HostAndPort[];
  /** Present shards, `host:port`, that are gone for ever, with what they had. */
  readonly lost?: readonly string[];
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  readonly log: Logger;
}

export interface Moved {
  /** Keys that have another shard now. */
  readonly keys: number;
  readonly list: string;
}

const connectMs = 3000;
const keysAtOnce = 500;
/** Of connections of this cluster's nodes, see `RedisTopologyOptions.name`. */
const nodesNames = /^gru-/;

/**
 * @throws {Error} that names the shard and says what to do; the shards are as they were, or held until this is done
 * again.
 */
export async function moveShards(options: MoveShardsOptions): Promise<Moved> {
  await using shards = new Shards(options);
  const { log } = options;
  const next = listOf(options.next.map(formatHostAndPort));
  await shards.reach(options.seeds.map(formatHostAndPort));
  const now = shards.newest();
  if (now === undefined) {
    throw new Error("there are no shards yet: start a spear, whose profile's list is the first");
  }
  const lost = new Set(options.lost);
  const both = addressesOf({ list: next }).find((address) => lost.has(address));
  if (both !== undefined) {
    throw new Error(`${both} is named as lost, and as one of those that are to be`);
  }
  await shards.reach([...addressesOf(now), ...addressesOf({ list: next })], lost);
  // The present list may be known to one of these only.
  const newest = shards.newest() ?? now;
  if (newest.gen !== now.gen) await shards.reach(addressesOf(newest), lost);
  const unfinished = shards.said().find(({ next }) => next !== undefined)?.next;
  if (unfinished !== undefined && unfinished !== next) {
    throw new Error(`a move to the shards ${unfinished} is not finished: finish it first`);
  }
  if (newest.list === next && unfinished === undefined) return { keys: 0, list: next };
  shards.requireOne(newest.id);
  // Interrupted while the shards were opened: everything is where it belongs.
  if (newest.list === next) {
    await shards.openAll(newest);
    return { keys: 0, list: next };
  }
  await shards.rehearse(newest, next);
  let keys = 0;
  try {
    await shards.hold(newest, next);
    log.info("all shards are held: moving from {from} to {next}", { from: newest.list, next });
    keys = await shards.move(newest, next);
    await shards.openAll({ id: newest.id, gen: newest.gen + 1, list: next });
  } catch (error) {
    const message = error instanceof Error ? error.message : `${error}`;
    throw new Error(`${message}. No messages are sent until this is done again`, { cause: error });
  }
  log.info("the shards are {next}; {keys} keys have moved", { next, keys });
  return { keys, list: next };
}

/** Connections to shards, and what these said when they were reached. */
class Shards implements AsyncDisposable {
  readonly #options: MoveShardsOptions;
  readonly #links = new Map<string, { readonly redis: Redis; readonly said?: ShardList }>();

  constructor(options: MoveShardsOptions) {
    this.#options = options;
  }

  async reach(addresses: readonly string[], lost: ReadonlySet<string> = new Set()) {
    for (const address of addresses) {
      if (this.#links.has(address) || lost.has(address)) continue;
      const place = parseHostAndPort(address);
      if (place === undefined) throw new Error(`${address} is no host:port`);
      const { username, password } = this.#options;
      const redis = new Redis({
        ...place,
        ...(username === undefined ? {} : { username }),
        ...(password === undefined ? {} : { password }),
        connectTimeout: connectMs,
        lazyConnect: true,
        retryStrategy: () => null,
      });
      let why = "";
      redis.on("error", ({ message }: Error) => why = message);
      this.#links.set(address, { redis });
      try {
        await redis.connect();
      } catch (error) {
        throw new Error(
          `the shard ${address} cannot be reached (${
            why || (error as Error).message
          }): start it, or, if it is gone for ever ` +
            `with all that it had, name it with --lost ${address}`,
        );
      }
      const said = await readShardList(redis);
      this.#links.set(address, said === undefined ? { redis } : { redis, said });
    }
  }

  said(): ShardList[] {
    return this.#links.values().map(({ said }) => said).filter((said) => said !== undefined)
      .toArray();
  }

  newest(): ShardList | undefined {
    return this.said().toSorted((a, b) => b.gen - a.gen)[0];
  }

  /** @throws {Error} one belongs to others */
  requireOne(id: string): void {
    for (const [address, { said }] of this.#links) {
      if (said === undefined || said.id === id) continue;
      throw new Error(
        `${address} is one of other shards, ${said.list}. If these are no more, and what it has may go: ` +
          `redis-cli -h … del 'gru:{${shardsTag}}'`,
      );
    }
  }

  /**
   * Does all that will be done with something that nobody needs: what is refused is refused before any node is held up.
   */
  async rehearse(now: ShardList, next: string): Promise<void> {
    const key = `gru:{${shardsTag}}:try`;
    for (const from of addressesOf(now)) {
      const source = this.#links.get(from)?.redis;
      if (source === undefined) continue;
      for (const to of new Set([from, ...addressesOf({ list: next })])) {
        const target = this.#links.get(to)?.redis;
        try {
          await Promise.all([source, target].map((redis) => redis?.client("LIST")));
          await source.set(key, "", "PX", connectMs);
          if (target !== undefined) await copy(source, target, [key]);
          await Promise.all([source, target].map((redis) => redis?.unlink(key)));
          await source.scan("0", "COUNT", 1);
        } catch (error) {
          throw new Error(
            `keys cannot be moved from ${from} to ${to}: ${(error as Error).message}`,
          );
        }
      }
    }
  }

  /** No node uses any of them when this resolves, and none will. */
  async hold(now: ShardList, next: string): Promise<void> {
    const present = addressesOf(now);
    for (const [address, { redis, said }] of this.#links) {
      // What it may have from another time would be taken for what is current.
      if (!present.includes(address) && said?.next === undefined) await clear(redis);
      await holdShard(redis, now, next);
      await endNodes(redis);
    }
  }

  async move(now: ShardList, next: string): Promise<number> {
    const [before, after] = [now, { list: next }].map((list) => new ShardRing(addressesOf(list)));
    let moved = 0;
    for (const from of addressesOf(now)) {
      const source = this.#links.get(from)?.redis;
      if (source === undefined) continue;
      for await (const keys of targetKeys(source)) {
        const byOwner = Map.groupBy(keys, (key) => after?.ownerOf(tagOf(key)) ?? from);
        for (const [owner, its] of byOwner) {
          if (owner === from) continue;
          const target = this.#links.get(owner)?.redis;
          const current = its.filter((key) => before?.ownerOf(tagOf(key)) === from);
          // Nothing goes that has not arrived.
          if (target === undefined) throw new Error(`the shard ${owner} is not connected`);
          await copy(source, target, current);
          await source.unlink(...its);
          moved += current.length;
        }
      }
    }
    return moved;
  }

  async openAll(list: ShardList): Promise<void> {
    for (const { redis } of this.#links.values()) {
      await openShard(redis, list);
      // One that lost its data meanwhile, and with them that it is held, has been used by the old list.
      await endNodes(redis);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(
      this.#links.values().map(async ({ redis }) => {
        const ended = new Promise((resolve) => redis.once("end", resolve));
        if (redis.status === "end") return;
        redis.disconnect();
        await ended;
      }),
    );
  }
}

async function endNodes(redis: Redis): Promise<void> {
  const list = String(await redis.client("LIST"));
  const ids = list.split("\n").filter((line) =>
    nodesNames.test(/ name=(\S*)/.exec(line)?.[1] ?? "")
  )
    .map((line) => /^id=(\d+)/.exec(line)?.[1] ?? "");
  for (const id of ids) await redis.client("KILL", "ID", id);
}

async function clear(redis: Redis): Promise<void> {
  for await (const keys of targetKeys(redis)) await redis.unlink(...keys);
}

/** All keys with a tag but the list of the shards itself; one may come twice. */
async function* targetKeys(redis: Redis): AsyncGenerator<string[]> {
  let cursor = "0";
  do {
    const [next, keys] = await redis.scan(cursor, "MATCH", "gru:{*", "COUNT", keysAtOnce);
    cursor = next;
    const its = keys.filter((key) => tagOf(key) !== shardsTag);
    if (its.length > 0) yield its;
  } while (cursor !== "0");
}

function tagOf(key: string): string {
  return key.slice(key.indexOf("{") + 1, key.indexOf("}"));
}

async function copy(source: Redis, target: Redis, keys: readonly string[]): Promise<void> {
  const reading = source.pipeline();
  for (const key of keys) reading.dumpBuffer(key).pttl(key);
  const read = await reading.exec() ?? [];
  const writing = target.pipeline();
  keys.forEach((key, i) => {
    const [[failed, value] = [], [, leftMs] = []] = read.slice(2 * i, 2 * i + 2);
    if (failed) throw failed;
    // One that has expired since.
    if (value === null || leftMs === -2) return;
    writing.restore(key, Math.max(0, Number(leftMs)), value as Uint8Array as never, "REPLACE");
  });
  for (const [failed] of await writing.exec() ?? []) if (failed) throw failed;
}
