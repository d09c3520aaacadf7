/** The servers of a simulated cluster: spears and a stat with their real code, ticket's ring, a registry, a Redis. */
import type { Logger } from "@gru/shared/log";
import type { RpcClient } from "@gru/shared/rpc/client";
import { serveContract } from "@gru/shared/rpc/server";
import type { IdgenContract } from "@gru/idgen/contract";
import { logger } from "@gru/shared/log";
import { statContract } from "@gru/stat/contract";
import { Ring } from "@gru/ticket/contract";
import { spearSchema } from "../../spear/config.ts";
import { spearContract, type SpearNode, spearNodes, spearService } from "../../spear/contract.ts";
import devProfile from "../../spear/profiles/dev.json" with { type: "json" };
import { type Spear, startSpear } from "../../spear/spear.ts";
import { Operations } from "../../stat/operations.ts";
import { settleUntilDisposed, statHandlers } from "../../stat/stat.ts";
import { type Instance, RegistryUnavailableError } from "../registry/registry.ts";
import type { Books, Truth } from "./sim_books.ts";
import { SimCalls, Way } from "./sim_network.ts";
import { SimHooks } from "./sim_hooks.ts";
import { SimRedis } from "./sim_redis.ts";
import { SimRegistry } from "./sim_registry.ts";
import { SimGateway } from "./sim_gateway.ts";
import { SimStatStore } from "./sim_stat.ts";
import { SimRedisEndpoint } from "./sim_store.ts";
import { Actor, type VirtualTime } from "./sim_time.ts";

/** What is different from one history to the next. */
export interface Settings {
  readonly nodes: number;
  readonly historySize: number;
  readonly historyMs: number;
  readonly identity: "aof" | "process";
  readonly slowConsumer: "disconnect" | "skip";
  readonly connectionsPerUser: number;
  readonly publishMs: number;
  readonly drainMs: number;
  /** The slowest way between servers, and between client and server, milliseconds. */
  readonly insideMs: number;
  readonly outsideMs: number;
}

export const reportMs = 400;

export class SimNode {
  readonly id: number;
  readonly name: string;
  actor: Actor;
  state: "down" | "starting" | "up" | "stopping" = "down";
  /** Virtual milliseconds. */
  upSince = Infinity;
  /** Since when it has had all that it needs to take clients, virtual milliseconds; Infinity while it lacks something. */
  servesSince = Infinity;
  gateway: SimGateway | undefined;
  #spear: Spear | undefined;
  readonly toRedis: Way;
  readonly toRegistry: Way;
  readonly toStat: Way;
  readonly #cluster: SimCluster;

  constructor(cluster: SimCluster, id: number) {
    this.#cluster = cluster;
    this.id = id;
    this.name = `spear${id}`;
    this.actor = new Actor(this.name);
    const { seed, settings: { insideMs } } = cluster;
    this.toRedis = new Way(`${seed} ${this.name} redis`, insideMs);
    this.toRegistry = new Way(`${seed} ${this.name} registry`, insideMs);
    this.toStat = new Way(`${seed} ${this.name} stat`, insideMs);
  }

