/**
 * The state in Redis, shared by any number of stats.
 *
 * Keys, `<place>` being `<random>:<node>`, a new one for every full report:
 * - `gru_stat_node:<node>` hash: session, version, place, connections, load
 * - `user_count:<node>` string: distinct users; expires with the node's time to live, and the node with it
 * - `gru_stat:<place>_<groupId>` the users of a group
 * - `gru_stat_groups:<place>` the groups that have such a key
 * - `gru_stat_users:<place>` the users of the node
 * - `gru_stat_nodes` sorted set: node → when it expires; `gru_stat_garbage` sorted set: place → when to sweep it
 * - `gru_stat_samples` sorted set: sample → its moment; `gru_stat_bans` hash: `user 5` → ban
 *
 * The three kinds of names are sorted sets with no scores, which Redis keeps in the order of the names: a page of them is
 * found without going through those before it.
 *
 * Gru kept a group under `gru_stat:<node>_<groupId>`. The place stands for the node here so that a large full
 * report can come in pieces and then be switched to in one step. Scripts find the place in the node's hash, thus
 * use keys that they do not declare: right for one Redis with replicas, not for Redis Cluster.
 */
import { Buffer } from "node:buffer";
import { Redis } from "ioredis";
import { RpcError } from "@gru/shared/rpc/contract";
import type { Logger } from "@gru/shared/log";
import { type Change, changesOf } from "./changes.ts";
import type { Ban } from "@gru/spear/contract";
import type { Report } from "./contract.ts";
import { compareNames } from "./names.ts";
import type {
  Found,
  Listing,
  LiveNodes,
  NodeCounts,
  PageOptions,
  Sample,
  StatStore,
} from "./store.ts";
import bansScript from "./lua/bans.lua" with { type: "text" };
import countsScript from "./lua/counts.lua" with { type: "text" };
import nodesOfGroupScript from "./lua/nodes_of_group.lua" with { type: "text" };
import nodesOfUserScript from "./lua/nodes_of_user.lua" with { type: "text" };
import pageScript from "./lua/page.lua" with { type: "text" };
import reportScript from "./lua/report.lua" with { type: "text" };
import sampleScript from "./lua/sample.lua" with { type: "text" };
import sweepScript from "./lua/sweep.lua" with { type: "text" };
import usersOfGroupScript from "./lua/users_of_group.lua" with { type: "text" };

export interface RedisStoreOptions {
  /** `redis://[user@]host:port[/db]` */
  readonly url: string;
  readonly password?: string;
  readonly log: Logger;
  /** The most that any call to Redis takes. Default 2000. */
  readonly timeoutMs?: number;
  /** Names that one script adds, removes or unites at most, so that none holds Redis up. Default 1000. */
  readonly pieceSize?: number;
}

/** A full report that has not come whole after this time is given up. */
const uploadMs = 60_000;

interface Scripts {
  gruReport(...args: (string | number)[]): Promise<"done" | "more" | "resync" | "lost">;
  gruUsersOfGroup(...args: (string | number)[]): Promise<[whole: 0 | 1, found: string[]]>;
  gruNodesOfUser(...args: (string | number)[]): Promise<number[]>;
  gruCounts(...args: (string | number)[]): Promise<[number, number, number, number, string][]>;
  gruPage(
    ...args: (string | number | Buffer)[]
  ): Promise<[n: number, names: (string | number)[]][]>;
  gruNodesOfGroup(...args: (string | number)[]): Promise<[n: number, users: number][]>;
  gruBans(...args: (string | number)[]): Promise<string[]>;
  gruSample(...args: (string | number)[]): Promise<1>;
  gruSweep(...args: (string | number)[]): Promise<0 | 1>;
}

/** @throws RpcError `unavailable` when Redis does not answer in time. */
export async function openRedisStore(options: RedisStoreOptions): Promise<StatStore> {
  const { url, password, log, timeoutMs = 2000, pieceSize = 1000 } = options;
  const redis = new Redis(url, {
    ...(password === undefined ? {} : { password }),
    lazyConnect: true,
    connectTimeout: timeoutMs,
    commandTimeout: timeoutMs,
    // A frozen server or a host that vanished keeps the connection open: give it up and connect anew.
    socketTimeout: timeoutMs,
    // A command fails while Redis is away, and is never sent later: the caller knows best what to do then.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (attempt) => Math.min(50 * attempt, 500),
    scripts: {
      gruReport: { lua: reportScript, numberOfKeys: 4 },
      gruUsersOfGroup: { lua: usersOfGroupScript },
      gruNodesOfUser: { lua: nodesOfUserScript },
      gruCounts: { lua: countsScript },
      gruPage: { lua: pageScript },
      gruNodesOfGroup: { lua: nodesOfGroupScript },
      gruBans: { lua: bansScript, numberOfKeys: 1 },
      gruSample: { lua: sampleScript, numberOfKeys: 1 },
      gruSweep: { lua: sweepScript, numberOfKeys: 2 },
    },
  }) as Redis & Scripts;
  logState(redis, log);
  let reason: unknown;
  redis.on("error", (error) => reason = error);
  try {
    await redis.connect();
  } catch (error) {
    redis.disconnect();
    throw unavailable(`connect to ${new URL(url).host}`, reason ?? error);
  }
  return new RedisStore(redis, pieceSize, timeoutMs);
}

