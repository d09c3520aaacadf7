/**
 * Several independent Redis as one: each tag has its shard, {@linkcode ShardRing}. The shards themselves keep the list
 * of them; the profile's is where they are looked for, and the first list. A change of the list ends the connections of
 * all nodes (`move_shards.ts`), so a connection that is used has been opened since, and its shard said then what this
 * node believes.
 */
import { formatHostAndPort, type HostAndPort, parseHostAndPort } from "../address.ts";
import { pause } from "../pause.ts";
import type { Redis } from "ioredis";
import {
  addressesOf,
  keepShardList,
  listOf,
  readShardList,
  type ShardList,
  shardName,
  ShardRing,
} from "./shard_list.ts";
import {
  closeServer,
  isUsable,
  openServer,
  reconnectServer,
  type RedisServer,
  type RedisTopology,
  type RedisTopologyOptions,
  troubleOf,
} from "./server.ts";

/** Between two looks at a shard while the others have not been heard. */
const lookAgainMs = 200;

export class ShardsRedisTopology implements RedisTopology {
  readonly sharded = false;
  readonly #options: RedisTopologyOptions;
  readonly #seeds: readonly string[];
  /** By `host:port`. */
  readonly #servers = new Map<string, RedisServer>();
  readonly #closing = new Set<Promise<void>>();
  readonly #over = new AbortController();
  /** What the shards have said, until there is a list. */
  readonly #heard = new Map<string, ShardList | undefined>();
  #list: ShardList | undefined;
  #ring: ShardRing | undefined;

  constructor(seeds: readonly HostAndPort[], options: RedisTopologyOptions) {
    this.#options = options;
    this.#seeds = addressesOf({ list: listOf(seeds.map(formatHostAndPort)) });
    for (const seed of this.#seeds) this.#open(seed);
  }

  /** Half of the shards can be used at least: where one is away, its targets wait for it, and the others' need not. */
  get usable(): boolean {
    if (this.#ring === undefined) return false;
    return this.#servers.values().filter(isUsable).toArray().length >= this.#servers.size / 2;
  }

  get trouble(): string {
    return this.#servers.values().map(troubleOf).find((trouble) => trouble !== "") ?? "";
  }

  serverOf(tag: string): RedisServer | undefined {
    return this.#ring && this.#servers.get(this.#ring.ownerOf(tag));
  }

  refresh(server: RedisServer): void {
    reconnectServer(server);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await Promise.all([...this.#closing, ...this.#servers.values().map(closeServer)]);
  }

  #open(address: string): void {
    const place = parseHostAndPort(address);
    if (place === undefined) return;
    const { prepare, name } = this.#options;
    const admit = (redis: Redis) => this.#admit(address, redis);
    this.#servers.set(
      address,
      openServer(place, {
        ...this.#options,
        name: `${name}-${address}`,
        admit,
        prepare: (redis) => prepare?.(redis, shardName(address)) ?? Promise.resolve(),
      }),
    );
  }

  /** Resolves when the shard says what this node believes, and with it all others that it has to hear. */
  async #admit(address: string, redis: Redis): Promise<void> {
    while (this.#servers.has(address) && !this.#over.signal.aborted) {
      const said = await readShardList(redis);
      if (said?.next !== undefined) {
        throw new Error(`its targets are being moved to the shards ${said.next}`);
      }
      if (this.#list === undefined) {
        this.#heard.set(address, said);
        await this.#begin(redis);
        if (this.#list === undefined) await pause(lookAgainMs, this.#over.signal);
        continue;
      }
      const list: ShardList = this.#list;
      const kept = said ?? await keepShardList(redis, list);
      if (kept.id !== list.id) {
        throw new Error(`it is one of other shards, ${kept.list}; these are ${list.list}`);
      }
      if (kept.gen === list.gen && kept.list === list.list) return;
      if (kept.gen <= list.gen) {
        throw new Error(
          `it says that the shards are ${kept.list} (change ${kept.gen}), the others say ${list.list} ` +
            `(change ${list.gen})`,
        );
      }
      this.#adopt(kept);
    }
    throw new Error("it is no shard any more");
  }

  /**
   * There is a list once all shards have been heard, or most of them and these agree: a node that is cut off from the
   * others may reach one alone that was given up long ago.
   */
  async #begin(redis: Redis): Promise<void> {
    const newest = this.#heard.values().reduce<ShardList | undefined>(
      (newest, said) => said !== undefined && said.gen > (newest?.gen ?? 0) ? said : newest,
      undefined,
    );
    const needed = newest === undefined ? this.#seeds : addressesOf(newest);
    for (const address of needed) if (!this.#servers.has(address)) this.#open(address);
    const agree = needed.filter((address) => this.#heard.get(address)?.gen === newest?.gen);
    const isMost = newest !== undefined && agree.length > needed.length / 2;
    if (!isMost && !needed.every((address) => this.#heard.has(address))) return;
    if (newest !== undefined) return this.#adopt(newest);
    // The first of them decides for all nodes that come now.
    const [first = ""] = this.#seeds;
    const decides = this.#servers.get(first)?.commands.redis;
    if (decides !== redis) return;
    const list = { id: crypto.randomUUID().slice(0, 8), gen: 1, list: this.#seeds.join(",") };
    this.#adopt(await keepShardList(redis, list));
  }

  #adopt(list: ShardList): void {
    const { log, name, onChange } = this.#options;
    const addresses = addressesOf(list);
    if (this.#list !== undefined || list.list !== this.#seeds.join(",")) {
      log.warn("{name}: the shards of Redis are {list}; the profile says {seeds}", {
        ...{ name, list: list.list, seeds: this.#seeds.join(",") },
      });
    }
    this.#list = list;
    this.#ring = new ShardRing(addresses);
    this.#heard.clear();
    for (const address of addresses) if (!this.#servers.has(address)) this.#open(address);
    for (const [address, server] of this.#servers) {
      if (addresses.includes(address)) continue;
      this.#servers.delete(address);
      const closing = closeServer(server).finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }
    onChange?.();
  }
}
