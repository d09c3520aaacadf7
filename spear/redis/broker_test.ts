import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { brokerCases } from "../broker/conformance.ts";
import { defaults, gets, newTarget, range, TestNode } from "../broker/testing.ts";
import { brokersOver, CountingProxy } from "./testing.ts";

for (const { name, run } of brokerCases) {
  serverTest({
    name: `RedisBroker: ${name}`,
    needs: "redis",
    fn: async () => {
      await using server = await startRedis();
      const { port, url } = server;
      await using cluster = brokersOver(url, {
        through: () => new CountingProxy(port),
        loseData: () => withRedis(port, async (redis) => void await redis.flushall()),
      });
      await run(cluster);
    },
  });
}

serverTest({
  name: "RedisBroker leaves nothing in Redis of targets that nobody uses any more",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using cluster = brokersOver(server.url);
    await using node = await TestNode.open(cluster.open, {
      history: { ...defaults.history, size: 10, ageMs: 1000 },
      publishMs: 500,
    });
    const keys = () => withRedis(server.port, (redis) => redis.keys("*"));
    const heard = newTarget();
    const member = await node.member(heard);
    for (const n of range(30)) await node.publish(newTarget(), `m${n}`, `key${n}`);
    await node.publish(heard, "m", "key");
    assert.ok((await keys()).length > 90);
    // What somebody listens to keeps its position, and nothing else.
    await waitFor(async () => (await keys()).join() === `gru:{${heard}}:state`);
    assert.equal((await node.publish(heard, "m2")).seq, 2);
    await gets(member, 2);
    node.hub.leave(heard, member);
    await waitFor(async () => (await keys()).length === 0);
    const channels = await withRedis(server.port, (redis) => redis.call("PUBSUB", "CHANNELS"));
    assert.deepEqual(channels, []);
  },
});

serverTest({
  name:
    "RedisBroker subscribes to thousands of targets again when its connection breaks, and to none it has left",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using cluster = brokersOver(server.url);
    await using node = await TestNode.open(cluster.open);
    const targets = range(3000).map(newTarget);
    const members = await Promise.all(targets.map((target) => node.member(target)));
    const subscribed = async () =>
      (await withRedis(server.port, (redis) => redis.call("PUBSUB", "CHANNELS")) as string[])
        .length;
    assert.equal(await subscribed(), 3000);
    await withRedis(server.port, (redis) => redis.call("CLIENT", "KILL", "TYPE", "pubsub"));
    // Some while the connection is away, some while it is being prepared.
    targets.slice(0, 1000).forEach((target, i) => node.hub.leave(target, members[i]!));
    await waitFor(() => node.broker.connected);
    targets.slice(1000, 2000).forEach((target, i) => node.hub.leave(target, members[1000 + i]!));
    await waitFor(async () => await subscribed() === 1000 && node.disruptions > 0);
    await Promise.all(targets.map((target, i) => node.publish(target, `m${i}`)));
    for (const [i, member] of members.entries()) {
      if (i >= 2000) await gets(member, 1);
    }
    assert.equal(node.arrivals.length, 1000);
  },
});

serverTest({
  name: "RedisBroker refuses what Redis refuses, and says why",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using cluster = brokersOver(server.url);
    await using node = await TestNode.open(cluster.open);
    const target = newTarget();
    await withRedis(server.port, (redis) => redis.set(`gru:{${target}}:state`, "a string"));
    const refusal = { name: "NotAcceptedError", message: /^Redis refused: WRONGTYPE/ };
    await assert.rejects(node.publish(target, "m1"), refusal);
    await assert.rejects(node.broker.listen(target), refusal);
    await assert.rejects(
      node.hub.join(target, { send() {}, missed() {}, frames: [] } as never),
      refusal,
    );
    const channels = await withRedis(server.port, (redis) => redis.call("PUBSUB", "CHANNELS"));
    assert.deepEqual(channels, []);
  },
});

serverTest({
  name: "RedisBrokers of clusters in different databases of one Redis do not hear each other",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    const urls = [server.url, `${server.url}/1`, `${server.url}/2`];
    await using stack = new AsyncDisposableStack();
    const target = newTarget();
    const nodes = [];
    for (const url of urls) {
      const cluster = stack.use(brokersOver(url));
      const nodesOfOne = [
        stack.use(await TestNode.open(cluster.open)),
        stack.use(await TestNode.open(cluster.open)),
      ] as const;
      nodes.push({ nodes: nodesOfOne, member: await nodesOfOne[1].member(target) });
    }
    for (const [i, { nodes: [sender] }] of nodes.entries()) {
      for (let n = 1; n <= 5; n++) await sender.publish(target, `${i} ${n}`);
    }
    for (const [i, { nodes: [, receiver], member }] of nodes.entries()) {
      await gets(member, 5);
      assert.ok(member.ids.every((id) => id.startsWith(`${i} `)));
      assert.equal(receiver.arrivals.length, 5);
    }
  },
});
