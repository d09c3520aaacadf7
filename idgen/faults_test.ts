/** How idgen behaves under faults. Each test prints the number of ids, the longest gap and what went wrong. */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startEnsemble, startZookeeper, whileDown } from "@gru/shared/testing/zookeeper";
import {
  type Cluster,
  type ClusterOptions,
  type Load,
  sessionMs,
  startCluster,
  tableOf,
} from "./faults.ts";

const unique = ["--order", "unique"];

/** Long enough for another node to take over from a stopped one. */
const beyondSessionMs = 2 * sessionMs;

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

async function finish(
  load: Load,
  fault: string,
  healMs: number,
  order: "strict" | "unique",
): Promise<void> {
  // The load continues for a while, so that errors made during the fault can show.
  await pause(500);
  const row = load.row(`${fault} (${order})`, healMs);
  // deno-lint-ignore no-console
  console.log(tableOf([row]));
  assert.equal(row.duplicates, 0);
  if (order === "strict") assert.equal(row.inversions, 0);
  assert.ok(row.issued > 0);
}

async function withZookeeper(
  nodes: ClusterOptions["nodes"],
  act: (cluster: Cluster, zookeeper: Awaited<ReturnType<typeof startZookeeper>>) => Promise<void>,
): Promise<void> {
  await using zookeeper = await startZookeeper();
  await using cluster = await startCluster({ zookeeper: [zookeeper.address], nodes });
  await act(cluster, zookeeper);
}

serverTest({
  name: "idgen: another node takes over after a kill -9 of the active node",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([{}, {}, {}], async ({ load, active }) => {
      const victim = await active();
      await victim.kill();
      const healMs = await load.answered();
      victim.spawn();
      await victim.serving();
      assert.notEqual((await active()).name, victim.name);
      await finish(load, "kill -9 of the active", healMs, "strict");
    }),
});

serverTest({
  name: "idgen: an active node that is stopped in order hands over at once",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([{}, {}], async ({ load, active }) => {
      const leaving = await active();
      assert.equal((await leaving.stop())?.code, 0);
      await finish(load, "SIGTERM of the active", await load.answered(), "strict");
    }),
});

serverTest({
  name:
    "idgen: an active node that is frozen longer than its session issues nothing when it resumes",
  needs: "zookeeper",
  fn: () =>
    // The clocks differ, so that an error would show in ids made from the clock alone.
    withZookeeper([{ clock: [-3000, 0] }, { clock: [3000, 0] }], async (cluster) => {
      const { load, active, nodes } = cluster;
      const sleeper = await active();
      sleeper.freeze();
      const healMs = await load.answered();
      await pause(beyondSessionMs);
      sleeper.thaw();
      const other = nodes.find((node) => node !== sleeper);
      await waitFor(async () => await sleeper.isActive() === false, {
        what: "the frozen node is standing by",
      });
      assert.equal(await other?.isActive(), true);
      await finish(load, "SIGSTOP beyond the session", healMs, "strict");
    }),
});

serverTest({
  name:
    "idgen: two nodes with the same worker never issue the same ids when one freezes and resumes",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([
      { flags: [...unique, "--worker", "7"] },
      { flags: [...unique, "--worker", "7"] },
    ], async ({ load, active }) => {
      const sleeper = await active();
      sleeper.freeze();
      const healMs = await load.answered();
      await pause(sessionMs);
      sleeper.thaw();
      await waitFor(async () => await sleeper.isActive() === false, {
        what: "the frozen node is standing by",
      });
      await finish(load, "SIGSTOP of a worker's holder", healMs, "unique");
    }),
});

serverTest({
  name: "idgen: with order unique, ids continue after a kill -9 and a freeze",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([{ flags: unique }, { flags: unique }, { flags: unique }], async (cluster) => {
      const { load, nodes: [first, second] } = cluster;
      await first?.kill();
      second?.freeze();
      const healMs = await load.answered();
      await pause(beyondSessionMs);
      first?.spawn();
      second?.thaw();
      for (const node of [first, second]) {
        await waitFor(async () => await node?.isActive() === true, {
          what: `${node?.name} issues`,
        });
      }
      await finish(load, "kill -9 and SIGSTOP, two of three", healMs, "unique");
    }),
});

