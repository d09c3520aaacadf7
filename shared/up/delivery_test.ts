/**
 * The guarantees of delivery, on real processes that are really killed, frozen and cut off, under load: what was
 * accepted, delivered, lost, doubled.
 */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing";
import { FaultyProxy } from "@gru/shared/testing_proxy";
import { type RunningProgram, TestCluster } from "./processes.ts";
import { countLost, Ledger, TrackingClient } from "./tracking_client.ts";

const clientCount = 300;
const groupSize = 10;
const messagesPerSecond = 600;
/** Load before and after each fault. */
const calmMs = 2000;

interface Scene {
  readonly cluster: TestCluster;
  readonly programs: Record<
    "idgen1" | "idgen2" | "stat" | "spear1" | "spear2" | "spear3" | "ticket",
    RunningProgram
  >;
  /** Between spear3 and Redis. */
  readonly proxy: FaultyProxy;
}

/** Each leaves the cluster whole again. */
const faults: Readonly<Record<string, (scene: Scene) => Promise<void>>> = {
  "spear killed, started again": async ({ programs }) => {
    programs.spear1 = await programs.spear1.restart();
  },
  "spear frozen for 20 s": async ({ programs }) => {
    programs.spear2.process.freeze();
    await pause(20_000);
    programs.spear2.process.thaw();
  },
  "Redis killed, started again": async ({ cluster }) => {
    await cluster.redis.kill();
    await pause(1000);
    await cluster.redis.start();
  },
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
  "a spear cut off from Redis for 5 s": async ({ proxy }) => {
    proxy.refuse();
    proxy.cut();
    await pause(5000);
    proxy.pass();
  },
};

serverTest({
  name: "whatever dies, what was accepted arrives once and in order",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using cluster = await TestCluster.start({ tickMs: 1000 });
    await using proxy = new FaultyProxy({ port: cluster.redis.port });
    const flags = { "zookeeper.sessionMs": 2500 };
    const redis = `redis://127.0.0.1:${proxy.port}`;
    const [idgen1, stat, spear1, spear2, spear3, ticket] = await Promise.all([
      cluster.add("idgen", "test1", { ...flags, ceilingMs: 2000 }),
      cluster.add("stat", "test1", flags),
      cluster.add("spear", "test1", flags),
      cluster.add("spear", "test2", flags),
      cluster.add("spear", "test1", { ...flags, id: 3, redis }),
      cluster.add("ticket", "test1", flags),
    ]);
    const idgen2 = await cluster.add("idgen", "test2", { ...flags, ceilingMs: 2000 });
    const scene = {
      cluster,
      proxy,
      programs: { idgen1, idgen2, stat, spear1, spear2, spear3, ticket },
    };

    await using running = new AsyncDisposableStack();
    let ledger = new Ledger();
    const clients = Array.from(
      { length: clientCount },
      (_, i) =>
        running.use(
          new TrackingClient(
            ticket.address,
            i + 1,
            1 + i % (clientCount / groupSize),
            () => ledger,
          ),
        ),
    );
    await waitFor(() => clients.every(({ ready }) => ready), { what: "all clients are in" });

    const rows: Record<string, object> = {};
    for (const [name, fault] of Object.entries(faults)) {
      await t.step(name, async () => {
        ledger = new Ledger();
        for (const client of clients) client.resetSilence();
        let next = 0;
        const began = performance.now();
        const load = setInterval(() => {
          // By the clock: timers are late on a busy machine.
          const due = (performance.now() - began) / 1000 * messagesPerSecond;
          while (next < due) clients[next++ % clients.length]?.say();
        }, 10);
        await pause(calmMs);
        await fault(scene);
        await pause(calmMs);
        clearInterval(load);
        await waitFor(() => clients.every((client) => client.ready && client.unanswered === 0), {
          timeoutMs: 120_000,
          what: "all clients are back and every message is answered",
        });
        await waitFor(() => countLost(clients, ledger) === 0, { timeoutMs: 30_000 }).catch(
          () => {},
        );
        const { accepted: _, ...counts } = ledger;
        rows[name] = {
          ...counts,
          longestSilenceMs: Math.round(counts.longestSilenceMs),
          lost: countLost(clients, ledger),
        };
        assert.equal(ledger.acceptedCount, ledger.sent);
        assert.deepEqual(
          {
            lost: countLost(clients, ledger),
            doubled: ledger.doubled,
            outOfOrder: ledger.outOfOrder,
            gaps: ledger.untoldGaps,
          },
          { lost: 0, doubled: 0, outOfOrder: 0, gaps: 0 },
        );
        assert.ok(ledger.acceptedCount > messagesPerSecond, `${ledger.acceptedCount} accepted`);
      });
    }
    // deno-lint-ignore no-console -- the figures are for people
    console.table(rows);
  },
});

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
