/**
 * Random faults on real idgen nodes and a real ensemble of ZooKeeper: `deno task soak --minutes 10`. Prints a table and exits with 1
 * when an id came twice, or a smaller one after a greater.
 */
import { parseArgs } from "node:util";
import { startEnsemble, type ZookeeperEnsemble } from "@gru/shared/testing_zookeeper";
import {
  type Cluster,
  type IdgenProcess,
  type Row,
  sessionMs,
  startCluster,
  tableOf,
} from "./faults.ts";

/** Does something bad and ends it again. */
type Fault = (cluster: Cluster, ensemble: ZookeeperEnsemble) => Promise<void>;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function any<T>(values: readonly T[]): T {
  return values[Math.floor(Math.random() * values.length)] as T;
}

async function frozen(
  these: readonly { freeze(): void; thaw(): void }[],
  ms: number,
): Promise<void> {
  for (const one of these) one.freeze();
  await pause(ms);
  for (const one of these) one.thaw();
}

async function restarted(node: IdgenProcess): Promise<void> {
  await node.kill();
  await pause(Math.random() * sessionMs);
  node.spawn();
}

const faults: Readonly<Record<string, Fault>> = {
  "kill -9 of the active": async ({ active }) => restarted(await active()),
  "kill -9 of any node": ({ nodes }) => restarted(any(nodes)),
  "SIGTERM of the active": async ({ active }) => {
    const node = await active();
    await node.stop();
    node.spawn();
  },
  "SIGSTOP of the active": async ({ active }) =>
    frozen([await active()], 3 * sessionMs * Math.random()),
  "SIGSTOP of all nodes": ({ nodes }) => frozen(nodes, 2 * sessionMs * Math.random()),
  "ZooKeeper: one killed": async (_, { servers }) => {
    const server = any(servers);
    await server.kill();
    await pause(sessionMs * Math.random());
    server.spawn();
  },
  "ZooKeeper: two killed": async (_, { servers }) => {
    const two = servers.toSpliced(Math.floor(Math.random() * 3), 1);
    for (const server of two) await server.kill();
    await pause(sessionMs * Math.random());
    for (const server of two) server.spawn();
  },
  "ZooKeeper: one frozen": (_, { servers }) =>
    frozen([any(servers)], 2 * sessionMs * Math.random()),
  // Below the servers' own patience with each other (2.5 s). Beyond it ZooKeeper 3.8.0 can hang until its leader is
  // restarted: followers that left and came back to a leader that never noticed, and nothing is committed any more.
  "ZooKeeper: all frozen": (_, { servers }) => frozen(servers, sessionMs * Math.random()),
};

export interface SoakResult {
  /** One row a fault, in its worst figures, and a last one for all. */
  readonly rows: readonly Row[];
  readonly isGood: boolean;
}

/** For `ms`, or until `stop` is aborted. Rejects when ids do not come back within a minute of a fault. */
export async function soak(ms: number, stop?: AbortSignal): Promise<SoakResult> {
  await using ensemble = await startEnsemble();
  await using cluster = await startCluster({
    zookeeper: ensemble.addresses,
    nodes: [{ clock: [0, 0] }, { clock: [4000, 3000] }, { clock: [-4000, 3000] }],
  });
  const { load } = cluster;
  const worst = new Map<string, Row & { readonly times: number }>();
  const endAt = performance.now() + ms;
  // Each once, in a random order, before any comes again.
  let ahead: string[] = [];
  while (performance.now() < endAt && !stop?.aborted) {
    if (ahead.length === 0) ahead = Object.keys(faults).sort(() => Math.random() - 0.5);
    const name = ahead.pop() as string;
    load.begin();
    let healMs;
    try {
      await faults[name]?.(cluster, ensemble);
      healMs = await load.answered();
      await Promise.all(ensemble.servers.map((server) => server.serving()));
      await Promise.all(cluster.nodes.map((node) => node.serving()));
      await load.answered();
    } catch (cause) {
      const roles = await Promise.all(ensemble.servers.map((server) => server.role()));
      const wrote = cluster.nodes.map((node) => `${node.name} wrote:\n${node.output.slice(-8000)}`);
      throw new Error(
        `Not healed after: ${name}. ZooKeeper: ${roles.join()}\n${wrote.join("\n")}`,
        { cause },
      );
    }
    const row = load.row(name, healMs);
    const before = worst.get(name);
    worst.set(
      name,
      before === undefined ? { ...row, times: 1 } : {
        fault: name,
        times: before.times + 1,
        issued: before.issued + row.issued,
        refused: before.refused + row.refused,
        duplicates: row.duplicates,
        inversions: before.inversions + row.inversions,
        longestGapMs: Math.max(before.longestGapMs, row.longestGapMs),
        healMs: Math.max(before.healMs, row.healMs),
      },
    );
  }
  const rows = [...worst.values()].map((row) => ({ ...row, fault: `${row.fault} ×${row.times}` }));
  const isGood = rows.every((row) => row.duplicates === 0 && row.inversions === 0);
  const total: Row = {
    fault: `all ×${rows.reduce((sum, row) => sum + row.times, 0)}`,
    issued: rows.reduce((sum, row) => sum + row.issued, 0),
    refused: rows.reduce((sum, row) => sum + row.refused, 0),
    duplicates: Math.max(...rows.map((row) => row.duplicates)),
    inversions: rows.reduce((sum, row) => sum + row.inversions, 0),
    longestGapMs: Math.max(...rows.map((row) => row.longestGapMs)),
    healMs: Math.max(...rows.map((row) => row.healMs)),
  };
  return { rows: [...rows, total], isGood };
}

if (import.meta.main) {
  const { values } = parseArgs({ options: { minutes: { type: "string", default: "10" } } });
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error(`--minutes is ${values.minutes}; expected a number above 0`);
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => stop.abort());
  }
  const { rows, isGood } = await soak(minutes * 60_000, stop.signal);
  // deno-lint-ignore no-console
  console.log(tableOf(rows));
  Deno.exit(isGood ? 0 : 1);
}
