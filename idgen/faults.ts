/** For the fault tests and the soak: real idgen processes, and a load that checks every id it is given. */
import { logger } from "@gru/shared/log";
import type { Instance, Registry } from "@gru/shared/registry";
import { connectZookeeper } from "@gru/shared/registry_zookeeper";
import { connectRpc } from "@gru/shared/rpc/client";
import type { Client } from "@gru/shared/rpc/contract";
import {
  freePort,
  projectRoot,
  ServerProcess,
  taskArguments,
  TestServer,
  waitFor,
} from "@gru/shared/testing";
import { type IdgenContract, idgenContract } from "./contract.ts";

/** Half of the profiles', so that faults take half as long. */
export const sessionMs = 2000;

export interface ClusterOptions {
  /** `host:port` of each ZooKeeper server. */
  readonly zookeeper: readonly string[];
  /** One entry a node; `clock`: how far it is off and how far it jumps, milliseconds. */
  readonly nodes: readonly {
    readonly flags?: readonly string[];
    readonly clock?: readonly [number, number];
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

  /** Also after {@linkcode kill}. Resolves before it serves. */
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

  /** As its metrics say; undefined when it does not answer. */
  async isActive(): Promise<boolean | undefined> {
    try {
      const signal = AbortSignal.timeout(500);
      const response = await fetch(`http://127.0.0.1:${this.port}/metrics`, { signal });
      return /^gru_idgen_active\{.*\} 1$/m.test(await response.text());
    } catch {
      return undefined;
    }
  }
}

export interface Cluster extends AsyncDisposable {
  readonly nodes: readonly IdgenProcess[];
  readonly load: Load;
  /** Waits for one that issues. */
  active(): Promise<IdgenProcess>;
}

/** Resolves when ids flow. */
export async function startCluster({ zookeeper, nodes }: ClusterOptions): Promise<Cluster> {
  await using stack = new AsyncDisposableStack();
  const root = `/gru${freePort()}`;
  const address = `zookeeper://${zookeeper.join(",")}${root}`;
  const processes = nodes.map((node, index) =>
    stack.use(new IdgenProcess(index + 1, address, node))
  );
  for (const process of processes) process.spawn();
  await Promise.all(processes.map((process) => process.serving()));

  const registry = stack.use(
    await connectZookeeper({ servers: zookeeper, root, sessionMs, log: logger("test") }),
  );
  const clients: Client<IdgenContract>[] = [];
  const anyone = stack.use(await connectRpc(idgenContract, { registry, timeoutMs: 3000 }));
  clients.push(anyone.any, anyone.any, anyone.any, anyone.any);
  // These never hear that their node should no longer be asked, so a node that wakes up is asked at once.
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
  /** The longest time without a single answered call. */
  readonly longestGapMs: number;
  /** From the fault's end to the first answer of a call that began after it. */
  readonly healMs: number;
}

/** Calls without end from several clients, each as soon as the last is answered. */
export class Load implements AsyncDisposable {
  readonly #clients: readonly Client<IdgenContract>[];
  readonly #loops: Promise<void>[];
  readonly #waiting = new Set<{ readonly begunAt: number; readonly resolve: () => void }>();
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

  /** Counts from here on. */
  begin(): void {
    this.#countBefore = this.#count;
    this.#refused = this.#inversions = this.#longestGapMs = 0;
    this.#answeredAt = performance.now();
  }

  /** How long it takes until a call that begins from now on is answered. */
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

  /** What happened since {@linkcode begin}; duplicates are looked for among all ids ever. */
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
      try {
        const { ids } = await client.next({ count: 1 + Math.floor(Math.random() * 20) });
        this.#check(ids, above, begunAt);
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
