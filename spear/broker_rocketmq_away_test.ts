import assert from "node:assert/strict";
import { freePort, serverTest } from "@gru/shared/testing";
import { startRedis } from "@gru/shared/testing_redis";
import { gets, newTarget, range, TestNode } from "./broker_testing.ts";
import { withRedis } from "./redis_testing.ts";
import { brokersOver } from "./rocketmq_testing.ts";

serverTest({
  name:
    "RocketmqBroker without RocketMQ loses nothing and is only slower, over one connection to Redis that sends nothing out",
  needs: "redis",
  // Up to a second after the last attempt a timer of gRPC's runs that nothing can end; hence also a file of its own.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using redis = await startRedis();
    const place = { redisPort: redis.port, rocketmqPort: freePort(), impatient: true };
    await using cluster = brokersOver(place);
    await using a = await TestNode.open(cluster.open);
    await using b = await TestNode.open(cluster.open);
    const target = newTarget();
    const members = [await a.member(target), await b.member(target)];
    for (const n of range(200)) await (n % 2 ? a : b).publish(target, `m${n}`);
    for (const member of members) {
      await gets(member, 200);
      assert.deepEqual(member.seqs, range(200));
      assert.deepEqual(member.lost, []);
    }
    const [stats, clients] = await withRedis(
      redis.port,
      (it) => Promise.all([it.info("commandstats"), it.call("CLIENT", "LIST")]),
    );
    assert.doesNotMatch(stats, /^cmdstat_s?publish/m);
    const names = String(clients).match(/(?<= name=)gru-\S+/g)?.sort();
    assert.deepEqual(names, ["gru-spear1-commands", "gru-spear2-commands"]);
  },
});
