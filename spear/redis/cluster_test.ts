import assert from "node:assert/strict";
import { slotOf } from "@gru/shared/redis/cluster";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { withRedis } from "@gru/shared/testing/redis";
import { RedisClusterServers } from "@gru/shared/testing/redis_servers";
import { brokerCases } from "../broker/conformance.ts";
import { assertFlawless, Load, report } from "../broker/testing_load.ts";
import { newTarget, TestNode } from "../broker/testing.ts";
import { brokersOver } from "./testing.ts";

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

    await t.step("subscribes again with one command for each slot", async () => {
      await using cluster = brokersOver(servers.url);
      await using node = await TestNode.open(cluster.open);
      const targets = Array.from({ length: 1500 }, newTarget);
      await Promise.all(targets.map((target) => node.broker.listen(target)));
      const [server] = servers.servers;
      assert.ok(server);
      const here = [];
      for (const target of targets) if (await servers.ownerOf(target) === server) here.push(target);
      await server.kill();
      await server.start();
      const listened = () =>
        withRedis(server.port, async (redis) => {
          const channels = await redis.call("PUBSUB", "SHARDCHANNELS");
          return (channels as string[]).length;
        });
      await waitFor(async () => await listened() === here.length, timing);
      const commands = await withRedis(server.port, async (redis) => {
        const stats = await redis.info("commandstats");
        return Number(/cmdstat_ssubscribe:calls=(\d+)/.exec(stats)?.[1] ?? 0);
      });
      assert.equal(commands, new Set(here.map(slotOf)).size);
      assert.ok(commands < here.length);
    });

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
