/** Support for the fault tests and the soak: real idgen processes, and a load that checks every id it receives. */
import { logger } from "@gru/shared/log";
import type { Instance, Registry } from "@gru/shared/registry/registry";
import { connectZookeeper } from "@gru/shared/zookeeper/registry";
import { connectRpc } from "@gru/shared/rpc/client";
import type { Client } from "@gru/shared/rpc/contract";
import {
  freePort,
  projectRoot,
  ServerProcess,
  taskArguments,
  TestServer,
  waitFor,
} from "@gru/shared/testing/harness";
import { type IdgenContract, idgenContract } from "./contract.ts";

/** Half of the profiles' value, so that each fault takes half as long. */
export const sessionMs = 2000;

export interface ClusterOptions {
  /** `host:port` of each ZooKeeper server. */
  readonly zookeeper: readonly string[];
  /** One entry for each node. `clock`: the clock's constant offset and the size of its jumps, milliseconds. */
  readonly nodes: readonly {
    readonly flags?: readonly string[];
    readonly clock?: readonly [number, number];
    /** True: the cluster does not start this node; the test does. */
    readonly late?: boolean;
  }[];
}

export class IdgenProcess extends TestServer {
  readonly name: string;
  readonly port = freePort();
  readonly #command: readonly string[];

  constructor(
    id: number,
    registry: string,
    { flags = [], clock }: ClusterOptions["nodes"][number],
  ) {
    super();
    this.name = `idgen${id}`;
    const task = taskArguments("idgen");
    if (clock !== undefined) task.splice(-1, 1, "idgen/faults_fixture.ts", ...clock.map(String));
    this.#command = [
      ...[...task, "--profile", "test1"],
      ...["--id", `${id}`, "--port", `${this.port}`, "--registry", registry],
      ...["--zookeeper.sessionMs", `${sessionMs}`, "--ceilingMs", `${sessionMs - 500}`, ...flags],
    ];
  }

  get running(): boolean {
    return this.process?.running ?? false;
  }

  get output(): string {
    return this.process?.output ?? "";
  }

  /** Works also after {@linkcode kill}. Resolves before the process serves. */
  spawn(): void {
    this.process = new ServerProcess(Deno.execPath(), {
      args: [...this.#command],
      cwd: projectRoot,
    });
  }

  async serving(): Promise<void> {
    await this.process?.ready(async () => await this.isActive() !== undefined, {
      what: this.name,
    });
  }

  /** As reported by the node's metrics. Undefined when the node does not answer. */
  async isActive(): Promise<boolean | undefined> {
    const active = await this.#metric("gru_idgen_active");
    return active === undefined ? undefined : active === 1;
  }

  /** How far the newest id is ahead of the node's clock. Undefined when the node does not answer. */
  async aheadMs(): Promise<number | undefined> {
    const seconds = await this.#metric("gru_idgen_ahead_seconds");
    return seconds === undefined ? undefined : 1000 * seconds;
  }

  /** Whether it issues what it reserved before the registry went away. Undefined when it does not answer. */
  async isWithoutRegistry(): Promise<boolean | undefined> {
    const value = await this.#metric("gru_idgen_without_registry");
    return value === undefined ? undefined : value === 1;
  }

  /** How long it can issue without the registry. Undefined when the node does not answer. */
  async reservedMs(): Promise<number | undefined> {
    const seconds = await this.#metric("gru_idgen_reserved_seconds");
    return seconds === undefined ? undefined : 1000 * seconds;
  }

  async #metric(name: string): Promise<number | undefined> {
    try {
      const signal = AbortSignal.timeout(500);
      const response = await fetch(`http://127.0.0.1:${this.port}/metrics`, { signal });
      const line = new RegExp(`^${name}\\{.*\\} (.+)$`, "m").exec(await response.text());
      return Number(line?.[1]);
    } catch {
      return undefined;
    }
  }
}

export interface Cluster extends AsyncDisposable {
  readonly nodes: readonly IdgenProcess[];
  readonly load: Load;
  /** Waits for a node that issues ids. */
  active(): Promise<IdgenProcess>;
}

