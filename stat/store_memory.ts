/** The store of one process, for a single stat beside its spears. */
import { changesOf } from "./changes.ts";
import type { BanRecord, MuteRecord } from "@gru/spear/contract";
import type { Kick, Load, Report } from "./contract.ts";
import { MemoryOutbox } from "./hooks/outbox_memory.ts";
import { MemoryRestrictions } from "./restrictions_memory.ts";
import { MemoryTelling } from "./hooks/telling_memory.ts";
import { firstNames } from "./names.ts";
import { RpcError } from "@gru/shared/rpc/contract";
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

interface NodeState {
  readonly session: string;
  readonly users: Set<string>;
  readonly groups: Map<string, Set<string>>;
  version: number;
  connections: number;
  load: Load;
  /** On the clock of `performance.now()`. */
  expiresAt: number;
}

/** A full report whose parts have not all arrived. */
interface Upload {
  readonly version: number;
  readonly state: NodeState;
  /** On the clock of `performance.now()`. */
  givenUpAt: number;
}

/** A full report is dropped when its parts are further apart than this. */
const uploadMs = 60_000;
/** A claim without a report is forgotten after this time. */
const claimMs = 60_000;

export class MemoryStore implements StatStore {
  readonly ready = true;
  readonly telling = new MemoryTelling(() => this.#nodes.values(), () => this.#settled);
  readonly outbox = new MemoryOutbox(this.telling.stream);
  readonly bans = new MemoryRestrictions<BanRecord>(({ kind, id, reason, until }) => {
    if (!this.telling.isOn) return;
    this.telling.stream.add("user.banned", `${kind}:${id}`, {
      ...{ [`${kind}Id`]: id, reason, untilMs: until },
    });
  });
  readonly mutes = new MemoryRestrictions<MuteRecord>();
  readonly #nodes = new Map<string, NodeState>();
  readonly #uploads = new Map<string, Upload>();
  readonly #claims = new Map<string, { readonly session: string; readonly at: number }>();
  readonly #kicks = new Map<string, number>();
  #samples: Sample[] = [];
  #audit: AuditEntry[] = [];
  readonly #once = new Map<string, number>();
  /** On the clock of `performance.now()`. */
  readonly #openedAt = performance.now();
  #settled = false;

  async settle(live: LiveNodes, waitMs = reportsWaitMs): Promise<string[]> {
    const waiting = [...live].filter((node) => !this.#nodes.has(node)).sort();
    this.#settled ||= waiting.length === 0 || performance.now() - this.#openedAt >= waitMs;
    return this.#settled ? [] : waiting;
  }

  async apply(report: Report, ttlMs: number): Promise<Applied> {
    const { node, session, version, more } = report;
    if (report.claimed && this.#claims.get(node)?.session !== session) {
      return { resync: true, refused: true };
    }
    const known = this.#nodes.get(node);
    const follows = known?.session === session;
    const expiresAt = performance.now() + ttlMs;
    if (follows && known.version >= version) {
      if (known.version === version) known.expiresAt = expiresAt;
      return { resync: false };
    }
    let state = known;
    if (report.full) {
      state = this.#upload(report)?.state;
    } else if (!follows || known.version !== version - 1) {
      return { resync: true };
    }
    if (state === undefined) return { resync: true };
    for (const { groupId, joined, left } of changesOf(report)) {
      const members = groupId === undefined
        ? state.users
        : state.groups.getOrInsertComputed(groupId, () => new Set());
      if (!report.full) {
        this.telling.mark(true, groupId, joined);
        this.telling.mark(false, groupId, left);
      }
      for (const userId of left) members.delete(userId);
      for (const userId of joined) members.add(userId);
      if (groupId !== undefined && members.size === 0) state.groups.delete(groupId);
    }
    if (more) {
      if (follows) known.expiresAt = expiresAt;
      return { resync: false };
    }
    this.#uploads.delete(node);
    if (known !== undefined && known !== state) this.telling.markAll(false, known);
    if (known !== state) this.telling.markAll(true, state);
    this.#nodes.set(node, state);
    state.version = version;
    state.connections = report.connections;
    state.load = report.load;
    state.expiresAt = expiresAt;
    return { resync: false };
  }

  /** Where the parts of this full report are collected; undefined: its first part is not known. */
  #upload({ node, session, version, load, part = 0 }: Report): Upload | undefined {
    const now = performance.now();
    let upload = this.#uploads.get(node);
    const isSame = upload?.state.session === session && upload.version === version &&
      upload.givenUpAt > now;
    if (!isSame) {
      if (part > 0) return undefined;
      const [users, groups] = [new Set<string>(), new Map<string, Set<string>>()];
      const state = { session, users, groups, version: 0, connections: 0, load, expiresAt: 0 };
      this.#uploads.set(node, upload = { version, state, givenUpAt: 0 });
    }
    if (upload !== undefined) upload.givenUpAt = now + uploadMs;
    return upload;
  }

  async claim(node: string, session: string, takeOver: boolean): Promise<boolean> {
    const holder = this.#claims.get(node)?.session;
    if (holder !== undefined && holder !== session && !takeOver) return false;
    this.#claims.set(node, { session, at: performance.now() });
    return true;
  }

  async usersOfGroup(groupId: string, live: LiveNodes): Promise<string[]> {
    const users = new Set<string>();
    for (const [, state] of this.#live(live)) {
      for (const userId of state.groups.get(groupId) ?? []) users.add(userId);
    }
    return [...users];
  }

  async nodesOfUser(userId: string, live: LiveNodes): Promise<string[]> {
    return this.#live(live).filter(([, state]) => state.users.has(userId)).map(([node]) => node);
  }

  async page(listing: Listing, live: LiveNodes, options: PageOptions): Promise<Found[]> {
    const nodes = this.#live(live);
    const pages = nodes.map(([node, state]) => {
      const names = listing.of === "users of a group"
        ? state.groups.get(listing.groupId) ?? []
        : state[listing.of].keys();
      return { node, names: firstNames(names, options) };
    });
    const all = new Set(pages.flatMap(({ names }) => names));
    return firstNames(all, options).map((name) => ({
      name,
      nodes: nodes.flatMap(([node, { users, groups }]) => {
        if (listing.of === "groups") {
          const members = groups.get(name);
          return members === undefined ? [] : [{ node, users: members.size }];
        }
        const found = listing.of === "users" ? users : groups.get(listing.groupId);
        return found?.has(name) ? [{ node, users: 0 }] : [];
      }),
    }));
  }

  async nodesOfGroup(groupId: string, live: LiveNodes): Promise<{ node: string; users: number }[]> {
    return this.#live(live).flatMap(([node, { groups }]) => {
      const members = groups.get(groupId);
      return members === undefined ? [] : [{ node, users: members.size }];
    });
  }

  async counts(live: LiveNodes): Promise<NodeCounts[]> {
    return this.#live(live).map(([node, { connections, users, groups, load }]) => ({
      node,
      connections,
      users: users.size,
      groups: groups.size,
      load,
    }));
  }

  async distinct(of: "users" | "groups", live: LiveNodes): Promise<number> {
    const [first, ...others] = this.#live(live).map(([, state]) => state[of]);
    if (others.length === 0) return first?.size ?? 0;
    const names = new Set(first?.keys());
    for (const more of others) for (const name of more.keys()) names.add(name);
    return names.size;
  }

  async removeNode(node: string): Promise<void> {
    const state = this.#nodes.get(node);
    if (state !== undefined) state.expiresAt = -Infinity;
  }

  async addSample(
    sample: Omit<Sample, "at">,
    { stepMs, keepMs }: { readonly stepMs: number; readonly keepMs: number },
  ): Promise<number> {
    const now = Date.now();
    const at = now - now % stepMs;
    const kept = this.#samples.filter((one) => one.at >= at - keepMs && one.at <= at);
    if (kept.at(-1)?.at !== at) kept.push({ at, ...sample });
    this.#samples = kept;
    return at + stepMs - now;
  }

  async samples(lastMs: number): Promise<Samples> {
    const now = Date.now();
    const samples = this.#samples.filter(({ at }) => at >= now - lastMs && at <= now);
    return { samples, now };
  }

  async audit(
    entry: Omit<AuditEntry, "at">,
    { keepMs, most, once }: Parameters<StatStore["audit"]>[1],
  ): Promise<void> {
    const at = Date.now();
    if (once !== undefined && this.#once.has(once)) return;
    if (once !== undefined) this.#once.set(once, at);
    for (const [name, since] of this.#once) {
      if (since >= at - keepMs && this.#once.size <= most) break;
      this.#once.delete(name);
    }
    this.#audit.push({ at, ...entry });
    this.#audit = this.#audit.filter((one) => one.at >= at - keepMs).slice(-most);
  }

  async audits(limit: number, before = Infinity): Promise<AuditEntry[]> {
    return this.#audit.filter(({ at }) => at < before).reverse().slice(0, limit);
  }

  async kick(userId: string, reason = ""): Promise<number> {
    const at = Math.max(Date.now(), this.#kicks.get(userId) ?? 0);
    this.#kicks.set(userId, at);
    if (this.telling.isOn) {
      this.telling.stream.add("user.kicked", `user:${userId}`, { userId, reason });
    }
    return at;
  }

  async kicks(since: number): Promise<Kicks> {
    const now = Date.now();
    for (const [userId, at] of this.#kicks) if (at < now - kicksKeptMs) this.#kicks.delete(userId);
    const all = [...this.#kicks].sort(([, a], [, b]) => a - b);
    const found = all.filter(([, at]) => at >= since).map(([userId, at]) => ({ userId, at }));
    const kicks = found.slice(0, kicksPerPage);
    const from = now - kicksKeptMs + kicksUncountedMs;
    const count = all.filter(([, at]) => at >= from).length;
    return { kicks, now, more: kicks.length < found.length, count, from };
  }

  async restoreKicks(kicks: readonly Kick[]): Promise<void> {
    for (const { userId, at } of kicks) {
      this.#kicks.set(userId, Math.max(at, this.#kicks.get(userId) ?? 0));
    }
  }

  async sweep(): Promise<{ more: boolean }> {
    const now = performance.now();
    for (const [node, state] of this.#nodes) {
      if (state.expiresAt > now) continue;
      this.telling.markAll(false, state);
      this.#nodes.delete(node);
    }
    for (const [node, { givenUpAt }] of this.#uploads) {
      if (givenUpAt <= now) this.#uploads.delete(node);
    }
    for (const [node, { at }] of this.#claims) {
      if (!this.#nodes.has(node) && at + claimMs <= now) this.#claims.delete(node);
    }
    return { more: false };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#nodes.clear();
  }

  #live(live: LiveNodes): [string, NodeState][] {
    const now = performance.now();
    return [...live].sort().flatMap((node) => {
      const state = this.#nodes.get(node);
      if (state === undefined && !this.#settled) {
        throw new RpcError("unavailable", `${node} has not reported since this stat was started`);
      }
      return state !== undefined && state.expiresAt > now ? [[node, state]] : [];
    });
  }
}
