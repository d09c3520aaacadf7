import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing";
import { brokerCases } from "./broker_conformance.ts";
import { assertFlawless, Load, report } from "./broker_load.ts";
import { newTarget, TestNode } from "./broker_testing.ts";
import { parseView, slotOf } from "./redis_cluster.ts";
import { brokersOver, withRedis } from "./redis_testing.ts";
import { RedisClusterServers } from "./redis_testing_servers.ts";

const timing = { timeoutMs: 60_000 };

serverTest({
  name: "RedisBroker over a Cluster",
  needs: "redis",
  fn: async (t) => {
    await using servers = await RedisClusterServers.start({ replicas: false });
    for (const { name, needs, run } of brokerCases) {
      if (needs === "received") continue;
      await t.step(name, async () => {
        await using cluster = brokersOver(servers.url, { loseData: () => servers.loseData() });
        await run(cluster);
      });
    }

    await t.step(
      "subscribes at the one server that has the target, and nowhere twice",
      async () => {
        await using cluster = brokersOver(servers.url);
        await using node = await TestNode.open(cluster.open);
        const target = newTarget();
        await node.member(target);
        const owner = await servers.ownerOf(target);
        for (const server of servers.servers) {
          const channels = await withRedis(
            server.port,
            (redis) => redis.call("PUBSUB", "SHARDCHANNELS"),
          );
          assert.deepEqual(channels, server === owner ? [`gru:{${target}}`] : []);
        }
      },
    );

    await t.step("loses and doubles nothing when slots move under load", async () => {
      await using cluster = brokersOver(servers.url);
      await using a = await TestNode.open(cluster.open);
      await using b = await TestNode.open(cluster.open);
      using load = await Load.start([a, b]);
      await load.goesOn();
      for (let round = 0; round < 2; round++) {
        for (const target of load.targets) {
          const owner = await servers.ownerOf(target);
          const at = servers.servers.indexOf(owner);
          const next = servers.servers[(at + 1) % servers.servers.length] ?? owner;
          await servers.move(target, next);
          await load.goesOn(100);
        }
      }
      const outcome = await load.finish();
      report("slots move", outcome);
      assertFlawless(outcome);
      assert.equal(outcome.refused + outcome.inDoubt, 0);
    });

    await t.step(
      "loses and doubles nothing when one of its servers is killed and comes back",
      async () => {
        await using cluster = brokersOver(servers.url);
        await using a = await TestNode.open(cluster.open);
        await using b = await TestNode.open(cluster.open);
        using load = await Load.start([a, b]);
        await load.goesOn();
        const [server] = servers.servers;
        await server?.kill();
        await server?.start();
        await waitFor(() => a.broker.connected && b.broker.connected, timing);
        await load.goesOn();
        const outcome = await load.finish();
        report("a server of the cluster is killed and comes back", outcome);
        assertFlawless(outcome);
        assert.equal(outcome.newEpochs, 0);
      },
    );
  },
});

serverTest({
  name: "RedisBroker over a Cluster goes on when a replica takes over",
  needs: "redis",
  fn: async () => {
    await using servers = await RedisClusterServers.start({ replicas: true });
    await using cluster = brokersOver(servers.url);
    await using a = await TestNode.open(cluster.open);
    await using b = await TestNode.open(cluster.open);
    using load = await Load.start([a, b], { targets: 9 });
    await load.goesOn();
    const [killed] = servers.servers;
    const concerned: string[] = [];
    for (const target of load.targets) {
      if (await servers.ownerOf(target) === killed) concerned.push(target);
    }
    await killed?.kill();
    await waitFor(async () => {
      const owners = await Promise.all(load.targets.map((target) => servers.ownerOf(target)));
      return !owners.includes(killed as never);
    }, timing);
    await waitFor(() => a.broker.connected && b.broker.connected, timing);
    await load.goesOn(500);
    const outcome = await load.finish();
    report("a replica of the cluster takes over", outcome);
    assert.equal(outcome.outOfOrder, 0);
    assert.equal(outcome.falselyRefused, 0);
    assert.equal(outcome.lost, 0);
    assert.equal(outcome.newEpochs, concerned.length);
  },
});

Deno.test("slotOf is what the Redis Cluster specification computes", () => {
  assert.equal(slotOf("123456789"), 0x31c3);
  assert.equal(slotOf("foo"), 12_182);
  assert.equal(slotOf(""), 0);
});

Deno.test("parseView reads the slots of primaries, and takes the address asked for a node that has none", () => {
  const view = [
    "a1 127.0.0.1:7001@17001,host1 master - 0 1 5 connected 0-5460 6000",
    "b2 :0@0 slave,fail a1 0 1 5 connected",
    "c3 :7003@17003 myself,master - 0 1 7 connected 5461-5999 [5462->-a1]",
    "",
  ].join("\n");
  assert.deepEqual(parseView(view, "10.0.0.3:7003"), [
    { address: "127.0.0.1:7001", epoch: 5, from: 0, to: 5460 },
    { address: "127.0.0.1:7001", epoch: 5, from: 6000, to: 6000 },
    { address: "10.0.0.3:7003", epoch: 7, from: 5461, to: 5999 },
  ]);
  assert.deepEqual(parseView("", "h:1"), []);
});
