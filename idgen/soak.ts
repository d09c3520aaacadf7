/**
 * Random faults on real idgen nodes and a real ZooKeeper ensemble: the second part of `deno task soak`. It prints a
 * table and exits with 1 if an id was issued twice or out of order.
 */
import { parseArgs } from "node:util";
import { startEnsemble, whileDown, type ZookeeperEnsemble } from "@gru/shared/testing/zookeeper";
import {
  type Cluster,
  type IdgenProcess,
  type Row,
  sessionMs,
  startCluster,
  tableOf,
} from "./faults.ts";

/** Causes a fault and ends it again. */
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
  // Below the servers' own timeout for each other (2.5 s). Beyond it ZooKeeper 3.8.0 can hang until its leader is
  // restarted: the leader does not notice that its followers left and came back, and commits nothing any more.
  "ZooKeeper: all frozen": (_, { servers }) => frozen(servers, sessionMs * Math.random()),
  "ZooKeeper: replaced by an empty one": (_, { servers }) =>
    whileDown(servers, async (server) => {
      await server.empty();
      await pause(2 * sessionMs * Math.random());
    }),
  // From the start of the run, or from the last time that this fault ran.
  "ZooKeeper: restored from a backup": (_, { servers }) =>
    whileDown(servers, async (server) => {
      await server.restore();
      await pause(2 * sessionMs * Math.random());
    }),
};

export interface SoakResult {
  /** One row for each fault with its worst figures, and a last row for all. */
  readonly rows: readonly Row[];
  readonly isGood: boolean;
}

/** Runs for `ms`, or until `stop` is aborted. Rejects when no ids are issued within a minute after a fault. */
export async function soak(ms: number, stop?: AbortSignal): Promise<SoakResult> {
  await using ensemble = await startEnsemble();
  await using cluster = await startCluster({
    zookeeper: ensemble.addresses,
    nodes: [{ clock: [0, 0] }, { clock: [4000, 3000] }, { clock: [-4000, 3000] }],
  });
  const { load } = cluster;
  // The faults begin after the cluster has worked for a while. The backup that one fault restores is taken then, too.
  await whileDown(ensemble.servers, (server) => server.backUp());
  await load.answered();
  const worst = new Map<string, Row & { readonly times: number }>();
  const endAt = performance.now() + ms;
  // Each fault runs once, in random order, before any runs again.
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