  start(): Promise<void> {
    if (this.state !== "down") return Promise.resolve();
    this.state = "starting";
    const actor = this.actor = new Actor(this.name);
    return this.#cluster.time.as(actor, () => {
      this.#start(actor).then((spear) => {
        this.#spear = spear;
        if (this.actor !== actor) return;
        this.state = "up";
        this.upSince = this.#cluster.time.now;
        this.#watchNeeds(spear, actor);
      }, (error) => {
        if (this.actor !== actor) return;
        this.gateway = undefined;
        this.state = "down";
        // It says so and exits; whoever runs it tries again.
        if (error instanceof RegistryUnavailableError) return;
        this.#cluster.books.fail(`${this.name} does not start: ${error}`);
      });
    });
  }

  #watchNeeds({ readiness }: Spear, actor: Actor): void {
    const look = () => {
      if (this.actor !== actor) return;
      if (!readiness.serving) this.servesSince = Infinity;
      else if (this.servesSince === Infinity) this.servesSince = this.#cluster.time.now;
    };
    this.servesSince = Infinity;
    look();
    readiness.listen(look);
  }

  async #start(actor: Actor): Promise<Spear> {
    const { time, registry, calls, redis, settings, books } = this.#cluster;
    const own = registry.open(actor, this.toRegistry);
    const stats: readonly string[] = ["stat1"];
    return await startSpear(this.#config(settings), {
      registry: own,
      log: logTo(books, this.name),
      calls: calls.of(actor, this.name, (service) => service === "stat" ? stats : []),
      idgen: this.#cluster.ids(actor),
      redisDriver: redis.driverOf(actor, this.toRedis),
      openGateway: async (options) => this.gateway = new SimGateway(time, actor, options),
    });
  }

  #config(settings: Settings) {
    const { historySize, historyMs, slowConsumer, connectionsPerUser, publishMs, drainMs } =
      settings;
    return spearSchema.parse({
      auth: devProfile.auth,
      id: this.id,
      advertise: `http://${this.name}.simulated`,
      redis: settings.identity === "aof" ? "redis://simulated:1" : "sentinel:simulated:1/primary",
      registry: "memory:",
      history: { size: historySize, ageMs: historyMs },
      limits: { connectionsPerUser, waitingBytes: 10_000 },
      ...{ slowConsumer, publishMs, drainMs, reportMs, batchDelayMs: 0, canaryMs: 0 },
    });
  }

  /** SIGTERM. @returns whether it has ended */
  stop(): Promise<void> {
    const spear = this.#spear;
    if (this.state !== "up" || spear === undefined) return Promise.resolve();
    const { time, books, settings } = this.#cluster;
    this.state = "stopping";
    const { actor } = this;
    const began = time.now;
    if (this.gateway !== undefined) this.#cluster.stopping.set(this.gateway, began);
    const late = time.after(settings.drainMs + 2000, () => {
      if (!this.#cluster.wasDisturbed(began)) books.fail(`${this.name} does not stop`);
    }, this.#cluster.world);
    return time.as(actor, () => {
      spear[Symbol.asyncDispose]().then(() => {
        late.run = undefined;
        if (this.actor === actor) this.#gone();
      }, (error) => books.fail(`${this.name} does not stop: ${error}`));
    });
  }

  /** SIGKILL. */
  crash(): void {
    if (this.state === "down") return;
    if (this.gateway !== undefined) this.#cluster.stopping.delete(this.gateway);
    this.#gone();
  }

  #gone(): void {
    this.actor.dead = true;
    const { redis } = this.#cluster;
    for (const client of [...redis.clients]) {
      if (client.owner !== this.actor) continue;
      client.cut();
      redis.clients.delete(client);
    }
    this.#cluster.onGone(this);
    this.gateway = undefined;
    this.#spear = undefined;
    this.state = "down";
  }
}

/** By the nodes' names: where a user belongs depends on nothing else. */
const rings = new Map<string, Ring<SpearNode>>();

export class SimCluster implements Truth {
  readonly time: VirtualTime;
  readonly seed: string;
  readonly settings: Settings;
  readonly books: Books;
  readonly world: Actor;
  readonly registry: SimRegistry;
  readonly calls: SimCalls;
  readonly redis: SimRedisEndpoint;
  readonly nodes: SimNode[];
  readonly statActor = new Actor("stat1");
  readonly toTicket: Way;
  readonly statToRegistry: Way;
  operations: Operations | undefined;
  readonly statStore: SimStatStore;
  readonly hooks: SimHooks;
  /** Since when a node is being stopped, virtual milliseconds. */
  readonly stopping = new WeakMap<SimGateway, number>();
  /** Since when a node has been told to take nobody any more. */
  readonly closedSince = new WeakMap<SimGateway, number>();
  /** Called when a node's process has ended, so that its clients notice. */
  onGone: (node: SimNode) => void = () => {};
  losses = 0;
  restarts = 0;
  /** When something last disturbed what spears tell stat. */
  disturbedAt = 0;
  readonly #disturbances = new Set<object>();
  #spears: readonly SpearNode[] = [];
  #ids = 0;

