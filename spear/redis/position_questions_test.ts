import assert from "node:assert/strict";
import { serverTest } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { newTarget, TestNode } from "../broker/testing.ts";
import { brokersOver } from "./testing.ts";

serverTest({
  name:
    "a node asks for the positions of many targets by few scripts, and one that is refused refuses no other",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using cluster = brokersOver(server.url);
    await using node = await TestNode.open(cluster.open);
    const scripts = () =>
      withRedis(server.port, async (redis) => {
        const [, calls = "0"] =
          /cmdstat_evalsha:calls=(\d+)/.exec(await redis.info("commandstats")) ?? [];
        return Number(calls);
      });
    const ask = (targets: readonly ReturnType<typeof newTarget>[]) =>
      Promise.allSettled(
        targets.map((target) => node.broker.positions([{ target, epoch: "", seq: 0 }])),
      );
    const targets = Array.from({ length: 2500 }, newTarget);
    const before = await scripts();
    const positions = await node.broker.positions(
      targets.map((target) => ({ target, epoch: "", seq: 0 })),
    );
    assert.equal(positions.length, 2500);
    assert.equal(new Set(positions.map(({ epoch }) => epoch)).size, 2500);
    assert.deepEqual(
      await node.broker.positions(targets.map((target) => ({ target, epoch: "", seq: 0 }))),
      positions,
    );
    // Three each, and a few of the node's own.
    const asked = await scripts() - before;
    assert.ok(asked >= 6 && asked < 20, `${asked} scripts`);

    const [broken, ...others] = targets.slice(0, 3);
    assert.ok(broken);
    await withRedis(server.port, async (redis) => {
      await redis.set(`gru:{${broken}}:state`, "something else");
    });
    const [refused, ...answered] = await ask([broken, ...others]);
    assert.equal(refused?.status, "rejected");
    assert.match(String(refused.reason), /WRONGTYPE/);
    assert.deepEqual(
      answered.map((one) => one.status === "fulfilled" ? one.value[0] : one.reason),
      positions.slice(1, 3),
    );
  },
});
