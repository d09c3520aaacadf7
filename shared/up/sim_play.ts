/** Plays one history of a simulated cluster, and lets it come to rest at the end. */
import { RpcError } from "../rpc/contract.ts";
import { Books } from "./sim_books.ts";
import { hooksGraceMs } from "./sim_hooks.ts";
import { bansReadMs, bansReturnMs, Checks, lookMs, presenceMs } from "./sim_checks.ts";
import { SimClient } from "./sim_client.ts";
import { SimCluster, type SimNode } from "./sim_cluster.ts";
import {
  type Cast,
  type History,
  type Kind,
  settingsOf,
  type Stage,
  type Step,
  steps,
} from "./sim_steps.ts";
import { VirtualTime } from "./sim_time.ts";

export interface Outcome {
  readonly violations: readonly string[];
  readonly delivered: number;
  readonly accepted: number;
  readonly turns: number;
  readonly virtualMs: number;
}

/** Until the first violation. @param trace is given everything that happens */
export async function play(history: History, trace?: string[]): Promise<Outcome> {
  using time = new VirtualTime(history.seed);
  const played = new Play(time, history);
  played.cluster.books.trace = trace;
  await played.run();
  await time.rest();
  return played.outcome;
}

class Play implements Stage {
  readonly cluster: SimCluster;
  readonly settings: Cast;
  readonly #time: VirtualTime;
  readonly #history: History;
  readonly #clients: SimClient[];
  /** Ends of what was begun for a while; all are brought forward at the end. */
  readonly #ends = new Set<() => void>();
  readonly #checks: Checks;
  #published = 0;
  /** Virtual milliseconds. */
  #statLostAt = -Infinity;
  #isSettling = false;

