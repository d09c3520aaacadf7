/** The state of one process, for a single stat beside its spears. */
import { changesOf } from "./changes.ts";
import type { Ban } from "@gru/spear/contract";
import type { Load, Report } from "./contract.ts";
import { firstNames } from "./names.ts";
import type {
  Found,
  Listing,
  LiveNodes,
  NodeCounts,
  PageOptions,
  Sample,
  StatStore,
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

export class MemoryStore implements StatStore {
  readonly ready = true;
  readonly #nodes = new Map<string, NodeState>();
  readonly #bans = new Map<string, Ban>();
  #samples: Sample[] = [];

  async apply(report: Report, ttlMs: number): Promise<{ resync: boolean }> {
    const known = this.#nodes.get(report.node);
    const follows = known?.session === report.session;
    const expiresAt = performance.now() + ttlMs;
    if (follows && known.version >= report.version) {
      if (known.version === report.version) known.expiresAt = expiresAt;
      return { resync: false };
    }
    let state = known;
    if (report.full) {
      state = {
        session: report.session,
        users: new Set(),
        groups: new Map(),
        version: 0,
        connections: 0,
        load: report.load,
        expiresAt,
      };
      this.#nodes.set(report.node, state);
    } else if (!follows || known.version !== report.version - 1) {
      return { resync: true };
    }
    if (state === undefined) return { resync: true };
    for (const { groupId, joined, left } of changesOf(report)) {
      const members = groupId === undefined
        ? state.users
        : state.groups.getOrInsertComputed(groupId, () => new Set());
      for (const userId of left) members.delete(userId);
      for (const userId of joined) members.add(userId);
      if (groupId !== undefined && members.size === 0) state.groups.delete(groupId);
    }
    state.version = report.version;
    state.connections = report.connections;
    state.load = report.load;
    state.expiresAt = expiresAt;
    return { resync: false };
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

  async removeNode(node: string): Promise<void> {
    const state = this.#nodes.get(node);
    if (state !== undefined) state.expiresAt = -Infinity;
  }

  async addSample(sample: Sample, keepFrom: number): Promise<void> {
    const kept = this.#samples.filter(({ at }) => at >= keepFrom);
    if (!kept.some(({ at }) => at === sample.at)) kept.push(sample);
    this.#samples = kept.sort((a, b) => a.at - b.at);
  }

  async samples(from: number): Promise<Sample[]> {
    return this.#samples.filter(({ at }) => at >= from);
  }

  async setBan(ban: Ban): Promise<void> {
    this.#bans.set(`${ban.kind} ${ban.id}`, ban);
  }

  async liftBan(kind: Ban["kind"], id: string): Promise<boolean> {
    return this.#bans.delete(`${kind} ${id}`);
  }

  async bans(now: number): Promise<Ban[]> {
    for (const [key, { until }] of this.#bans) if (until <= now) this.#bans.delete(key);
    return [...this.#bans.values()].sort((a, b) => a.until - b.until);
  }

  async sweep(): Promise<{ more: boolean }> {
    const now = performance.now();
    for (const [node, { expiresAt }] of this.#nodes) {
      if (expiresAt <= now) this.#nodes.delete(node);
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
      return state !== undefined && state.expiresAt > now ? [[node, state]] : [];
    });
  }
}
