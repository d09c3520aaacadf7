/** What must be true of a simulated cluster while it runs, and when it has come to rest. */
import type { SimClient } from "./sim_client.ts";
import { reportMs, type SimCluster } from "./sim_cluster.ts";
import type { SimGateway } from "./sim_gateway.ts";

/** Within five reports a node has read the bans that it had not heard of. */
export const bansReadMs = 5 * reportMs + 250;
/** A node brings back a ban that stat has lost, and the others read it. */
export const bansReturnMs = 2 * bansReadMs;
/** After so long without a disturbance stat knows who is where. */
export const presenceMs = 3 * reportMs + 500;

/** How often it is looked whether all is right, milliseconds. */
export const lookMs = 150;

interface Banned {
  readonly kind: "user" | "group";
  readonly id: string;
  /** All nodes know of it since then, virtual milliseconds. */
  knownAt: number;
}

/** An answer that was under way when a ban became known takes so long at most. */
const letInMs = 150;

export class Checks {
  readonly #bans: Banned[] = [];
  readonly #cluster: SimCluster;
  readonly #clients: readonly SimClient[];
  /** What stat says wrong, and since when. */
  #wrong = new Map<string, number>();

  constructor(cluster: SimCluster, clients: readonly SimClient[]) {
    this.#cluster = cluster;
    this.#clients = clients;
  }

  ban(kind: Banned["kind"], id: string): { toldTo(now: number): void } {
    const banned: Banned = { kind, id, knownAt: Infinity };
    this.#bans.push(banned);
    return { toldTo: (now) => banned.knownAt = now };
  }

