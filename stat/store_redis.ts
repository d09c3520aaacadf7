/**
 * The state in Redis, shared by any number of stats.
 *
 * Keys, `<place>` being `<hash>:<node>`, another one for every full report:
 * - `gru_stat_node:<node>` hash: session, version, place, connections, load, era,
 *   holder (the session that has claimed the node)
 * - `user_count:<node>` string: distinct users; expires with the node's time to live, and the node with it
 * - `gru_stat:<place>_<groupId>` the users of a group
 * - `gru_stat_groups:<place>` the groups that have such a key
 * - `gru_stat_users:<place>` the users of the node
 * - `gru_stat_nodes` sorted set: node → when it expires; `gru_stat_garbage` sorted set: place → when to sweep it
 * - `gru_stat_samples` sorted set: sample → its moment; `gru_stat_bans` and `gru_stat_mutes` hashes: `user 5` → record (`banRecordSchema`)
 * - `gru_stat_audit` sorted set: entry of the audit log → its moment; `gru_stat_audit_once` likewise: what is noted once
 * - `gru_stat_kicks` sorted set: user → when the user was kicked last, on Redis's clock
 * - `gru_stat_hooks`, `gru_stat_marks`, `gru_stat_walks`, `gru_stat_events`: what hooks tell, see `lua/hooks.lua`
 * - `gru_stat_era` hash: since when nothing can have been lost, see `lua/era.lua`
 *
 * On Redis Cluster every `<node>` is `{gru_stat}<node>`, and the names without one end in `{gru_stat}`: all keys are in one slot,
 * because scripts find the place in the node's hash, and so use keys that they do not declare.
 *
 * The three kinds of names are sorted sets with no scores, which Redis keeps in the order of the names: a page of them is
 * found without going through those before it.
 *
 * Gru kept a group under `gru_stat:<node>_<groupId>`. The place stands for the node here so that a large full
 * report can come in pieces and then be switched to in one step.
 */
import { RpcError } from "@gru/shared/rpc/contract";
import type { BanRecord, MuteRecord } from "@gru/spear/contract";
import { changesOf } from "./changes.ts";
import type { Kick, Report } from "./contract.ts";
import { RedisOutbox } from "./hooks/outbox_redis.ts";
import { RedisTelling } from "./hooks/telling_redis.ts";
import { compareNames } from "./names.ts";
import { lexRange, piecesOf, placeOf } from "./redis_args.ts";
import { RedisRestrictions } from "./restrictions_redis.ts";
import { RedisCalls, type RedisCallsOptions } from "./redis_calls.ts";
import {
  type Applied,
  type AuditEntry,
  type Found,
  type Kicks,
  kicksKeptMs,
  kicksPerPage,
  kicksUncountedMs,
  type Listing,
  type LiveNodes,
  type NodeCounts,
  type PageOptions,
  reportsWaitMs,
  type Sample,
  type Samples,
  type StatStore,
} from "./store.ts";

export interface RedisStoreOptions extends Omit<RedisCallsOptions, "node" | "timeoutMs"> {
  /** Names this stat to people who look at Redis. Default `stat`. */
  readonly node?: string;
  /** The most that any call to Redis takes. Default 2000. */
  readonly timeoutMs?: number;
  /** Names that one script adds, removes or unites at most, so that none holds Redis up. Default 1000. */
  readonly pieceSize?: number;
}

/** A full report whose next piece does not come within this time is given up. */
const uploadMs = 60_000;
/** A claim without a report is forgotten after this time. */
const claimMs = 60_000;

/** @throws {RpcError} `unavailable` when Redis cannot be used in time. */
export async function openRedisStore(options: RedisStoreOptions): Promise<StatStore> {
  const { timeoutMs = 2000, pieceSize = 1000, node = "stat", ...others } = options;
  const calls = new RedisCalls({ ...others, node, timeoutMs });
  try {
    await calls.opened();
  } catch (error) {
    await calls[Symbol.asyncDispose]();
    throw error;
  }
  return new RedisStore(calls, pieceSize, timeoutMs);
}

class RedisStore implements StatStore {
  readonly telling: RedisTelling;
  readonly outbox: RedisOutbox;
  readonly #calls: RedisCalls;
  readonly #pieceSize: number;
  /** How long what a full report replaced is kept: no read takes longer from finding a place to the end. */
  readonly #replacedMs: number;
  readonly #nodes: string;
  readonly #garbage: string;
  readonly #samples: string;
  readonly #audit: string;
  readonly #once: string;
  readonly bans: RedisRestrictions<BanRecord>;
  readonly mutes: RedisRestrictions<MuteRecord>;
  readonly #kicks: string;

