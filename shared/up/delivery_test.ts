/**
 * The guarantees of delivery, on real processes that are really killed, frozen and cut off, under load: what was
 * accepted, delivered, lost, doubled.
 */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing";
import { FaultyProxy } from "@gru/shared/testing_proxy";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing_rocketmq";
import { type Flags, type RunningProgram, TestCluster } from "./processes.ts";
import { countLost, Ledger, TrackingClient } from "./tracking_client.ts";

const clientCount = 300;
const groupSize = 10;
const messagesPerSecond = 600;
/** Load before and after each fault. */
const calmMs = 2000;
const drainMs = 4000;

type ProgramNames = "idgen1" | "idgen2" | "stat" | "spear1" | "spear2" | "spear3" | "ticket";

interface Scene extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly programs: Record<ProgramNames, RunningProgram>;
  /** Between spear3 and Redis. */
  readonly proxy: FaultyProxy;
}

/** Each leaves the cluster whole again. */
type Fault = (scene: Scene) => Promise<void>;

const spearFaults: Readonly<Record<string, Fault>> = {
  "spear frozen for 20 s": async ({ programs }) => {
    programs.spear2.process.freeze();
    await pause(20_000);
    programs.spear2.process.thaw();
  },
  "spear killed, started again": async ({ programs }) => {
    programs.spear1 = await programs.spear1.restart();
  },
  "spear stopped (drain), started again": async ({ programs }) => {
    const { process } = programs.spear2;
    await process.kill("SIGTERM");
    assert.equal((await process.ended).code, 0, process.output);
    programs.spear2 = await programs.spear2.restart();
  },
};

const redisFaults: Readonly<Record<string, Fault>> = {
  "Redis killed, started again": async ({ cluster }) => {
    await cluster.redis.kill();
    await pause(1000);
    await cluster.redis.start();
  },
  "a spear cut off from Redis for 5 s": async ({ proxy }) => {
    proxy.refuse();
    proxy.cut();
    await pause(5000);
    proxy.pass();
  },
};

const otherFaults: Readonly<Record<string, Fault>> = {
  "Redis frozen for 10 s": async ({ cluster }) => {
    cluster.redis.freeze();
    await pause(10_000);
    cluster.redis.thaw();
  },
  "ZooKeeper killed, started again": async ({ cluster }) => {
    await cluster.zookeeper.kill();
    await pause(1000);
    await cluster.zookeeper.start();
  },
  "active idgen killed": async ({ programs }) => {
    programs.idgen1 = await programs.idgen1.restart();
  },
  "stat killed, started again": async ({ programs }) => {
    programs.stat = await programs.stat.restart();
  },
};

function rocketmqFaults(rocketmq: RocketmqServer): Readonly<Record<string, Fault>> {
  return {
    "RocketMQ killed, started again": async () => {
      await rocketmq.kill();
      await pause(1000);
      await rocketmq.start();
    },
  };
}

async function setScene(spearFlags: Flags): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(await TestCluster.start({ tickMs: 1000 }));
  const proxy = stack.use(new FaultyProxy({ port: cluster.redis.port }));
  const flags = { "zookeeper.sessionMs": 2500 };
  const spear = { ...flags, ...spearFlags, drainMs };
  const redis = `redis://127.0.0.1:${proxy.port}`;
  const [idgen1, stat, spear1, spear2, spear3, ticket] = await Promise.all([
    cluster.add("idgen", "test1", { ...flags, ceilingMs: 2000 }),
    cluster.add("stat", "test1", flags),
    cluster.add("spear", "test1", spear),
    cluster.add("spear", "test2", spear),
    cluster.add("spear", "test1", { ...spear, id: 3, redis }),
    cluster.add("ticket", "test1", flags),
  ]);
  const idgen2 = await cluster.add("idgen", "test2", { ...flags, ceilingMs: 2000 });
  const owned = stack.move();
  return {
    cluster,
    proxy,
    programs: { idgen1, idgen2, stat, spear1, spear2, spear3, ticket },
    // The programs first: what they are connected to goes last.
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function endure(
  t: Deno.TestContext,
  scene: Scene,
  faults: Readonly<Record<string, Fault>>,
): Promise<void> {
  const { address } = scene.programs.ticket;
  await using running = new AsyncDisposableStack();
  let ledger = new Ledger();
  const clients = Array.from({ length: clientCount }, (_, i) => {
    const group = 1 + i % (clientCount / groupSize);
    return running.use(new TrackingClient(address, i + 1, group, () => ledger));
  });
  await waitFor(() => clients.every(({ ready }) => ready), { what: "all clients are in" });

  const rows: Record<string, object> = {};
  for (const [name, fault] of Object.entries(faults)) {
    await t.step(name, async () => {
      ledger = new Ledger();
      for (const client of clients) client.resetSilence();
      const stopLoad = startLoad(clients);
      try {
        await pause(calmMs);
        await fault(scene);
        await pause(calmMs);
      } finally {
        stopLoad();
      }
      await waitFor(() => clients.every((client) => client.ready && client.unanswered === 0), {
        timeoutMs: 120_000,
        what: "all clients are back and every message is answered",
      });
      // What is missing then is lost.
      await waitFor(() => countLost(clients, ledger) === 0).catch(() => {});
      const { accepted: _, longestSilenceMs, ...counts } = ledger;
      const lost = countLost(clients, ledger);
      rows[name] = { ...counts, lost, silenceMs: Math.round(longestSilenceMs) };
      const { doubled, outOfOrder, untoldGaps, acceptedCount, sent } = ledger;
      assert.deepEqual(
        { lost, doubled, outOfOrder, untoldGaps },
        { lost: 0, doubled: 0, outOfOrder: 0, untoldGaps: 0 },
      );
      assert.equal(acceptedCount, sent);
      assert.ok(acceptedCount > messagesPerSecond, `${acceptedCount} accepted`);
    });
  }
  // deno-lint-ignore no-console -- the figures are for people
  console.table(rows);
}

function startLoad(clients: readonly TrackingClient[]): () => void {
  let next = 0;
  const began = performance.now();
  const timer = setInterval(() => {
    // By the clock: timers are late on a busy machine.
    const due = (performance.now() - began) / 1000 * messagesPerSecond;
    while (next < due) clients[next++ % clients.length]?.say();
  }, 10);
  return () => clearInterval(timer);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

serverTest({
  name: "mode redis: whatever dies, what was accepted arrives once and in order",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using scene = await setScene({ mode: "redis" });
    await endure(t, scene, { ...spearFaults, ...redisFaults, ...otherFaults });
  },
});

rocketmqTest({
  name: "mode rocketmq: whatever dies, what was accepted arrives once and in order",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using rocketmq = await startRocketmq();
    await rocketmq.createTopic("gru");
    await using scene = await setScene({
      mode: "rocketmq",
      rocketmq: `127.0.0.1:${rocketmq.port}`,
    });
    await endure(t, scene, { ...rocketmqFaults(rocketmq), ...spearFaults, ...redisFaults });
  },
});
