import assert from "node:assert/strict";
import { freePort, serverTest } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { gets, newTarget, range, TestNode } from "../broker/testing.ts";
import { brokersOver } from "./testing.ts";

serverTest({
  name: "RocketmqBroker without RocketMQ loses nothing and is as fast as mode redis",
  needs: "redis",
  // A timer of gRPC runs for up to a second after the last attempt, and nothing can end it. For this reason the test
  // also has a file of its own.
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
    const clients = await withRedis(redis.port, (it) => it.call("CLIENT", "LIST"));
    const names = String(clients).match(/(?<= name=)gru-\S+/g)?.sort();
    assert.deepEqual(
      names,
      ["spear1", "spear2"].flatMap((node) => [
        ...[`gru-${node}-commands`, `gru-${node}-subscriber`],
      ]),
    );
  },
});