class RedisStore implements StatStore {
  readonly #redis: Redis & Scripts;
  readonly #pieceSize: number;
  /** How long what a full report replaced is kept: no read takes longer from finding a place to the end. */
  readonly #replacedMs: number;

  constructor(redis: Redis & Scripts, pieceSize: number, timeoutMs: number) {
    this.#redis = redis;
    this.#pieceSize = pieceSize;
    this.#replacedMs = 2 * timeoutMs;
  }

  get ready(): boolean {
    return this.#redis.status === "ready";
  }

  async apply(report: Report, ttlMs: number): Promise<{ resync: boolean }> {
    const { node, session, version, connections, load } = report;
    const pieces = piecesOf(changesOf(report), this.#pieceSize);
    const place = report.full ? `${randomName()}:${node}` : "";
    for (const [i, piece] of pieces.entries()) {
      const first = i === 0 ? 1 : 0;
      const last = i === pieces.length - 1 ? 1 : 0;
      const answer = await reach("take a report in", () =>
        this.#redis.gruReport(
          ...[nodeKey(node), "gru_stat_nodes", countKey(node), "gru_stat_garbage"],
          ...[node, session, version, connections, ttlMs, place, first, last, uploadMs],
          ...[this.#replacedMs, JSON.stringify(load)],
          ...piece,
        ));
      if (answer === "lost") {
        throw new RpcError("unavailable", `Redis lost the beginning of a full report of ${node}`);
      }
      if (answer !== "more") return { resync: answer === "resync" };
    }
    return { resync: false };
  }

  async usersOfGroup(groupId: string, live: LiveNodes): Promise<string[]> {
    const { keys } = keysOf(live);
    return await reach("read a group", async () => {
      const [whole, found] = await this.#redis.gruUsersOfGroup(
        ...[keys.length, ...keys, groupId, this.#pieceSize],
      );
      if (whole === 1) return found;
      // A large union would hold Redis up; single sets are read fast.
      const sets = await Promise.all(found.map((key) => this.#redis.zrange(key, "0", "-1")));
      return [...new Set(sets.flat())];
    });
  }

  async nodesOfUser(userId: string, live: LiveNodes): Promise<string[]> {
    const { nodes, keys } = keysOf(live);
    const found = await reach(
      "find a user",
      () => this.#redis.gruNodesOfUser(keys.length, ...keys, userId),
    );
    return found.map((n) => nodes[n - 1] ?? "");
  }

  async page(listing: Listing, live: LiveNodes, options: PageOptions): Promise<Found[]> {
    const { nodes, keys } = keysOf(live);
    const ofGroup = listing.of === "users of a group";
    const pages = await reach("read a page", () =>
      this.#redis.gruPage(
        ...[keys.length, ...keys, ofGroup ? "group" : listing.of, ofGroup ? listing.groupId : ""],
        ...lexRange(options),
        options.limit,
      ));
    const found = new Map<string, { node: string; users: number }[]>();
    for (const [n, names] of pages) {
      const step = listing.of === "groups" ? 2 : 1;
      for (let i = 0; i < names.length; i += step) {
        const users = step === 2 ? Number(names[i + 1]) : 0;
        found.getOrInsertComputed(String(names[i]), () => [])
          .push({ node: nodes[n - 1] ?? "", users });
      }
    }
    return [...found].map(([name, nodes]) => ({ name, nodes }))
      .sort((a, b) => compareNames(a.name, b.name)).slice(0, options.limit);
  }

  async nodesOfGroup(groupId: string, live: LiveNodes): Promise<{ node: string; users: number }[]> {
    const { nodes, keys } = keysOf(live);
    const found = await reach(
      "find a group",
      () => this.#redis.gruNodesOfGroup(keys.length, ...keys, groupId),
    );
    return found.map(([n, users]) => ({ node: nodes[n - 1] ?? "", users }));
  }

  async counts(live: LiveNodes): Promise<NodeCounts[]> {
    const { nodes, keys } = keysOf(live);
    const found = await reach("count", () => this.#redis.gruCounts(keys.length, ...keys));
    return found.map(([n, connections, users, groups, load]) => (
      { node: nodes[n - 1] ?? "", connections, users, groups, load: JSON.parse(load) }
    ));
  }

  async removeNode(node: string): Promise<void> {
    await reach("remove a node", async () => {
      await this.#redis.zadd("gru_stat_nodes", "XX", 0, node);
      await this.#redis.del(countKey(node));
    });
  }

  async addSample(sample: Sample, keepFrom: number): Promise<void> {
    const text = JSON.stringify(sample);
    await reach(
      "keep a sample",
      () => this.#redis.gruSample("gru_stat_samples", sample.at, text, keepFrom),
    );
  }

  async samples(from: number): Promise<Sample[]> {
    const found = await reach(
      "read samples",
      () => this.#redis.zrangebyscore("gru_stat_samples", from, "+inf"),
    );
    return found.map((text) => JSON.parse(text));
  }

  async setBan(ban: Ban): Promise<void> {
    await reach(
      "keep a ban",
      () => this.#redis.hset("gru_stat_bans", `${ban.kind} ${ban.id}`, JSON.stringify(ban)),
    );
  }

  async liftBan(kind: Ban["kind"], id: string): Promise<boolean> {
    const lifted = await reach(
      "lift a ban",
      () => this.#redis.hdel("gru_stat_bans", `${kind} ${id}`),
    );
    return lifted === 1;
  }

  async bans(now: number): Promise<Ban[]> {
    const holding = await reach("read bans", () => this.#redis.gruBans("gru_stat_bans", now));
    return holding.map((text): Ban => JSON.parse(text)).sort((a, b) => a.until - b.until);
  }

  async sweep(): Promise<{ more: boolean }> {
    const more = await reach(
      "sweep",
      () => this.#redis.gruSweep("gru_stat_nodes", "gru_stat_garbage", this.#pieceSize),
    );
    return { more: more === 1 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { status } = this.#redis;
    const ended = new Promise((resolve) => this.#redis.once("end", resolve));
    this.#redis.disconnect();
    // Without a connection there is none to wait for, and no event that says so.
    if (status !== "reconnecting" && status !== "end") await ended;
  }
}

/** Script arguments for all changes, in at least one piece, none with more than `size` names by much. */
function piecesOf(changes: readonly Change[], size: number): string[][] {
  let piece: string[] = [];
  const pieces = [piece];
  let names = 0;
  for (const { groupId = "", joined, left } of changes) {
    for (const [verb, users] of [["leave", [...left]], ["join", [...joined]]] as const) {
      for (let at = 0; at < users.length; at += size) {
        const part = users.slice(at, at + size);
        if (names > 0 && names + part.length > size) {
          pieces.push(piece = []);
          names = 0;
        }
        piece.push(verb, groupId, `${part.length}`, ...part);
        names += part.length;
      }
    }
  }
  return pieces;
}

/** For the scripts that read: of each node its hash and its user count. */
function keysOf(live: LiveNodes): { nodes: string[]; keys: string[] } {
  const nodes = [...live].sort();
  return { nodes, keys: nodes.flatMap((node) => [nodeKey(node), countKey(node)]) };
}

/** The lowest and the highest name, as Redis takes them. Names are UTF-8, in which there is no byte 255. */
function lexRange({ prefix, after }: PageOptions): [string | Buffer, string | Buffer] {
  const low = after === "" || compareNames(after, prefix) < 0 ? `[${prefix}` : `(${after}`;
  return [low, prefix === "" ? "+" : Buffer.concat([Buffer.from(`(${prefix}`), Buffer.of(255)])];
}

function nodeKey(node: string): string {
  return `gru_stat_node:${node}`;
}

function countKey(node: string): string {
  return `user_count:${node}`;
}

/** No two full reports ever share one, also after Redis lost its data. */
function randomName(): string {
  const [random = 0n] = crypto.getRandomValues(new BigUint64Array(1));
  return random.toString(36);
}

async function reach<T>(action: string, call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (error) {
    throw unavailable(action, error);
  }
}

function unavailable(action: string, cause: unknown): RpcError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new RpcError("unavailable", `Redis: cannot ${action}: ${reason}`, { cause });
}

/** One line when Redis goes and one when it comes back, however often connecting fails between. */
function logState(redis: Redis, log: Logger): void {
  let away = false;
  let reason = "connection closed";
  redis.on("error", (error: Error) => reason = error.message);
  redis.on("reconnecting", () => {
    if (!away) log.warning("Redis is away: {reason}", { reason });
    away = true;
  });
  redis.on("ready", () => {
    if (away) log.info("Redis is back");
    away = false;
    reason = "connection closed";
  });
}
