import assert from "node:assert/strict";
import fc from "fast-check";
import { Load, type LoadOptions } from "./load.ts";
import { LatencyCounts } from "./latency.ts";
import { singleSpear } from "../spear_testing.ts";
import { slowTest } from "@gru/shared/testing/harness";

slowTest(
  "Load from two processes receives everything that it sends, in groups of any size",
  async () => {
    await using spear = await singleSpear();
    const { load, connectionsPerSecond } = await Load.connect({
      clients: 23,
      groups: 5,
      targets: [spear.address],
      ticket: undefined,
      sources: ["127.0.0.1", "127.0.0.2"],
      senders: 2,
      content: 20,
      connecting: 4,
      firstUser: 1,
      workers: 2,
    });
    await using _load = load;
    assert.ok(connectionsPerSecond > 0);
    const { sent, accepted, expected, received, p50Ms, p99Ms, lost } = await load.run(200, 0.5);
    assert.deepEqual({ sent, accepted, lost }, { sent: 100, accepted: 100, lost: 0 });
    assert.equal(expected, 100 / 5 * 23);
    assert.equal(received, expected);
    assert.ok(p50Ms > 0 && p50Ms <= p99Ms);
  },
);

const small = {
  ...{ clients: 23, groups: 5, ticket: undefined, sources: [], senders: 1, content: 20 },
  ...{ connecting: 23, firstUser: 1, workers: 1 },
} as const satisfies Partial<LoadOptions>;

slowTest(
  "Load over Engine.IO 3 gets its messages, and pings for as long as it is there",
  async () => {
    // A client that never pings is closed after the sum of the two.
    await using spear = await singleSpear({ pingInterval: 200, pingTimeout: 800 });
    const { load } = await Load.connect({ ...small, targets: [spear.address], protocol: "3" });
    await using _load = load;
    assert.equal(await load.rest(2), 0);
    const { sent, accepted, expected, received, lost } = await load.run(100, 0.5);
    assert.deepEqual([sent, accepted, received, lost], [50, 50, expected, 0]);
  },
);

slowTest("unicast: each message comes to one client, who is in no group", async () => {
  await using spear = await singleSpear();
  const { load } = await Load.connect({ ...small, targets: [spear.address], unicast: true });
  await using _load = load;
  const { sent, accepted, expected, received } = await load.run(100, 0.5);
  assert.deepEqual([sent, accepted, expected, received], [50, 50, 50, 50]);
});

for (const [title, size] of [["comes back with it", 1000], ["is counted as lost", 0]] as const) {
  slowTest(
    `recovery: what was sent while all were away ${title} (history of ${size})`,
    async () => {
      await using spear = await singleSpear({ "history.size": size });
      const { load } = await Load.connect({
        ...{ ...small, targets: [spear.address], recovery: true, awayMs: 200, workers: 2 },
      });
      await using _load = load;
      const counts = await load.recover(1000, 1);
      const { sent, accepted, delivered, reconnects, lost, doubled, inverted, untold } = counts;
      assert.deepEqual(
        { accepted, reconnects, doubled, inverted, untold },
        { accepted: sent, reconnects: 23, doubled: 0, inverted: 0, untold: 0 },
      );
      assert.equal(sent, 1000);
      assert.equal(counts.wholly + counts.partly, 23);
      // Groups have four members or five.
      const all = delivered + lost;
      assert.ok(all >= 4 * sent && all <= 5 * sent, `${delivered} delivered, ${lost} lost`);
      if (size === 0) assert.ok(lost > 0 && counts.recovered === 0);
      else assert.ok(lost === 0 && counts.recovered > 0 && counts.wholly === 23);
    },
  );
}

slowTest("Load expects no deliveries of what was refused", async () => {
  await using spear = await singleSpear({ "limits.messagesPerSecond": 10 });
  const { load } = await Load.connect({
    clients: 23,
    groups: 5,
    targets: [spear.address],
    ticket: undefined,
    sources: [],
    senders: 1,
    content: 20,
    connecting: 4,
    firstUser: 1,
    workers: 1,
  });
  await using _load = load;
  const { sent, accepted, refused, expected, received } = await load.run(100, 0.5);
  assert.ok(refused > 0, `${refused}`);
  assert.equal(accepted + refused, sent);
  assert.equal(received, expected);
});

slowTest("Load names the client that cannot connect, and why", async () => {
  await using spear = await singleSpear({ "limits.connections": 3 });
  await assert.rejects(
    Load.connect({
      clients: 5,
      groups: 1,
      targets: [spear.address],
      ticket: undefined,
      sources: [],
      senders: 1,
      content: 20,
      connecting: 1,
      firstUser: 1,
      workers: 1,
    }),
    /this node holds 3 connections already/,
  );
});

slowTest("LatencyCounts returns quantiles within 4 %, merged or not", () => {
  const latencies = fc.array(fc.integer({ min: 1, max: 10_000_000 }), { minLength: 1 });
  fc.assert(fc.property(latencies, latencies, (here, there) => {
    const counts = new LatencyCounts();
    const others = new LatencyCounts();
    for (const us of here) counts.add(us);
    for (const us of there) others.add(us);
    counts.merge(others.entries());
    const all = [...here, ...there].sort((a, b) => a - b);
    for (const share of [0.5, 0.99, 1]) {
      const exact = (all[Math.ceil(all.length * share) - 1] ?? NaN) / 1000;
      const measured = counts.quantileMs(share);
      assert.ok(measured >= exact * 0.999 && measured <= exact * 1.04, `${measured} for ${exact}`);
    }
  }));
});