for (const awayMs of [300, beyondSessionMs]) {
  serverTest({
    name: `idgen: ids are issued again after ZooKeeper was down for ${awayMs} ms`,
    needs: "zookeeper",
    fn: () =>
      withZookeeper([{}, {}], async ({ load }, zookeeper) => {
        await zookeeper.kill();
        await pause(awayMs);
        zookeeper.spawn();
        const healMs = await load.answered();
        await zookeeper.serving();
        await load.answered();
        await finish(load, `ZooKeeper away ${awayMs} ms`, healMs, "strict");
      }),
  });
}

serverTest({
  name: "idgen: ids are issued again after ZooKeeper was frozen for longer than the session",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([{}, {}], async ({ load }, zookeeper) => {
      zookeeper.freeze();
      await pause(beyondSessionMs);
      zookeeper.thaw();
      const healMs = await load.answered();
      await finish(load, "ZooKeeper frozen", healMs, "strict");
    }),
});

serverTest({
  name: "idgen: ids stay unique and ordered while clocks differ and jump by seconds",
  needs: "zookeeper",
  fn: () =>
    withZookeeper(
      [{ clock: [8000, 0] }, { clock: [-8000, 5000] }, { clock: [0, 5000] }],
      async (cluster) => {
        const { load, active } = cluster;
        let healMs = 0;
        for (let failover = 0; failover < 3; failover++) {
          const victim = await active();
          await victim.kill();
          healMs = Math.max(healMs, await load.answered());
          victim.spawn();
          await victim.serving();
        }
        await finish(load, "three failovers, clocks ±8 s", healMs, "strict");
      },
    ),
});

serverTest({
  name:
    "idgen: ids continue while one of three ZooKeeper servers is dead or frozen, and again after two were",
  needs: "zookeeper",
  fn: async () => {
    await using ensemble = await startEnsemble();
    await using cluster = await startCluster({ zookeeper: ensemble.addresses, nodes: [{}, {}] });
    const { load } = cluster;
    const leader = await ensemble.leader();
    const [one, two] = ensemble.servers.filter((server) => server !== leader);

    await leader?.kill();
    await finish(load, "leader of three killed", await load.answered(), "strict");
    await leader?.start();

    load.begin();
    one?.freeze();
    await pause(beyondSessionMs);
    one?.thaw();
    await finish(load, "follower of three frozen", await load.answered(), "strict");

    load.begin();
    for (const server of [one, two]) await server?.kill();
    await pause(beyondSessionMs);
    for (const server of [one, two]) server?.spawn();
    await finish(load, "two of three killed", await load.answered(), "strict");
  },
});

/** The clocks differ by seconds: after a loss of data only what running nodes remember keeps the order. */
const clocks = [{ clock: [3000, 0] }, { clock: [-3000, 0] }, { clock: [0, 2000] }] as const;
/** Counted from the moment when ZooKeeper serves again. */
const healLimitMs = 15_000;

serverTest({
  name: "idgen: ids stay ordered when ZooKeeper is replaced by an empty one and a new node starts",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([...clocks, { late: true }], async ({ load, nodes }, zookeeper) => {
      await whileDown([zookeeper], (server) => server.empty());
      nodes.at(-1)?.spawn();
      const healMs = await load.answered();
      assert.ok(healMs < healLimitMs);
      await pause(beyondSessionMs);
      await Promise.all(nodes.map((node) => node.serving()));
      await load.answered();
      await finish(load, "ZooKeeper replaced by an empty one", healMs, "strict");
    }),
});

