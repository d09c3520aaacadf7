/** The state of one process, for a single stat beside its spears. */
import { changesOf } from "./changes.ts";
import type { Report } from "./contract.ts";
import type { LiveNodes, NodeCounts, StatStore } from "./store.ts";

interface NodeState {
  readonly session: string;
  readonly users: Set<string>;
  readonly groups: Map<string, Set<string>>;
  version: number;
  connections: number;
  /** On the clock of `performance.now()`. */
  expiresAt: number;
}

export class MemoryStore implements StatStore {
  readonly ready = true;
  readonly #nodes = new Map<string, NodeState>();

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

  async counts(live: LiveNodes): Promise<NodeCounts[]> {
    return this.#live(live).map(([node, { connections, users, groups }]) => ({
      node,
      connections,
      users: users.size,
      groups: groups.size,
    }));
  }

  async removeNode(node: string): Promise<void> {
    const state = this.#nodes.get(node);
    if (state !== undefined) state.expiresAt = -Infinity;
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