  constructor(time: VirtualTime, seed: string, settings: Settings, books: (truth: Truth) => Books) {
    this.time = time;
    this.seed = seed;
    this.settings = settings;
    this.books = books(this);
    this.world = time.current;
    this.registry = new SimRegistry(time);
    this.redis = new SimRedisEndpoint(time, new SimRedis({ identity: settings.identity }));
    this.toTicket = new Way(`${seed} ticket`, settings.insideMs);
    this.statToRegistry = new Way(`${seed} stat registry`, settings.insideMs);
    this.nodes = Array.from({ length: settings.nodes }, (_, i) => new SimNode(this, i + 1));
    this.statStore = new SimStatStore(() => time.now);
    this.hooks = new SimHooks(this.statStore.store, (error) => this.books.fail(error));
    this.calls = new SimCalls(time, seed, (a, b) => this.#between(a, b));
  }

  async start(): Promise<void> {
    const { time } = this;
    await time.as(this.world, () => {
      this.registry.open(new Actor("ticket"), this.toTicket).watch(
        spearService,
        ({ instances }) => {
          this.#spears = spearNodes(instances);
        },
      );
    });
    await time.as(this.statActor, () => void this.#startStat());
    await time.advance(20);
    for (const node of this.nodes) await node.start();
    await time.until(() => this.nodes.every(({ state }) => state === "up"), 5000);
  }

  /** As stat's own start puts it together, with its memory store. */
  async #startStat(): Promise<void> {
    let instances: readonly Instance[] = [];
    const registry = this.registry.open(this.statActor, this.statToRegistry);
    await registry.watch(spearService, (view) => instances = view.instances);
    const calls = this.calls.of(
      this.statActor,
      "stat1",
      () =>
        instances.filter(({ addresses }) => addresses.rpc !== undefined).map(({ name }) => name),
    );
    const spears = await calls.connect(spearContract);
    const operations = this.operations = new Operations({
      store: this.statStore.store,
      spears,
      instances: () => instances,
    });
    void this.hooks.run();
    settleUntilDisposed(this.statStore.store, () => operations.live, logger("stat"));
    this.calls.serve(this.statActor, "stat1", [
      serveContract(statContract, statHandlers(operations)),
    ]);
  }

  /** @returns to be called when it is over, where it lasts */
  disturb(): () => void {
    const disturbance = {};
    this.disturbedAt = this.time.now;
    this.#disturbances.add(disturbance);
    return () => {
      this.disturbedAt = this.time.now;
      this.#disturbances.delete(disturbance);
    };
  }

  wasDisturbed(since: number): boolean {
    return this.#disturbances.size > 0 || this.disturbedAt >= since;
  }

  /** Where ticket sends a user. */
  places(userId: string): string[] {
    const key = this.#spears.map(({ name }) => name).join(" ");
    return rings.getOrInsertComputed(key, () => new Ring(this.#spears)).order(userId).map((
      { name },
    ) => name);
  }

  /** Ids that are never given twice, after a moment. In every tenth history they are only unique, so that spears keep some ahead. */
  ids(actor: Actor): RpcClient<IdgenContract> {
    const way = new Way(`${this.seed} ${actor.name} idgen`, this.settings.insideMs);
    const next = ({ count }: { count: number }) =>
      new Promise<Awaited<ReturnType<RpcClient<IdgenContract>["any"]["next"]>>>((resolve) =>
        this.time.after(2 * way.delay(), () => {
          const ids = Array.from({ length: count }, () => String(1000 + ++this.#ids));
          resolve({ ids, order: this.seed.endsWith("1") ? "unique" : "strict" });
        }, actor)
      );
    // deno-lint-ignore no-explicit-any
    return { any: { next }, at: () => ({ next }), [Symbol.asyncDispose]: async () => {} } as any;
  }

  node(name: string): SimNode | undefined {
    return this.nodes.find((node) => node.name === name);
  }

  get nowMs(): number {
    return this.time.now;
  }

  get historySize(): number {
    return this.settings.historySize;
  }

  /** A message may be dropped for a client that does not read, or be too old by the time it is wanted. */
  get skips(): boolean {
    return this.settings.slowConsumer === "skip" || this.forgets;
  }

  get forgets(): boolean {
    return this.settings.historyMs < 60_000;
  }

  head(target: string) {
    const state = this.redis.server.hash(`gru:{${target}}:state`);
    const epoch = state?.get("epoch");
    return epoch === undefined ? undefined : { epoch, seq: Number(state?.get("seq")) };
  }

  kept(target: string, { epoch, seq }: { epoch: string; seq: number }): string | undefined {
    const state = this.redis.server.hash(`gru:{${target}}:state`);
    const gen = Number(state?.get("gen"));
    const itsGen = state?.get("epoch") === epoch
      ? gen
      : state?.get("before") === epoch
      ? gen - 1
      : undefined;
    const entries = itsGen === undefined ? [] : this.redis.server.entries(`gru:{${target}}:log`);
    const entry = entries.findLast(({ id }) => id === `${itsGen}-${seq}`);
    const body = entry?.fields[entry.fields.indexOf("b") + 1];
    return body === undefined ? undefined : JSON.parse(body).content;
  }

  #between(a: Actor, b: Actor): Way {
    const node = this.nodes.find(({ actor }) => actor === a || actor === b);
    return node?.toStat ?? this.toTicket;
  }
}

/** What a program calls an error is one here. */
function logTo(books: Books, name: string): Logger {
  const silent = () => {};
  return {
    ...{ debug: silent, info: silent, warn: silent },
    with: () => logTo(books, name),
    error: (text: string, properties?: Record<string, unknown>) => {
      const error = properties?.error;
      if (error === undefined) return;
      books.fail(`${name} logs an error: ${text} ${error instanceof Error ? error.stack : error}`);
    },
  } as unknown as Logger;
}