serverTest({
  name:
    "idgen: ids stay ordered when ZooKeeper is restored from a backup that names an earlier active node",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([...clocks, { late: true }], async ({ load, active, nodes }, zookeeper) => {
      await whileDown([zookeeper], (server) => server.backUp());
      await load.answered();
      const first = await active();
      await first.stop();
      first.spawn();
      await load.answered();
      await first.serving();
      await pause(beyondSessionMs);
      load.begin();
      await whileDown([zookeeper], (server) => server.restore());
      nodes.at(-1)?.spawn();
      const healMs = await load.answered();
      assert.ok(healMs < healLimitMs);
      await pause(beyondSessionMs);
      await Promise.all(nodes.map((node) => node.serving()));
      await load.answered();
      await finish(load, "ZooKeeper restored from an older backup", healMs, "strict");
    }),
});

serverTest({
  name:
    "idgen: ids stay ordered when ZooKeeper is emptied and the active node is killed at the same moment",
  needs: "zookeeper",
  fn: () =>
    withZookeeper(
      [{ clock: [4000, 0] }, { late: true, clock: [-4000, 0] }],
      async (cluster, zookeeper) => {
        const { load, nodes: [first, second] } = cluster;
        // After a first start ids are ahead of the clock for a while.
        await waitFor(async () => (await first?.aheadMs() ?? Infinity) < 100, {
          what: "the clock to reach the ids",
        });
        await first?.kill();
        await whileDown([zookeeper], (server) => server.empty());
        second?.spawn();
        const healMs = await load.answered();
        assert.ok(healMs < healLimitMs);
        await finish(load, "ZooKeeper emptied, active node killed", healMs, "strict");
      },
    ),
});

serverTest({
  name:
    "idgen: two nodes with the same worker never issue at once after ZooKeeper lost the first one's lease",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([
      { flags: [...unique, "--worker", "7"] },
      { late: true, flags: [...unique, "--worker", "7"] },
    ], async ({ load, nodes: [first, second] }, zookeeper) => {
      await whileDown([zookeeper], (server) => server.empty());
      second?.spawn();
      await second?.serving();
      const healMs = await load.answered();
      // The two nodes never both issue: each is called as often as possible until one of them has won.
      const until = performance.now() + 2 * beyondSessionMs;
      while (performance.now() < until) {
        const states = await Promise.all([first?.isActive(), second?.isActive()]);
        assert.deepEqual(states.filter((isActive) => isActive).length < 2, true);
      }
      await finish(load, "ZooKeeper emptied, one worker", healMs, "unique");
    }),
});

const withoutRegistry = [...["--withoutRegistry", "unique"], ...["--ceilingMs", "60000"]];

for (
  const [order, nodes] of [
    ["unique", [{ flags: [...unique, "--ceilingMs", "60000"] }, {
      flags: [...unique, "--ceilingMs", "60000"],
    }]],
    ["strict", [{ flags: withoutRegistry }]],
  ] as const
) {
  serverTest({
    name:
      `idgen, ${order}: no id is refused while ZooKeeper is away for longer than the session, nor when it is back`,
    needs: "zookeeper",
    fn: () =>
      withZookeeper(nodes, async ({ load, nodes: processes }, zookeeper) => {
        const [first] = processes;
        for (const process of processes) {
          await waitFor(async () => (await process.reservedMs() ?? 0) > 50_000, {
            what: `${process.name} has reserved ids`,
          });
        }
        // A node that is not listed yet is not found without the registry.
        await load.everyoneAnswered();
        load.begin();
        await zookeeper.kill();
        await waitFor(async () => await first?.isWithoutRegistry() === true, {
          what: "the node issues ids without the registry",
        });
        await pause(beyondSessionMs);
        assert.match(first?.output ?? "", /the registry is away: issuing unique ids/);
        zookeeper.spawn();
        await zookeeper.serving();
        await waitFor(async () => await first?.isWithoutRegistry() === false, {
          what: "the node has its lease again",
        });
        await load.answered();
        const row = load.row(`ZooKeeper away, ids go on (${order})`, 0);
        assert.equal(row.refused, 0);
        assert.equal(row.duplicates, 0);
        await finish(load, "ZooKeeper away, ids go on", 0, "unique");
      }),
  });
}