  /** The store has lost what it was told last: a ban that no node remembers is gone with it. */
  forgetBans(): void {
    for (const ban of this.#bans.splice(0)) {
      const isRemembered = this.#cluster.nodes.some(({ state, upSince }) =>
        state === "up" && upSince < ban.knownAt
      );
      if (ban.knownAt < Infinity && isRemembered) this.#bans.push(ban);
    }
  }

  /** A node ends a connection when it stops, and asks its client to move before. */
  dropped({ name, authenticatedAt = Infinity }: SimClient, gateway: SimGateway): void {
    const { stopping, time, nodes, settings, books } = this.#cluster;
    const since = stopping.get(gateway);
    // What had ended before may be heard of a moment later.
    if (since === undefined || authenticatedAt > since - 500) return;
    if (time.now < since + settings.outsideMs) return;
    if (this.#cluster.wasDisturbed(since - presenceMs)) return;
    const isElsewhere = nodes.some((node) =>
      node.state === "up" && node.servesSince < since - presenceMs && node.gateway !== undefined &&
      !this.#cluster.closedSince.has(node.gateway)
    );
    if (isElsewhere) books.fail(`${name} was not asked to move before its node had stopped`);
  }

  /** At any time. */
  look(): void {
    this.#checkLimits();
    this.#checkTaken();
    this.#checkLetIn();
    void this.#checkPresence();
  }

  /** When everything has come to rest. */
  atRest(): void {
    for (const line of this.#behind()) this.#cluster.books.fail(line);
    this.#checkWatchers();
    this.#checkBans();
    this.#cluster.books.close();
  }

  /** Everybody has come as far as the targets have. */
  get isLevel(): boolean {
    return this.#behind().length === 0;
  }

  /**
   * Stat says of everybody who has been in or out for long enough that they are. What a client was sent a moment ago it has not
   * read yet: only what is still so a little later counts.
   */
  async #checkPresence(): Promise<void> {
    const cluster = this.#cluster;
    const { time, operations, books } = cluster;
    const wrong = new Map<string, number>();
    if (operations !== undefined && !cluster.wasDisturbed(time.now - presenceMs)) {
      for (const target of this.#groupTargets()) {
        const users = new Set(
          await operations.store.usersOfGroup(target.slice(2), operations.live),
        );
        for (const user of new Set(this.#clients.map(({ userId }) => String(userId)))) {
          const error = this.#presenceError(target, user, users.has(user));
          if (error !== undefined) wrong.set(error, this.#wrong.get(error) ?? time.now);
        }
      }
    }
    if (operations !== undefined && !cluster.wasDisturbed(time.now - presenceMs)) {
      for (const user of new Set(this.#clients.map(({ userId }) => String(userId)))) {
        const own = this.#clients.filter(({ userId }) => String(userId) === user);
        if (!own.every((client) => this.#isSteady(client))) continue;
        const nodes = await operations.store.nodesOfUser(user, operations.live);
        const real = new Set(own.map(({ node }) => node));
        if (nodes.length === real.size && nodes.every((node) => real.has(node))) continue;
        const error = `user ${user} is on ${[...real]}, and stat says: ${nodes}`;
        wrong.set(error, this.#wrong.get(error) ?? time.now);
      }
    }
    this.#wrong = wrong;
    for (const [error, since] of wrong) {
      if (time.now - since >= 2 * lookMs) books.fail(error);
    }
  }

  /** It has been on the same connection for so long that everybody knows. */
  #isSteady({ isUncertain, authenticatedAt = Infinity }: SimClient): boolean {
    return !isUncertain && authenticatedAt < this.#cluster.time.now - presenceMs;
  }

  #groupTargets(): Set<string> {
    const all = this.#clients.flatMap(({ tracks }) => [...tracks.keys()]);
    return new Set(all.filter((target) => target.startsWith("g:")));
  }

  #presenceError(target: string, user: string, isTold: boolean): string | undefined {
    const own = this.#clients.filter(({ userId }) => String(userId) === user);
    if (own.some(({ isUncertain }) => isUncertain)) return undefined;
    const tracks = own.flatMap(({ tracks }) => tracks.get(target) ?? []);
    const isOld = ({ since }: { since: number }) => since < this.#cluster.time.now - presenceMs;
    if (!isTold && tracks.some((track) => track.isIn && isOld(track))) {
      return `user ${user} is in ${target}, and stat does not say so`;
    }
    if (isTold && tracks.every((track) => track.phase === "out" && isOld(track))) {
      return `user ${user} is not in ${target}, and stat says so`;
    }
    return undefined;
  }

  /** A node that is being emptied takes nobody. */
  #checkTaken(): void {
    for (const { name, node, link, connectedAt, authenticatedAt } of this.#clients) {
      if (link === undefined || authenticatedAt === undefined) continue;
      const since = this.#cluster.closedSince.get(link.gateway) ?? Infinity;
      if (connectedAt > since) {
        this.#cluster.books.fail(`${name} was let in by ${node}, which is being emptied`);
      }
    }
  }

  #checkLimits(): void {
    const { connectionsPerUser } = this.#cluster.settings;
    for (const { gateway, name } of this.#cluster.nodes) {
      const counts = new Map<string, number>();
      for (const { userId } of gateway?.sessions ?? []) {
        if (userId === undefined) continue;
        const count = (counts.get(userId) ?? 0) + 1;
        counts.set(userId, count);
        if (count > connectionsPerUser) {
          this.#cluster.books.fail(`user ${userId} has ${count} connections to ${name}`);
        }
      }
    }
  }

  #behind(): string[] {
    return this.#clients.flatMap((client) =>
      [...client.tracks.values()].flatMap((track) => {
        const head = this.#cluster.head(track.target);
        if (!track.isIn || head === undefined || head.seq === 0 || track.at === undefined) {
          return [];
        }
        // What the store has lost is still known to who had it, until something new begins an epoch.
        const isThere = this.#cluster.losses > 0
          ? track.at.seq >= head.seq
          : track.at.seq === head.seq;
        return track.at.epoch === head.epoch && isThere ? [] : [
          `${client.name} is at ${track.at.epoch}:${track.at.seq} of ${track.target}, which is at ${head.epoch}:${head.seq}`,
        ];
      })
    );
  }

  #checkWatchers(): void {
    for (const client of this.#clients) {
      for (const [group, users] of client.watching) {
        const target = `g:${group}`;
        for (const other of this.#clients) {
          const own = this.#clients.filter(({ userId }) => userId === other.userId);
          if (own.some(({ isUncertain }) => isUncertain)) continue;
          const isIn = own.some(({ tracks }) => tracks.get(target)?.isIn);
          const told = users.has(String(other.userId));
          if (isIn !== told) {
            this.#cluster.books.fail(
              `${client.name} watches ${group} and was told that user ${other.userId} is ${
                told ? "in" : "out"
              }`,
            );
          }
        }
      }
    }
  }

  /** Nobody comes in where all nodes know that nobody may. */
  #checkLetIn(): void {
    for (const { kind, id, knownAt } of this.#bans) {
      for (const client of this.#clients) {
        const { name, userId, authenticatedAt = -Infinity, tracks } = client;
        const track = tracks.get(`g:${id}`);
        const inSince = kind === "group"
          ? track?.isIn ? track.since : -Infinity
          : String(userId) === id
          ? authenticatedAt
          : -Infinity;
        if (inSince <= knownAt + letInMs || client.isBehind) continue;
        // A node that was away, or began without stat, has it some seconds after its return.
        if (this.#cluster.wasDisturbed(inSince - presenceMs)) continue;
        this.#cluster.books.fail(`${name} was let in, though ${kind} ${id} is banned`);
      }
    }
  }

  #checkBans(): void {
    for (const { kind, id } of this.#bans) {
      for (const client of this.#clients) {
        const isIn = kind === "user"
          ? String(client.userId) === id && client.authenticatedAt !== undefined
          : client.tracks.get(`g:${id}`)?.isIn;
        if (isIn) this.#cluster.books.fail(`${client.name} is in, though ${kind} ${id} is banned`);
      }
    }
  }
}