  constructor(time: VirtualTime, history: History) {
    this.#time = time;
    this.#history = history;
    const settings = this.settings = settingsOf(history.seed);
    this.cluster = new SimCluster(time, history.seed, settings, (truth) => new Books(truth));
    this.#clients = Array.from({ length: settings.clients }, (_, i) =>
      new SimClient({
        time,
        books: this.cluster.books,
        seed: history.seed,
        number: i + 1,
        userId: settings.isCrowd || i === 1 ? 1 : i + 1,
        kind: history.transport ?? (["websocket", "upgrade", "upgrade", "polling"] as const)[
          (i + history.steps.length) % 4
        ] ?? "websocket",
        slowestMs: settings.outsideMs,
        places: (userId) => this.cluster.places(userId),
        gatewayOf: (node) => this.cluster.node(node)?.gateway,
        onDropped: (client, gateway) => this.#checks.dropped(client, gateway),
      }));
    this.#checks = new Checks(this.cluster, this.#clients);
    this.cluster.onGone = ({ gateway }) => {
      for (const { link } of this.#clients) {
        if (gateway !== undefined && link?.gateway === gateway) link.cut();
      }
    };
  }

  get outcome(): Outcome {
    const { books } = this.cluster;
    const { turns, now, uncaught } = this.#time;
    const violations = [
      ...books.violations,
      ...uncaught.map((error) => `uncaught: ${error instanceof Error ? error.stack : error}`),
    ];
    return {
      violations,
      delivered: books.delivered,
      accepted: books.acceptedCount,
      turns,
      virtualMs: now,
    };
  }

  async run(): Promise<void> {
    const { cluster } = this;
    await cluster.start();
    for (const [i, client] of this.#clients.entries()) {
      client.groups.add(this.group(i % 3 === 2 ? 1 : 0));
      await this.#time.as(client.actor, () => client.start());
    }
    await this.#time.as(cluster.world, () =>
      void setInterval(() => {
        this.#checks.look();
      }, lookMs));
    await this.#time.advance(this.#history.seed.length % 2 === 0 ? 400 : 40);
    for (const step of this.#history.steps) {
      await this.#time.advance(step.after);
      await this.#do(step);
      if (this.#failed) return;
    }
    await this.#settle();
  }

  get #failed(): boolean {
    return this.cluster.books.violations.length > 0 || this.#time.uncaught.length > 0;
  }

  async #do(step: Step): Promise<void> {
    const kind: Kind = steps[step.do];
    this.cluster.books.note(`DO ${JSON.stringify(step)}`);
    // What a client does is its own turn.
    const actor = /^(say|burst|subscribe|unsubscribe|auth|cut|vanish|move$|stall)/.test(step.do)
      ? this.client(step.who).actor
      : this.cluster.world;
    await this.#time.as(actor, () => kind.run(this, step));
  }

  client(which: number): SimClient {
    return this.#clients[which % this.#clients.length] as SimClient;
  }

  node(which: number): SimNode {
    return this.cluster.nodes[which % this.cluster.nodes.length] as SimNode;
  }

  group(which: number): string {
    return String(10 + which % this.settings.groups);
  }

  target(which: number): string {
    return which % 4 === 3 ? `u:${this.client(which).userId}` : `g:${this.group(which)}`;
  }

  /** Not later than the end of the history. */
  later(ms: number, end: () => void): void {
    const once = () => {
      if (this.#ends.delete(once)) end();
    };
    this.#ends.add(once);
    this.#time.after(ms, once, this.cluster.world);
  }

  when(isSo: () => boolean, then: () => void): void {
    const until = this.#time.now + 2000;
    const look = () => {
      if (this.#isSettling) return;
      if (isSo()) then();
      else if (this.#time.now < until) this.later(10, look);
    };
    look();
  }

  restart(node: SimNode): void {
    if (node.state === "down") void node.start();
  }

  block(way: { blocked: boolean; open(): void }, ms: number, end: () => void = () => {}): void {
    way.blocked = true;
    this.later(ms, () => {
      way.open();
      end();
    });
  }

  lag({ actor }: SimNode, kind: string, ms: number): void {
    for (const client of this.cluster.redis.clients) {
      if (client.owner !== actor) continue;
      if (kind === "requests" && client.name.endsWith("commands")) client.lagRequests(ms);
      else if (client.name.endsWith(kind)) client.lag(ms);
    }
  }

  cutRedis({ actor }: SimNode, kind: string): void {
    for (const client of [...this.cluster.redis.clients]) {
      if (client.owner === actor && client.name.endsWith(kind)) client.cut();
    }
  }

  /** @param lostMs so much of what it had written last is gone */
  restartRedis(size: number, lostMs: number): void {
    const { redis, settings } = this.cluster;
    if (!redis.up) return;
    redis.up = false;
    redis.cutAll();
    const since = Date.now() - lostMs;
    this.later(size * 1500, () => {
      this.cluster.restarts++;
      const lost = redis.server.restart(since);
      this.cluster.books.note(`Redis is up again without ${lost} writes`);
      if (lost > 0 || settings.identity === "process") this.cluster.losses++;
      redis.up = true;
    });
  }

  /** @param lostMs so much of what stat's store had written last is gone */
  statLoses(lostMs: number): void {
    this.#statLostAt = this.#time.now;
    this.cluster.statStore.lose(this.#statLostAt - lostMs);
    this.#checks.forgetBans();
    this.cluster.disturb()();
  }

  publish(which: number): void {
    const content = `api.${++this.#published}`;
    const group = this.group(which);
    const { books, operations } = this.cluster;
    books.said(content);
    this.#ask(async () => {
      const key = which % 2 === 0 ? undefined : content;
      try {
        const accepted = await operations?.publish({ kind: "group", id: group }, {
          content,
          fromId: "0",
        }, key);
        if (accepted !== undefined) books.accepted("the API", content, `g:${group}`, accepted);
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        // These say that nobody knows.
        if (!/^(unknown|deadline_exceeded|cancelled)$/.test(error.code)) {
          books.refused(content, `${error.code}: ${error.message}`);
        }
      }
    });
  }

  kick(client: SimClient, size: number): void {
    const { operations, books } = this.cluster;
    const userId = String(client.userId);
    const banMs = size > 0.5 ? 1_000_000 : undefined;
    const known = this.#clients.filter((one) =>
      one.userId === client.userId && one.link !== undefined &&
      (one.authenticatedAt ?? Infinity) < this.#time.now - 500
    ).map((one) => ({ client: one, link: one.link }));
    const ban = banMs === undefined ? undefined : this.#checks.ban("user", userId);
    const began = this.#time.now;
    this.#ask(async () => {
      const touched = await operations?.kickUser(userId, "simulated", banMs);
      if (touched === undefined || touched.failed.length > 0) return;
      if (!this.cluster.wasDisturbed(began - presenceMs)) ban?.toldTo(this.#time.now);
      await this.#time.wait(1000);
      if (this.cluster.wasDisturbed(began - presenceMs)) return;
      for (const { client, link } of known) {
        if (link?.ended || client.link !== link || client.isUncertain) continue;
        books.fail(`${client.name} is still connected a second after its user was kicked`);
      }
    });
  }

  kickGroup(group: string, client: SimClient, size: number): void {
    const { operations } = this.cluster;
    const userId = size > 0.6 ? String(client.userId) : undefined;
    const banMs = userId === undefined && size > 0.3 ? 1_000_000 : undefined;
    const ban = banMs === undefined ? undefined : this.#checks.ban("group", group);
    const began = this.#time.now;
    this.#ask(async () => {
      const touched = await operations?.kickGroup(group, { reason: "simulated", userId, banMs });
      if (touched === undefined || touched.failed.length > 0) return;
      if (!this.cluster.wasDisturbed(began - presenceMs)) ban?.toldTo(this.#time.now);
    });
  }

  drain(node: SimNode, size: number): void {
    const { operations, settings } = this.cluster;
    if (node.state !== "up") return;
    const overMs = Math.round(settings.drainMs * size);
    const { actor } = node;
    const began = this.#time.now;
    const { gateway } = node;
    this.#ask(async () => {
      await operations?.drain(node.name, overMs);
      if (gateway !== undefined && node.gateway === gateway) {
        this.cluster.closedSince.set(gateway, this.#time.now);
      }
    });
    this.#time.after(overMs + 2500, () => {
      if (this.cluster.wasDisturbed(began - presenceMs) || this.cluster.nodes.length === 1) return;
      for (const client of this.#clients) {
        if (client.link?.gateway !== gateway || client.authenticatedAt === undefined) continue;
        this.cluster.books.fail(`${client.name} is on ${node.name} after its drain`);
      }
    }, this.cluster.world);
    // It is taken down when it is empty.
    this.later(overMs + 3000, () => {
      if (node.actor === actor) void node.stop();
      this.later(settings.drainMs + 3000, () => this.restart(node));
    });
  }

  /** What the API is asked, on stat. A refusal is an answer. */
  #ask(work: () => Promise<void>): void {
    this.#time.after(0, () => {
      work().catch((error) => {
        if (!(error instanceof RpcError)) throw error;
      });
    }, this.cluster.statActor);
  }

  async #settle(): Promise<void> {
    this.#isSettling = true;
    const { cluster } = this;
    const { books, time } = cluster;
    for (let round = 0; round < 3; round++) {
      for (const end of [...this.#ends]) await time.as(cluster.world, end);
    }
    await time.as(cluster.world, () => {
      for (const node of cluster.nodes) {
        time.thaw(node.actor);
        for (const way of [node.toRedis, node.toRegistry, node.toStat]) way.open();
      }
      for (const client of this.#clients) client.resume();
    });
    for (let i = 0; i < 3 && cluster.nodes.some(({ state }) => state !== "up"); i++) {
      await time.until(
        () => cluster.nodes.every(({ state }) => state === "up" || state === "down"),
        10_000,
      );
      for (const node of cluster.nodes) await node.start();
      for (const end of [...this.#ends]) await time.as(cluster.world, end);
    }
    await time.until(
      () => cluster.nodes.every(({ state }) => state === "up") || this.#failed,
      10_000,
    );
    const mayBeCrowded = this.settings.isCrowd &&
      this.settings.clients > this.settings.connectionsPerUser;
    const present = () =>
      this.#clients.filter(({ banned, crowdedOut }) => !banned && !(mayBeCrowded && crowdedOut));
    const isCalm = () =>
      present().every((client) => client.isReady && client.unanswered === 0) &&
      this.#checks.isLevel;
    // A client that vanished is present for its node until a ping has not been answered.
    await time.until(() => isCalm() || this.#failed, 70_000, 100);
    if (this.#failed) return;
    if (!isCalm()) {
      for (const client of present()) {
        if (!client.isReady) books.fail(`${client.name} does not come back`);
        if (client.unanswered > 0) {
          books.fail(`${client.name} has no answer to ${client.unanswered} messages`);
        }
      }
    }
    const bansBackAt = this.#statLostAt + bansReturnMs;
    // A ban that a node had not heard of takes somebody out, and that is to be reported, too.
    const bansKeptAt = cluster.disturbedAt + bansReadMs + presenceMs;
    const restMs = presenceMs + 3 * lookMs;
    await time.advance(Math.max(restMs, bansBackAt - time.now, bansKeptAt - time.now));
    // What the API had given up may have been counted at the last moment.
    await time.until(() => this.#checks.isLevel || this.#failed, this.settings.publishMs);
    this.#checks.atRest();
    await this.#hooksAgree();
    await this.#end();
  }

  /** What hooks told of people is what stat says of them. */
  async #hooksAgree(): Promise<void> {
    const { hooks, operations, time, books } = this.cluster;
    const users = new Set(this.#clients.map(({ userId }) => String(userId)));
    let wrong: string | undefined;
    for (
      let looks = 0;
      operations !== undefined && looks * lookMs < hooksGraceMs + presenceMs;
      looks++
    ) {
      wrong = await hooks.wrong(operations, users);
      if (wrong === undefined || this.#failed) return;
      await time.advance(lookMs);
    }
    if (wrong !== undefined) books.fail(wrong);
  }

  /** Every stop ends. */
  async #end(): Promise<void> {
    const { cluster } = this;
    const { time, settings } = cluster;
    if (this.#failed) return;
    for (const node of cluster.nodes) await node.stop();
    await time.advance(settings.drainMs + 2100);
    for (const { name, state } of cluster.nodes) {
      if (state !== "down") cluster.books.fail(`${name} has not stopped`);
    }
    for (const client of this.#clients) client.stop();
  }
}
