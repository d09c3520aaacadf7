/**
 * Several independent Redis that share the keys by consistent hashing of their tags: which ones these are. Each of them
 * keeps the list, `gru:{shards}` (hash): id of the shards, gen (how often the list has changed), list (`host:port`,
 * separated by commas) and, while targets move, next (the list that is to be). A node believes the highest gen, and
 * uses no shard that says anything else: two nodes with different lists would each find half of what a group is sent.
 */
import { createHash } from "node:crypto";
// @ts-types="npm:@types/hashring@3.2.5"
import HashRing from "hashring";
import type { Redis } from "ioredis";

export interface ShardList {
  /** Of these shards, of whatever list: another cluster's have another one. */
  readonly id: string;
  readonly gen: number;
  /** `host:port` of each, in order, separated by commas. */
  readonly list: string;
  /** Targets are being moved to this list; no node may use the shards meanwhile. */
  readonly next?: string;
}

/** No target's tag. */
export const shardsTag = "shards";
const key = `gru:{${shardsTag}}`;

/** Takes the list given where there is none yet; an answer either way. */
const keepScript = `
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'id', ARGV[1], 'gen', ARGV[2], 'list', ARGV[3])
end
return redis.call('HMGET', KEYS[1], 'id', 'gen', 'list', 'next')`;

/** For each shard, in hashring's terms. More points make the shares more even. */
const vnodes = 160;

/** The places in the order that makes two lists of the same shards equal. */
export function listOf(addresses: Iterable<string>): string {
  return [...new Set(addresses)].toSorted().join(",");
}

export function addressesOf({ list }: Pick<ShardList, "list">): string[] {
  return list.split(",");
}

/** Names a shard in the state of its targets, and on the ring. */
export function shardName(address: string): string {
  return createHash("sha256").update(address).digest("hex").slice(0, 12);
}

/** Which shard has a tag. When one is added or removed, only the tags that it wins or loses move. */
export class ShardRing {
  readonly #addresses: ReadonlyMap<string, string>;
  readonly #ring: HashRing;

  constructor(addresses: readonly string[]) {
    this.#addresses = new Map(addresses.map((address) => [shardName(address), address]));
    this.#ring = new HashRing(
      Object.fromEntries(this.#addresses.keys().map((name) => [name, { vnodes }])),
    );
  }

  /** `host:port` */
  ownerOf(tag: string): string {
    return this.#addresses.get(this.#ring.get(tag)) ?? "";
  }
}

/** What this shard says; undefined: it is no shard yet, or has lost its data. */
export async function readShardList(redis: Redis): Promise<ShardList | undefined> {
  return parse(await redis.hmget(key, "id", "gen", "list", "next"));
}

/** What this shard says, after it was told this list if it had none. */
export async function keepShardList(redis: Redis, list: ShardList): Promise<ShardList> {
  const kept = await redis.eval(keepScript, 1, key, list.id, list.gen, list.list);
  return parse(kept as (string | null)[]) ?? list;
}

/** From now on no node that connects uses this shard. */
export async function holdShard(redis: Redis, { id, gen, list }: ShardList, next: string) {
  await redis.hset(key, { id, gen, list, next });
}

/** From now on nodes use this shard by this list. */
export async function openShard(redis: Redis, { id, gen, list }: ShardList) {
  await redis.multi().del(key).hset(key, { id, gen, list }).exec();
}

function parse([id, gen, list, next]: readonly (string | null | undefined)[]) {
  if (!id || !gen || !list) return undefined;
  return { id, gen: Number(gen), list, ...(next ? { next } : {}) };
}
