/** The operations of the HTTP API: reads of the store, and commands that the spears execute. */
import type { Instance } from "@gru/shared/registry/registry";
import type { RpcClient } from "@gru/shared/rpc/client";
import { type Client, RpcError } from "@gru/shared/rpc/contract";
import {
  type Ban,
  clientAddress,
  idsOfMute,
  memberId,
  type MuteRecord,
  type SpearContract,
} from "@gru/spear/contract";
import type { TargetOfCommand } from "@gru/spear/contract";
import { redact } from "@gru/shared/redact";
import { Distinct } from "./distinct.ts";
import type { LiveNodes, NodeCounts, StatStore } from "./store.ts";

export interface OperationsOptions {
  readonly store: StatStore;
  readonly spears: RpcClient<SpearContract>;
  /** The spears that are alive. */
  readonly instances: () => readonly Instance[];
  /** Unix milliseconds on the clock of the instances' `startedAt`. Default: this machine's. */
  readonly now?: () => number;
}

export interface Failure {
  readonly node: string;
  readonly code: string;
  readonly message: string;
}

/** Of a request with many targets, so many are asked for at a time. */
const atOnce = 50;

/** A command that reached only some of its nodes is not undone; the failed nodes are reported. */
export interface Touched {
  readonly connections: number;
  readonly nodes: { readonly node: string; readonly connections: number }[];
  readonly failed: Failure[];
}

/** A node without an answer for this long counts as failed; the others have answered by then. */
const perNodeMs = 2000;

/** A user anywhere, everybody to a group, or a user to a group. */
export interface Muted {
  readonly userId?: string | undefined;
  readonly groupId?: string | undefined;
}

function keyOfMute({ userId = "", groupId }: Muted): Pick<MuteRecord, "kind" | "id"> {
  if (groupId === undefined) return { kind: "user", id: userId };
  return userId === ""
    ? { kind: "group", id: groupId }
    : { kind: "member", id: memberId(groupId, userId) };
}

export class Operations {
  readonly store: StatStore;
  readonly spears: RpcClient<SpearContract>;
  readonly distinct: Distinct;
  readonly #instances: () => readonly Instance[];
  readonly #now: () => number;

  constructor({ store, spears, instances, now = Date.now }: OperationsOptions) {
    this.#now = now;
    this.store = store;
    this.distinct = new Distinct(store);
    this.spears = spears;
    this.#instances = instances;
  }

