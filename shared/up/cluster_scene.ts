/** A whole cluster as processes, as people run it, or another server on as many nodes, and what each process uses. For measuring. */
import { fileURLToPath } from "node:url";
import { ask, freePort, ServerProcess } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { centrifugoSettings } from "../../spear/load/centrifugo_settings.ts";
import { type Usage, usageOf } from "../../spear/load/measures.ts";
import { type Flags, type RunningProgram, TestCluster } from "./processes.ts";

/** By the name of the process: `spear1`, `redis`, … */
export type Usages = Readonly<Record<string, Usage>>;

type Pids = readonly (readonly [name: string, pid: number | undefined])[];

/** Nodes that clients connect to, and what belongs to them. */
export interface Scene extends AsyncDisposable {
  /** Of every node. */
  readonly addresses: readonly string[];
  /** Where clients ask which node is theirs, if there is such a place. */
  readonly ticket: string | undefined;
  /** @param load ids of the load's processes */
  usages(load?: readonly number[]): Promise<Usages>;
}

/** What must not stop a load generator, which is one address with many users. */
const open: Flags = {
  "log.level": "error",
};
const openSpear: Flags = {
  ...open,
  drainMs: 0,
  "limits.connections": 19_000,
  "limits.connectionsPerUser": 1_000_000,
  "limits.messagesPerSecond": 1_000_000,
};
const openTicket: Flags = { ...open, "limits.perAddress": 1_000_000, "limits.perUser": 1_000_000 };

export interface SceneOptions {
  readonly spears: number;
  readonly ticket?: boolean;
  readonly spearFlags?: Flags;
  /** Of idgen; default: as its profile says. */
  readonly order?: "strict" | "unique";
}

export class ClusterScene implements Scene {
  readonly cluster: TestCluster;
  readonly #programs: ReadonlyMap<string, RunningProgram>;

  private constructor(cluster: TestCluster, programs: ReadonlyMap<string, RunningProgram>) {
    this.cluster = cluster;
    this.#programs = programs;
  }

  /** ZooKeeper, Redis with its append-only file (everysec), one idgen, one stat, the spears, and a ticket if wanted. */
  static async start(options: SceneOptions): Promise<ClusterScene> {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(
      await TestCluster.start({ redis: { args: ["--appendonly", "yes"] } }),
    );
    const programs = new Map<string, RunningProgram>();
    const [idgen, stat] = await Promise.all([
      cluster.add("idgen", "test1", {
        ...open,
        ...(options.order === undefined ? {} : { order: options.order }),
      }),
      cluster.add("stat", "test1", open),
    ]);
    programs.set("idgen", idgen).set("stat", stat);
    for (let id = 1; id <= options.spears; id++) {
      const flags = { ...openSpear, id, ...options.spearFlags };
      programs.set(`spear${id}`, await cluster.add("spear", "test1", flags));
    }
    if (options.ticket) programs.set("ticket", await cluster.add("ticket", "test1", openTicket));
    stack.move();
    return new ClusterScene(cluster, programs);
  }

  get addresses(): string[] {
    return [...this.#programs].filter(([name]) => name.startsWith("spear"))
      .map(([, { address }]) => address);
  }

  get ticket(): string | undefined {
    return this.#programs.get("ticket")?.address;
  }

  /** Of Redis and ZooKeeper, too. */
  usages(load: readonly number[] = []): Promise<Usages> {
    const { redis, zookeeper } = this.cluster;
    const programs = [...this.#programs].map(([name, { process }]) => [name, process.pid] as const);
    return usagesOf([...programs, ["redis", redis.pid], ["zookeeper", zookeeper.pid]], load);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster[Symbol.asyncDispose]();
  }
}

/** A node of another server: its program, and a request that it answers when it is up. */
interface RivalNode {
  readonly program: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly probe: string;
}

/** Another server on some nodes, which a Redis that writes nothing to disk connects. */
export class RivalScene implements Scene {
  readonly addresses: readonly string[];
  readonly ticket = undefined;
  readonly #pids: Pids;
  readonly #running: AsyncDisposableStack;

  private constructor(addresses: readonly string[], pids: Pids, running: AsyncDisposableStack) {
    this.addresses = addresses;
    this.#pids = pids;
    this.#running = running;
  }

  /** Plain socket.io with its adapter for Redis. */
  static plain(nodes: number): Promise<RivalScene> {
    const program = fileURLToPath(new URL("../../spear/load/plain_bench.ts", import.meta.url));
    return RivalScene.#start(nodes, (port, redis) => ({
      program: Deno.execPath(),
      args: [
        ...["run", "--no-prompt", "--allow-net", "--allow-env", program],
        ...["socket.io", `${port}`, redis],
      ],
      probe: "/socket.io/?EIO=4&transport=polling",
    }));
  }

  /** Centrifugo with its engine for Redis, each node on one core as the others are. @param program its path */
  static centrifugo(nodes: number, program: string): Promise<RivalScene> {
    return RivalScene.#start(nodes, (port, redis) => ({
      program,
      args: [],
      env: { GOMAXPROCS: "1", ...centrifugoSettings({ port, redis }) },
      probe: "/connection/websocket",
    }));
  }

  static async #start(
    nodes: number,
    nodeAt: (port: number, redis: string) => RivalNode,
  ): Promise<RivalScene> {
    await using stack = new AsyncDisposableStack();
    const redis = stack.use(await startRedis());
    const addresses: string[] = [];
    const pids: [string, number | undefined][] = [["redis", redis.pid]];
    for (let node = 1; node <= nodes; node++) {
      const port = freePort();
      const { program, args, env = {}, probe } = nodeAt(port, redis.url);
      const process = stack.use(new ServerProcess(program, { args: [...args], env }));
      const answers = async () => (await ask(port, `GET ${probe} HTTP/1.0\r\n\r\n`)) !== undefined;
      await process.ready(answers, { what: program });
      addresses.push(`http://127.0.0.1:${port}`);
      pids.push([`node${node}`, process.pid]);
    }
    return new RivalScene(addresses, pids, stack.move());
  }

  usages(load: readonly number[] = []): Promise<Usages> {
    return usagesOf(this.#pids, load);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#running.disposeAsync();
  }
}

async function usagesOf(pids: Pids, load: readonly number[]): Promise<Usages> {
  const all = [...pids, ...load.map((pid, i) => [`load${i}`, pid] as const)];
  const found = all.map(async ([name, pid]) => [name, await usageOf(pid ?? 0)] as const);
  return Object.fromEntries(await Promise.all(found));
}

/** CPU seconds that each used between the two. */
export function cpuBetween(before: Usages, after: Usages): Readonly<Record<string, number>> {
  return between(before, after, "cpuSeconds");
}

/** Bytes by which the resident memory of each grew. */
export function memoryBetween(before: Usages, after: Usages): Readonly<Record<string, number>> {
  return between(before, after, "memoryBytes");
}

function between(before: Usages, after: Usages, key: keyof Usage) {
  return Object.fromEntries(
    Object.entries(after).map(([name, usage]) => [name, usage[key] - (before[name]?.[key] ?? 0)]),
  );
}

/** Of those whose name begins so. */
export function sumOf(values: Readonly<Record<string, number>>, prefix = ""): number {
  return Object.entries(values).reduce(
    (sum, [name, value]) => name.startsWith(prefix) ? sum + value : sum,
    0,
  );
}