  constructor(calls: RedisCalls, pieceSize: number, timeoutMs: number) {
    this.#calls = calls;
    this.telling = new RedisTelling(calls);
    this.outbox = new RedisOutbox(calls);
    this.#pieceSize = pieceSize;
    this.#replacedMs = 2 * timeoutMs;
    const { tag } = calls;
    this.#nodes = `gru_stat_nodes${tag}`;
    this.#garbage = `gru_stat_garbage${tag}`;
    this.#samples = `gru_stat_samples${tag}`;
    this.#audit = `gru_stat_audit${tag}`;
    this.#once = `gru_stat_audit_once${tag}`;
    const restrictions = { calls, pieceSize };
    this.bans = new RedisRestrictions({
      ...{ ...restrictions, key: `gru_stat_bans${tag}`, name: "ban", told: true },
    });
    this.mutes = new RedisRestrictions({
      ...{ ...restrictions, key: `gru_stat_mutes${tag}`, name: "mute", told: false },
    });
    this.#kicks = `gru_stat_kicks${tag}`;
  }

  get ready(): boolean {
    return this.#calls.ready;
  }

  async settle(live: LiveNodes, waitMs = reportsWaitMs): Promise<string[]> {
    const { nodes, keys } = this.#keysOf(live);
    const action = "see whether all nodes have reported";
    const waiting = await this.#calls.call<number[]>(action, "settle", keys, [waitMs]);
    return waiting.map((n) => nodes[n - 1] ?? "");
  }