  get live(): LiveNodes {
    return new Set(this.#instances().map(({ name }) => name));
  }

  /** Nodes that accept commands: a starting node has no clients yet, a stopped one has none left. */
  get served(): string[] {
    return this.#instances().filter(({ addresses }) => addresses.rpc !== undefined)
      .map(({ name }) => name);
  }

  /** @throws {RpcError} `not_found` */
  requireNode(node: string): LiveNodes {
    if (this.live.has(node)) return new Set([node]);
    throw noNode(node);
  }

  /** @throws {RpcError} `not_found` */
  async node(name: string) {
    const found = (await this.nodes()).find(({ node }) => node === name);
    if (found === undefined) throw noNode(name);
    return found;
  }

  async nodes() {
    const counts = new Map((await this.store.counts(this.live)).map((one) => [one.node, one]));
    return this.#instances().map(({ name, addresses, startedAt, meta }) => ({
      node: name,
      address: addresses[clientAddress] ?? null,
      version: String(meta.version ?? ""),
      startedAt,
      uptimeMs: Math.max(0, this.#now() - startedAt),
      draining: meta.draining === true,
      reporting: counts.has(name),
      ...flat(counts.get(name)),
    }));
  }

  async placeOfUser(userId: string) {
    const nodes = await this.store.nodesOfUser(userId, this.live);
    const { answers, failed } = await this.ask(
      nodes,
      (spear, options) => spear.connectionsOfUser({ userId }, options),
    );
    const found = answers.map(({ node, answer }) => ({ node, connections: answer.connections }))
      .filter(({ connections }) => connections.length > 0);
    return { userId, online: found.length > 0 || failed.length > 0, nodes: found, failed };
  }

  async presence(groupId: string) {
    const [users, nodes] = await Promise.all([
      this.store.usersOfGroup(groupId, this.live),
      this.store.nodesOfGroup(groupId, this.live),
    ]);
    const { answers, failed } = await this.ask(
      nodes.map(({ node }) => node),
      (spear, options) => spear.connectionsOfGroup({ groupId }, options),
    );
    const connections = new Map(answers.map(({ node, answer }) => [node, answer.connections]));
    return {
      groupId,
      users: users.length,
      connections: sum([...connections.values()]),
      nodes: nodes.map((one) => ({ ...one, connections: connections.get(one.node) ?? 0 })),
      failed,
    };
  }

  async publish(
    target: TargetOfCommand,
    message: { readonly content: string; readonly fromId: string },
    idempotencyKey: string | undefined,
  ) {
    try {
      return await this.spears.any.publish({
        target,
        ...message,
        ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      });
    } catch (error) {
      if (!(error instanceof RpcError) || error.code !== "unknown") throw error;
      const advice = idempotencyKey === undefined
        ? "if you repeat it without an idempotency-key, it may arrive twice"
        : "repeat it with the same idempotency-key";
      throw new RpcError("unknown", `it may have been sent, or not: ${advice} (${error.message})`, {
        cause: error,
      });
    }
  }

  /** Each target has its own result. */
  async publishToMany(
    { groupIds, userIds }: {
      readonly groupIds: readonly string[];
      readonly userIds: readonly string[];
    },
    message: { readonly content: string; readonly fromId: string },
    idempotencyKey: string | undefined,
  ) {
    const targets: TargetOfCommand[] = [
      ...groupIds.map((id) => ({ kind: "group", id }) as const),
      ...userIds.map((id) => ({ kind: "user", id }) as const),
    ];
    return await inParallel(targets, atOnce, async (target) => {
      const whom = target.kind === "group" ? { groupId: target.id } : { userId: target.id };
      try {
        return { ...whom, ...await this.publish(target, message, idempotencyKey) };
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        return { ...whom, error: { code: error.code, message: redact(error.message) } };
      }
    });
  }

  async clearHistory(target: TargetOfCommand) {
    await this.spears.any.clearHistory({ target });
    return { cleared: true as const };
  }

  async presenceOfMany(userIds: readonly string[]) {
    const { live } = this;
    return await inParallel(userIds, atOnce, async (userId) => {
      const nodes = await this.store.nodesOfUser(userId, live);
      return { userId, online: nodes.length > 0, nodes };
    });
  }

  async broadcast(message: { readonly content: string; readonly fromId: string }) {
    const { id } = await this.spears.any.nextId({});
    const createTime = this.#now();
    const touched = await this.#notifyNodes(
      this.served,
      (spear, options) => spear.broadcast({ id, createTime, ...message }, options),
    );
    return { id, ...touched };
  }

  async putUser(userId: string, groupId: string): Promise<Touched> {
    return await this.#notifyNodes(
      this.served,
      (spear, options) => spear.putUser({ userId, groupId }, options),
    );
  }

  async takeUser(userId: string, groupId: string): Promise<Touched> {
    return await this.#notifyNodes(
      this.served,
      (spear, options) => spear.takeUser({ userId, groupId }, options),
    );
  }

  /** Sent to all nodes, because no report contains a user that has just connected. */
  async kickUser(userId: string, reason: string, banMs: number | undefined): Promise<Touched> {
    const ban = await this.#ban("user", userId, reason, banMs);
    // Stored before any node is notified, like a ban. If that fails, the connections are closed all the same.
    const [kick] = await Promise.allSettled([this.store.kick(userId, reason)]);
    const notBefore = kick.status === "fulfilled" ? { notBefore: kick.value } : {};
    const touched = await this.#notifyNodes(
      this.served,
      (spear, options) => spear.kickUser({ userId, reason, ...notBefore, ...ban }, options),
    );
    if (kick.status === "rejected") throw kick.reason;
    return touched;
  }

  async kickConnection(connectionId: string, reason: string): Promise<Touched> {
    const node = connectionId.split(".")[0] ?? "";
    const nodes = this.live.has(node) ? [node] : [];
    const touched = await this.#notifyNodes(
      nodes,
      (spear, options) => spear.kickConnection({ connectionId, reason }, options),
    );
    if (touched.connections > 0) return touched;
    throw new RpcError("not_found", `connectionId: there is no connection ${connectionId}`);
  }

  async kickGroup(
    groupId: string,
    options: { userId?: string | undefined; reason: string; banMs?: number | undefined },
  ): Promise<Touched> {
    const { userId, reason, banMs } = options;
    const ban = await this.#ban("group", groupId, reason, banMs);
    const whom = userId === undefined ? {} : { userId };
    return await this.#notifyNodes(
      this.served,
      (spear, options) => spear.kickGroup({ groupId, ...whom, reason, ...ban }, options),
    );
  }

  async drain(node: string, overMs: number | undefined) {
    this.requireNode(node);
    const request = overMs === undefined ? {} : { overMs };
    return { node, ...await this.spears.at(node).drain(request) };
  }

  async undrain(node: string) {
    this.requireNode(node);
    await this.spears.at(node).undrain({});
    return { node, draining: false as const };
  }

  async rebalance(perSecond: number | undefined) {
    const request = perSecond === undefined ? {} : { perSecond };
    return this.#rebalancing((spear, options) => spear.rebalance(request, options));
  }

  async rebalancing() {
    return this.#rebalancing((spear, options) => spear.rebalancing({}, options));
  }

  async #rebalancing(
    call: (
      spear: Client<SpearContract>,
      options: { timeoutMs: number },
    ) => ReturnType<Client<SpearContract>["rebalancing"]>,
  ) {
    const { answers, failed } = await this.ask(this.served, call);
    const nodes = answers.map(({ node, answer }) => ({ node, ...answer }));
    return {
      running: nodes.some(({ running }) => running),
      asked: sum(nodes.map(({ asked }) => asked)),
      moved: sum(nodes.map(({ moved }) => moved)),
      nodes,
      failed,
    };
  }

  async canary() {
    const { answers, failed } = await this.ask(
      this.served,
      (spear, options) => spear.canary({}, options),
    );
    return { nodes: answers.map(({ node, answer }) => ({ node, ...answer })), failed };
  }

  async mute(whom: Muted, reason: string, muteMs: number) {
    const record = await this.store.mutes.set({ ...keyOfMute(whom), reason, ms: muteMs });
    return { until: record.until, ...await this.#tellOfMute(record) };
  }

  async unmute(whom: Muted): Promise<Touched> {
    const { kind, id } = keyOfMute(whom);
    const record = await this.store.mutes.lift(kind, id);
    if (record !== undefined) return await this.#tellOfMute(record);
    const { userId, groupId } = whom;
    const who = userId === undefined ? `groupId: group ${groupId}` : `userId: user ${userId}`;
    const where = userId !== undefined && groupId !== undefined ? ` in group ${groupId}` : "";
    throw new RpcError("not_found", `${who} is not muted${where}`);
  }

  /** Nodes that cannot be reached now learn of it when they are back. */
  #tellOfMute({ keptUntil: _, ...record }: MuteRecord): Promise<Touched> {
    return this.#notifyNodes(this.served, (spear, options) => spear.mute(record, options));
  }

  /** The present mutes. */
  async mutes() {
    const { records, now } = await this.store.mutes.all();
    return records.filter(({ until }) => until > now)
      .map(({ reason, until, ...whom }) => ({ ...idsOfMute(whom), reason, until }));
  }

  /** The present bans. */
  async bans(): Promise<Ban[]> {
    const { records, now } = await this.store.bans.all();
    return records.filter(({ until }) => until > now)
      .map(({ kind, id, reason, until }) => ({ kind, id, reason, until }));
  }

  /** Stored before any node is notified: a node that cannot be reached now learns of it when it is back. */
  async #ban(
    kind: Ban["kind"],
    id: string,
    reason: string,
    banMs: number | undefined,
  ): Promise<{ until?: number; version?: number }> {
    if (banMs === undefined) return {};
    const { until, version } = await this.store.bans.set({ kind, id, reason, ms: banMs });
    return { until, version };
  }

  async #notifyNodes(
    nodes: readonly string[],
    call: (
      spear: Client<SpearContract>,
      options: { timeoutMs: number },
    ) => Promise<{ connections: number }>,
  ): Promise<Touched> {
    const { answers, failed } = await this.ask(nodes, call);
    const touched = answers.map(({ node, answer }) => ({ node, connections: answer.connections }));
    return { connections: sum(touched.map((one) => one.connections)), nodes: touched, failed };
  }

  /** @throws {RpcError} the first node's error when no node at all answers. */
  async ask<T>(
    nodes: readonly string[],
    call: (spear: Client<SpearContract>, options: { timeoutMs: number }) => Promise<T>,
  ): Promise<{ answers: { node: string; answer: T }[]; failed: Failure[] }> {
    const answers: { node: string; answer: T }[] = [];
    const failures: { node: string; error: RpcError }[] = [];
    await Promise.all(nodes.map(async (node) => {
      try {
        answers.push({ node, answer: await call(this.spears.at(node), { timeoutMs: perNodeMs }) });
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        failures.push({ node, error });
      }
    }));
    const [first] = failures;
    if (first !== undefined && answers.length === 0) throw first.error;
    answers.sort((a, b) => a.node < b.node ? -1 : 1);
    return {
      answers,
      failed: failures.map(({ node, error: { code, message } }) => ({ node, code, message })),
    };
  }
}

function noNode(node: string): RpcError {
  return new RpcError("not_found", `node: no live spear is called ${node}`);
}

/** A node's counts in the API's shape; undefined: the node has not reported. */
export function flat(counts: NodeCounts | undefined) {
  const { connections = 0, users = 0, groups = 0 } = counts ?? {};
  const idle = { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 };
  return { connections, users, groups, ...(counts?.load ?? idle) };
}

export function sum(numbers: readonly number[]): number {
  return numbers.reduce((total, one) => total + one, 0);
}

/** The results in the order of the items. */
async function inParallel<T, R>(
  items: readonly T[],
  atOnce: number,
  work: (item: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const entries = items.entries();
  const worker = async () => {
    for (const [i, item] of entries) results[i] = await work(item);
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, items.length) }, worker));
  return results;
}
