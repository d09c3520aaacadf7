/** ZooKeeper comes back without its data: empty, from an older backup, or as another ZooKeeper at the same address. */
import assert from "node:assert/strict";
import { configureSync, type LogRecord, reset } from "@logtape/logtape";
import { ConflictError, type Lease, type Registry } from "../registry/registry.ts";
import { someInstance, Views } from "../registry/conformance.ts";
import { connect, pause, sessionMs } from "./scene.ts";
import { FaultyProxy } from "../testing/proxy.ts";
import { serverTest, waitFor } from "../testing/harness.ts";
import { startEnsemble, startZookeeper, whileDown } from "../testing/zookeeper.ts";

/** Everything must work again this long after ZooKeeper serves. */
const healMs = 15_000;

/** Records the text of log lines of level `warning` and above, until disposed. */
function recordLog(): { readonly lines: string[] } & AsyncDisposable {
  const lines: string[] = [];
  const keep = ({ level, message }: LogRecord) => {
    if (level === "warning" || level === "error") lines.push(message.join(""));
  };
  configureSync({
    reset: true,
    sinks: { keep },
    loggers: [
      { category: "gru", sinks: ["keep"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["keep"] },
    ],
  });
  return { lines, [Symbol.asyncDispose]: () => reset() };
}

/** Two programs that see each other, hold a lease and have written a cell; `lose` removes ZooKeeper's data. */
async function survives(servers: readonly string[], lose: () => Promise<void>): Promise<void> {
  await using log = recordLog();
  await using a = await connect(servers);
  await using b = await connect(servers);
  await using _spear1 = await a.register(someInstance("spear1"));
  await using spear2 = await b.register(someInstance("spear2"));
  using seenByA = await Views.of(a, "spear");
  using seenByB = await Views.of(b, "spear");
  await seenByA.settle("spear1 spear2");
  const lease = await a.acquire("key", "a");
  assert.ok(lease);
  await a.cell("cell").write("old", undefined);
  const known = await a.cell("cell").write("known", await a.cell("cell").read());

  await lose();
  const servesAt = performance.now();
  await waitFor(() => a.state === "connected" && b.state === "connected", {
    timeoutMs: healMs,
    what: "both programs in contact again",
  });
  await using newcomer = await connect(servers);
  await using _spear3 = await newcomer.register(someInstance("spear3"));
  using seenByNewcomer = await Views.of(newcomer, "spear");
  for (const seen of [seenByA, seenByB, seenByNewcomer]) {
    await seen.settle("spear1 spear2 spear3", healMs);
  }
  await spear2.update({ meta: { again: true } });
  await waitFor(() => seenByNewcomer.last?.instances[1]?.meta.again === true);
  assert.ok(performance.now() - servesAt < healMs);
  for (const seen of [seenByA, seenByB]) {
    const missed = seen.all.find((view) => view.instances.length < 2 && !view.stale);
    assert.equal(missed, undefined, "a view marked as current lacked a live instance");
  }

  assert.equal(lease.lost.aborted, true);
  await using next = await eventuallyAcquired(b);
  assert.ok(
    next.validFrom > servesAt + sessionMs,
    "the last holder may still believe that it holds the lease",
  );
  await assert.rejects(a.cell("cell").write("new", known), ConflictError);
  assert.notEqual((await a.cell("cell").read())?.value, "new");

  const causes = log.lines.filter((line) => line.includes("ZooKeeper has lost data"));
  assert.equal(causes.length, 2, `one line a program, not: ${log.lines.join("\n")}`);
}

async function eventuallyAcquired(registry: Registry): Promise<Lease> {
  let lease: Lease | undefined;
  await waitFor(async () => (lease = await registry.acquire("key", "b")) !== undefined);
  return lease as unknown as Lease;
}

serverTest({
  name: "a registry recovers when its only server comes back empty",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await survives([server.address], () => whileDown([server], (server) => server.empty()));
  },
});

serverTest({
  name:
    "a registry recovers when three servers come back empty after all sessions would have ended",
  needs: "zookeeper",
  fn: async () => {
    await using ensemble = await startEnsemble();
    await survives(ensemble.addresses, () =>
      whileDown(ensemble.servers, async (server) => {
        await server.empty();
        await pause(1.5 * sessionMs);
      }));
  },
});

serverTest({
  name: "a registry recovers when three servers come back from a backup without its sessions",
  needs: "zookeeper",
  fn: async () => {
    await using ensemble = await startEnsemble();
    const { servers } = ensemble;
    await whileDown(servers, (server) => server.backUp());
    await survives(ensemble.addresses, () => whileDown(servers, (server) => server.restore()));
  },
});

serverTest({
  name:
    "a registry recovers when another ZooKeeper answers at its address while the first one still runs",
  needs: "zookeeper",
  fn: async () => {
    await using first = await startZookeeper();
    await using second = await startZookeeper();
    await using proxy = new FaultyProxy(first);
    await survives([proxy.address], async () => {
      proxy.retarget(second);
      proxy.cut();
    });
  },
});

serverTest({
  name:
    "leases and cells of a registry restored from a backup are not trusted, even if the session is in it",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using a = await connect([server.address]);
    await using b = await connect([server.address]);
    await using _spear1 = await a.register(someInstance("spear1"));
    const lease = await a.acquire("key", "a");
    const cell = a.cell("cell");
    let known = await cell.write("0", undefined);
    await whileDown([server], (server) => server.backUp());
    await waitFor(() => a.state === "connected" && b.state === "connected");
    await waitFor(() => (lease?.validUntil() ?? 0) > performance.now());
    // After the backup the lease changes its holder, and the cell is written.
    await lease?.[Symbol.asyncDispose]();
    await using next = await eventuallyAcquired(b);
    known = await cell.write("1", known);
    assert.equal(known.version, 1);

    await whileDown([server], (server) => server.restore());
    await waitFor(() => a.state === "connected" && b.state === "connected", { timeoutMs: healMs });
    await waitFor(() => next.lost.aborted, { what: "the lease that the backup does not know" });
    // Another program writes a value with the version that is known here, but with another meaning.
    const restored = await b.cell("cell").read();
    assert.deepEqual(restored, { value: "0", version: 0 });
    await b.cell("cell").write("theirs", restored);
    await assert.rejects(cell.write("2", known), ConflictError);
    assert.equal((await b.cell("cell").read())?.value, "theirs");
    using views = await Views.of(b, "spear");
    await views.settle("spear1", healMs);
  },
});

serverTest({
  name: "a registry replaces the nodes of dead programs that a backup brings back",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    {
      await using dead = await connect([server.address]);
      await dead.register(someInstance("spear1", { meta: { dead: true } }));
      await dead.acquire("key", "dead");
      await whileDown([server], (server) => server.backUp());
      await waitFor(() => dead.state === "connected");
    }
    await using alive = await connect([server.address]);
    await using _spear1 = await alive.register(someInstance("spear1"));
    using views = await Views.of(alive, "spear");
    await whileDown([server], (server) => server.restore());
    await waitFor(() => alive.state === "connected", { timeoutMs: healMs });
    await using newcomer = await connect([server.address]);
    using truth = await Views.of(newcomer, "spear");
    for (const seen of [views, truth]) {
      const isAlive = () =>
        seen.last?.stale === false && seen.last.instances[0]?.meta.version === "1";
      await waitFor(isAlive, { timeoutMs: healMs, what: "the living one in the dead one's place" });
    }
    await using lease = await eventuallyAcquired(alive);
    assert.ok(lease.validUntil() > performance.now());
  },
});