  async apply(report: Report, ttlMs: number, signal?: AbortSignal): Promise<Applied> {
    const { session, version, connections, load, part = 0, more = false } = report;
    const node = this.#nameOf(report.node);
    const pieces = piecesOf(changesOf(report), this.#pieceSize);
    const place = report.full ? placeOf(report, node) : "";
    for (const [i, piece] of pieces.entries()) {
      const first = part === 0 && i === 0 ? 1 : 0;
      const last = !more && i === pieces.length - 1 ? 1 : 0;
      if (signal?.aborted) throw new RpcError("cancelled", "the caller of a report is gone");
      const answer = await this.#calls.call<"done" | "more" | "resync" | "refused">(
        "take a report in",
        "report",
        [nodeKey(node), this.#nodes, countKey(node), this.#garbage],
        [
          ...[node, session, version, connections, ttlMs, place, first, last, uploadMs],
          ...[this.#replacedMs, JSON.stringify(load), report.claimed ? 1 : 0],
          ...piece,
        ],
      );
      if (answer === "refused") return { resync: true, refused: true };
      if (answer !== "more") return { resync: answer === "resync" };
    }
    return { resync: false };
  }

  async claim(name: string, session: string, takeOver: boolean): Promise<boolean> {
    const node = this.#nameOf(name);
    const claimed = await this.#calls.call(
      ...["claim a node", "claim", [nodeKey(node), this.#nodes]] as const,
      [node, session, takeOver ? 1 : 0, claimMs],
    );
    return claimed === 1;
  }

  async usersOfGroup(groupId: string, live: LiveNodes): Promise<string[]> {
    const { keys } = this.#keysOf(live);
    const [whole, found, era = ""] = await this.#calls.call<[0 | 1, string[], string?]>(
      ...["read a group", "usersOfGroup", keys] as const,
      [groupId, this.#pieceSize],
    );
    if (whole === 1) return found;
    // A large union would hold Redis up; single sets are read fast.
    const sets = await Promise.all(
      found.map((key) => this.#calls.call<string[]>("read a group", "setOfGroup", [key], [era])),
    );
    return [...new Set(sets.flat())];
  }

  async nodesOfUser(userId: string, live: LiveNodes): Promise<string[]> {
    const { nodes, keys } = this.#keysOf(live);
    const found = await this.#calls.call<number[]>("find a user", "nodesOfUser", keys, [userId]);
    return found.map((n) => nodes[n - 1] ?? "");
  }

  async page(listing: Listing, live: LiveNodes, options: PageOptions): Promise<Found[]> {
    const { nodes, keys } = this.#keysOf(live);
    const [of, groupId] = listing.of === "users of a group"
      ? ["group", listing.groupId]
      : [listing.of, ""];
    const pages = await this.#calls.call<[n: number, names: (string | number)[]][]>(
      ...["read a page", "page", keys] as const,
      [of, groupId, ...lexRange(options), options.limit],
    );
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
    const { nodes, keys } = this.#keysOf(live);
    const found = await this.#calls.call<[n: number, users: number][]>(
      ...["find a group", "nodesOfGroup", keys, [groupId]] as const,
    );
    return found.map(([n, users]) => ({ node: nodes[n - 1] ?? "", users }));
  }

  async counts(live: LiveNodes): Promise<NodeCounts[]> {
    const { nodes, keys } = this.#keysOf(live);
    const found = await this.#calls.call<[number, number, number, number, string][]>(
      ...["count", "counts", keys, []] as const,
    );
    return found.map(([n, connections, users, groups, load]) => (
      { node: nodes[n - 1] ?? "", connections, users, groups, load: JSON.parse(load) }
    ));
  }

  async distinct(of: "users" | "groups", live: LiveNodes): Promise<number> {
    const { keys } = this.#keysOf(live);
    let total = 0;
    for (let after: string | undefined = "-"; after !== undefined;) {
      const [count, last]: [number, string?] = await this.#calls.call<[number, string?]>(
        ...["count", "distinct", keys, [of, after, this.#pieceSize]] as const,
      );
      total += count;
      after = last === undefined ? undefined : `(${last}`;
    }
    return total;
  }

  async removeNode(name: string): Promise<void> {
    const node = this.#nameOf(name);
    await this.#calls.call(
      ...["remove a node", "removeNode", [countKey(node), this.#nodes], [node]] as const,
    );
  }

  async addSample(
    sample: Omit<Sample, "at">,
    { stepMs, keepMs }: { readonly stepMs: number; readonly keepMs: number },
  ): Promise<number> {
    const args = [JSON.stringify(sample), stepMs, keepMs];
    return await this.#calls.call<number>("keep a sample", "sample", [this.#samples], args);
  }

  async samples(lastMs: number): Promise<Samples> {
    const [now, found] = await this.#calls.call<[number, string[]]>(
      ...["read samples", "samples", [this.#samples], [lastMs]] as const,
    );
    return { samples: found.map((text) => JSON.parse(text)), now };
  }

  async audit(
    entry: Omit<AuditEntry, "at">,
    { keepMs, most, once = "" }: Parameters<StatStore["audit"]>[1],
  ): Promise<void> {
    // Two entries of one millisecond may be the same otherwise, and a set holds each once.
    const text = JSON.stringify({ ...entry, nonce: crypto.randomUUID().slice(0, 8) });
    await this.#calls.call("keep an entry of the audit log", "audit", [this.#audit, this.#once], [
      ...[text, keepMs, most, once],
    ]);
  }

  async audits(limit: number, before?: number): Promise<AuditEntry[]> {
    const found = await this.#calls.call<string[]>(
      ...["read the audit log", "audits", [this.#audit], [before ?? "", limit]] as const,
    );
    return found.map((text) => {
      const { nonce: _, ...entry } = JSON.parse(text);
      return entry;
    });
  }

  async kick(userId: string, reason = ""): Promise<number> {
    const args = [userId, kicksKeptMs, reason];
    return await this.#calls.call<number>("keep a kick", "kick", [this.#kicks], args);
  }

  async kicks(since: number): Promise<Kicks> {
    const countedMs = kicksKeptMs - kicksUncountedMs;
    const [now, from, count, found] = await this.#calls.call<[number, number, number, string[]]>(
      ...["read kicks", "kicks", [this.#kicks], [since, kicksPerPage + 1, countedMs]] as const,
    );
    const kicks = found.slice(0, 2 * kicksPerPage).flatMap((userId, i) =>
      i % 2 === 0 ? [{ userId, at: Number(found[i + 1]) }] : []
    );
    return { kicks, now, more: found.length > 2 * kicksPerPage, count, from };
  }

  async restoreKicks(kicks: readonly Kick[]): Promise<void> {
    for (let at = 0; at < kicks.length; at += this.#pieceSize) {
      const args = kicks.slice(at, at + this.#pieceSize).flatMap(({ userId, at }) => [at, userId]);
      await this.#calls.call("bring kicks back", "restoreKicks", [this.#kicks], args);
    }
  }

  async sweep(): Promise<{ more: boolean }> {
    const more = await this.#calls.call(
      ...["sweep", "sweep", [this.#nodes, this.#garbage], [this.#pieceSize]] as const,
    );
    return { more: more === 1 };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#calls[Symbol.asyncDispose]();
  }

  /** As it stands in keys. */
  #nameOf(node: string): string {
    return `${this.#calls.tag}${node}`;
  }

  /** For the scripts that read: of each node its hash and its user count. */
  #keysOf(live: LiveNodes): { nodes: string[]; keys: string[] } {
    const nodes = [...live].sort();
    const names = nodes.map((node) => this.#nameOf(node));
    return { nodes, keys: names.flatMap((name) => [nodeKey(name), countKey(name)]) };
  }
}

function nodeKey(name: string): string {
  return `gru_stat_node:${name}`;
}

function countKey(name: string): string {
  return `user_count:${name}`;
}