/** Resolves when the cluster issues ids. */
export async function startCluster({ zookeeper, nodes }: ClusterOptions): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const root = `/gru${freePort()}`;
  const address = `zookeeper://${zookeeper.join(",")}${root}`;
  const processes = nodes.map((node, index) =>
    stack.use(new IdgenProcess(index + 1, address, node))
  );
  const begin = processes.filter((_, index) => !nodes[index]?.late);
  for (const process of begin) process.spawn();
  await Promise.all(begin.map((process) => process.serving()));

  const registry = stack.use(
    await connectZookeeper({ servers: zookeeper, root, sessionMs, log: logger("test") }),
  );
  const clients: Client<IdgenContract>[] = [];
  const anyone = stack.use(await connectRpc(idgenContract, { registry, timeoutMs: 3000 }));
  clients.push(anyone.any, anyone.any, anyone.any, anyone.any);
  // These clients do not follow the registry, so they keep calling a node while it is frozen, and call it at once when
  // it resumes.
  for (const process of processes) {
    const stubborn = { registry: only(process), timeoutMs: 300 };
    clients.push(stack.use(await connectRpc(idgenContract, stubborn)).any);
  }
  const load = stack.use(new Load(clients));
  await load.answered();
  load.begin();
  const owned = stack.move();
  return {
    nodes: processes,
    load,
    active: async () => {
      let found: IdgenProcess | undefined;
      await waitFor(async () => {
        const states = await Promise.all(processes.map((process) => process.isActive()));
        found = processes[states.indexOf(true)];
        return found !== undefined;
      }, { what: "a node that issues" });
      return found as IdgenProcess;
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function only(process: IdgenProcess): Pick<Registry, "watch"> {
  const instance: Instance = {
    service: "idgen",
    name: process.name,
    addresses: { rpc: `http://127.0.0.1:${process.port}` },
    startedAt: 0,
    meta: {},
  };
  return {
    watch: async (_, onView) => {
      onView({ instances: [instance], stale: false });
      return { [Symbol.dispose]: () => {} };
    },
  };
}

export interface Row {
  readonly fault: string;
  readonly issued: number;
  readonly refused: number;
  readonly duplicates: number;
  readonly inversions: number;
  /** The longest time without any answered call. */
  readonly longestGapMs: number;
  /** From the end of the fault to the first answer of a call that began after it. */
  readonly healMs: number;
}

/** Endless calls from several clients. Each client calls again as soon as the previous call is answered. */
export class Load implements AsyncDisposable {
  readonly #clients: readonly Client<IdgenContract>[];
  readonly #loops: Promise<void>[];
  readonly #waiting = new Set<{ readonly begunAt: number; readonly resolve: () => void }>();
  /** Those that have not been answered since {@linkcode everyoneAnswered}. */
  #silent = new Set<Client<IdgenContract>>();
  #closed = false;
  #ids = new BigUint64Array(1 << 16);
  #count = 0;
  #countBefore = 0;
  #refused = 0;
  #inversions = 0;
  #highest = 0n;
  #answeredAt = performance.now();
  #longestGapMs = 0;

  constructor(clients: readonly Client<IdgenContract>[]) {
    this.#clients = clients;
    this.#loops = this.#clients.map((client) => this.#loop(client));
  }

  /** Starts the counts again. */
  begin(): void {
    this.#countBefore = this.#count;
    this.#refused = this.#inversions = this.#longestGapMs = 0;
    this.#answeredAt = performance.now();
  }

  /** Measures how long it takes until a call that begins after now is answered. */
  async answered(): Promise<number> {
    const begunAt = performance.now();
    const { promise, resolve } = Promise.withResolvers<void>();
    const waiting = { begunAt, resolve };
    this.#waiting.add(waiting);
    const limit = setTimeout(resolve, 60_000);
    await promise;
    clearTimeout(limit);
    if (this.#waiting.delete(waiting)) throw new Error("No ids for 60 s");
    return performance.now() - begunAt;
  }

  /** Resolves when every client has been answered by a call that begins after now. */
  async everyoneAnswered(): Promise<void> {
    this.#silent = new Set(this.#clients);
    await waitFor(() => this.#silent.size === 0, { what: "ids for every client" });
  }

  /** What happened since {@linkcode begin}. Duplicates are counted among all ids of the whole run. */
  row(fault: string, healMs: number): Row {
    const longestGapMs = Math.max(this.#longestGapMs, performance.now() - this.#answeredAt);
    return {
      fault,
      issued: this.#count - this.#countBefore,
      refused: this.#refused,
      duplicates: this.#duplicates(),
      inversions: this.#inversions,
      longestGapMs: Math.round(longestGapMs),
      healMs: Math.round(healMs),
    };
  }

  #duplicates(): number {
    const sorted = this.#ids.slice(0, this.#count).sort();
    let duplicates = 0;
    for (let i = 1; i < sorted.length; i++) if (sorted[i] === sorted[i - 1]) duplicates++;
    return duplicates;
  }

  async #loop(client: Client<IdgenContract>): Promise<void> {
    while (!this.#closed) {
      const begunAt = performance.now();
      const above = this.#highest;
      const silent = this.#silent;
      try {
        const { ids } = await client.next({ count: 1 + Math.floor(Math.random() * 20) });
        this.#check(ids, above, begunAt);
        silent.delete(client);
      } catch {
        this.#refused++;
      }
      await new Promise((resolve) => setTimeout(resolve, 4));
    }
  }

  #check(ids: readonly string[], above: bigint, begunAt: number): void {
    let last = above;
    for (const text of ids) {
      const id = BigInt(text);
      if (id <= last) this.#inversions++;
      last = id;
      if (this.#count === this.#ids.length) {
        const more = new BigUint64Array(2 * this.#count);
        more.set(this.#ids);
        this.#ids = more;
      }
      this.#ids[this.#count++] = id;
    }
    if (last > this.#highest) this.#highest = last;
    const now = performance.now();
    this.#longestGapMs = Math.max(this.#longestGapMs, now - this.#answeredAt);
    this.#answeredAt = now;
    for (const waiting of this.#waiting) {
      if (waiting.begunAt <= begunAt) {
        this.#waiting.delete(waiting);
        waiting.resolve();
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    await Promise.all(this.#loops);
  }
}

export function tableOf(rows: readonly Row[]): string {
  const columns: (keyof Row)[] = [
    ...[
      "fault",
      "issued",
      "refused",
      "duplicates",
      "inversions",
      "longestGapMs",
      "healMs",
    ] as const,
  ];
  const lines = [columns, ...rows.map((row) => columns.map((column) => String(row[column])))];
  const widths = columns.map((_, i) => Math.max(...lines.map((line) => (line[i] ?? "").length)));
  return lines.map((line) =>
    line.map((cell, i) => i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ")
  ).join("\n");
}
