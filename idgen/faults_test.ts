/** What idgen does while things break. Each test prints how many ids there were, how long there were none, and what was wrong. */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing";
import { startEnsemble, startZookeeper } from "@gru/shared/testing_zookeeper";
import {
  type Cluster,
  type ClusterOptions,
  type Load,
  sessionMs,
  startCluster,
  tableOf,
} from "./faults.ts";

const unique = ["--order", "unique"];

/** Long enough for the others to take over from who was stopped. */
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
  // Some time on, so that what went wrong during the fault has the chance to show.
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
  name: "idgen: another node goes on after a kill -9 of the active one",
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
  name: "idgen: an active node that is stopped hands over at once",
  needs: "zookeeper",
  fn: () =>
    withZookeeper([{}, {}], async ({ load, active }) => {
      const leaving = await active();
      assert.equal((await leaving.stop())?.code, 0);
      await finish(load, "SIGTERM of the active", await load.answered(), "strict");
    }),
});

serverTest({
  name: "idgen: an active node that slept beyond its session issues nothing when it wakes",
  needs: "zookeeper",
  fn: () =>
    // Clocks that differ, so that ids made by the clock alone would show.
    withZookeeper([{ clock: [-3000, 0] }, { clock: [3000, 0] }], async (cluster) => {
      const { load, active, nodes } = cluster;
      const sleeper = await active();
      sleeper.freeze();
      const healMs = await load.answered();
      await pause(beyondSessionMs);
      sleeper.thaw();
      const other = nodes.find((node) => node !== sleeper);
      await waitFor(async () => await sleeper.isActive() === false, {
        what: "the sleeper stands by",
      });
      assert.equal(await other?.isActive(), true);
      await finish(load, "SIGSTOP beyond the session", healMs, "strict");
    }),
});

serverTest({
  name: "idgen: two nodes of one worker never issue the same ids when one sleeps and wakes",
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
        what: "the sleeper stands by",
      });
      await finish(load, "SIGSTOP of a worker's holder", healMs, "unique");
    }),
});

serverTest({
  name: "idgen: nodes that all issue outlive a kill -9 and a sleep",
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
    name: `idgen: ids flow again after ZooKeeper was killed and away for ${awayMs} ms`,
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
  name: "idgen: ids flow again after ZooKeeper was frozen beyond the session",
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
  name: "idgen: clocks that differ and jump by seconds change nothing",
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
    "idgen: ids go on while one of three ZooKeeper servers is dead or frozen, and after two were",
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
