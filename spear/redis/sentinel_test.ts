import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { withRedis } from "@gru/shared/testing/redis";
import { SentinelServers } from "@gru/shared/testing/redis_servers";
import { Load, report } from "../broker/testing_load.ts";
import { gets, newTarget, range, TestNode } from "../broker/testing.ts";
import { brokersOver } from "./testing.ts";

const timing = { timeoutMs: 60_000 };

serverTest({
  name: "RedisBroker behind Sentinel goes on with the replica when the primary is killed",
  needs: "redis",
  fn: async () => {
    await using servers = await SentinelServers.start();
    await using cluster = brokersOver(servers.url);
    await using a = await TestNode.open(cluster.open);
    await using b = await TestNode.open(cluster.open);
    using load = await Load.start([a, b]);
    await load.goesOn();
    await servers.primary.kill();
    await waitFor(() => !a.broker.connected && !b.broker.connected, timing);
    await waitFor(() => a.broker.connected && b.broker.connected, timing);
    await load.goesOn(500);
    const outcome = await load.finish();
    report("a replica takes over", outcome);
    assert.equal(outcome.outOfOrder, 0);
    assert.equal(outcome.falselyRefused, 0);
    assert.equal(outcome.lost, 0);
    assert.equal(outcome.newEpochs, load.targets.length);
  },
});

serverTest({
  name:
    "RedisBroker behind Sentinel never gives a seq of an epoch twice when the replica had fallen behind",
  needs: "redis",
  fn: async () => {
    await using servers = await SentinelServers.start();
    await using cluster = brokersOver(servers.url);
    await using a = await TestNode.open(cluster.open);
    await using b = await TestNode.open(cluster.open);
    const [target, quiet] = [newTarget(), newTarget()];
    const members = [await a.member(target), await b.member(target)];
    const quietMember = await b.member(quiet);
    for (const n of range(5)) await a.publish(target, `m${n}`);
    const before = await a.publish(quiet, "q1");
    await withRedis(servers.primary.port, (redis) => redis.call("WAIT", 1, 10_000));
    // The replica gets nothing any more; what is accepted from here on dies with the primary.
    servers.replica.freeze();
    await withRedis(
      servers.primary.port,
      (redis) => redis.call("CLIENT", "KILL", "TYPE", "replica"),
    );
    for (const n of range(10, 6)) await a.publish(target, `m${n}`);
    for (const member of members) await gets(member, 10);
    await servers.primary.kill();
    servers.replica.thaw();
    const after = await b.publish(target, "after");
    assert.equal(after.seq, 1);
    for (const member of members) {
      await gets(member, 11);
      assert.deepEqual(member.ids, [...range(10).map((n) => `m${n}`), "after"]);
      const given = member.frames.map(({ epoch, seq }) => `${epoch} ${seq}`);
      assert.equal(new Set(given).size, given.length);
    }
    // Whoever comes back hears that it cannot be told everything, and gets what there is.
    const epoch = members[0]?.frames[0]?.epoch ?? "";
    for (const [seq, missed] of [[3, ["m4", "m5", "after"]], [10, ["after"]]] as const) {
      const member = await a.hub.join(target, members[0]!, { epoch, seq });
      member.activate();
      assert.equal(member.recovered, false);
      assert.deepEqual(
        member.missed.map(({ text }) => JSON.parse(text.slice(2))[1].id),
        missed,
      );
    }
    const { epoch: renewed } = await a.publish(quiet, "q2");
    assert.notEqual(renewed, before.epoch);
    await gets(quietMember, 2);
    assert.deepEqual(quietMember.ids, ["q1", "q2"]);
  },
});
