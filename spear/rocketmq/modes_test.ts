import assert from "node:assert/strict";
import { startRedis } from "@gru/shared/testing/redis";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing/rocketmq";
import { type Collector, gets, newTarget, range, TestNode } from "../broker/testing.ts";
import { brokersOver as redisBrokers } from "../redis/testing.ts";
import { brokersOver, topic } from "./testing.ts";

/** On one RocketMQ, whose start takes long. */
const cases: Readonly<Record<string, (rocketmq: RocketmqServer) => Promise<void>>> = {
  "nodes in mode redis and in mode rocketmq hear each other, and nodes go from one mode to the other under load: nothing is lost, doubled or inverted":
    async (rocketmq) => {
      await using stack = new AsyncDisposableStack();
      const redis = stack.use(await startRedis());
      const modes = {
        redis: stack.use(redisBrokers(redis.url)),
        rocketmq: stack.use(brokersOver({ redisPort: redis.port, rocketmqPort: rocketmq.port })),
      };
      const targets = range(10).map(() => newTarget());
      const accepted = new Map(targets.map((target) => [target, 0]));
      const members: {
        readonly member: Collector;
        readonly target: ReturnType<typeof newTarget>;
      }[] = [];
      const open = async (mode: keyof typeof modes) => {
        const node = await TestNode.open(modes[mode].open);
        for (const target of targets) members.push({ member: await node.member(target), target });
        return node;
      };
      const nodes = [await open("redis"), await open("redis"), await open("redis")];
      const underWay = new Set<Promise<void>>();
      let sent = 0;
      const sending = setInterval(() => {
        for (const node of nodes) {
          const target = targets[sent % targets.length] ?? "g:";
          const publishing = node.publish(target, `m${++sent}`).then(() => {
            accepted.set(target, (accepted.get(target) ?? 0) + 1);
          });
          underWay.add(publishing);
          publishing.finally(() => underWay.delete(publishing)).catch(() => {});
        }
      }, 5);
      const replaced: TestNode[] = [];
      try {
        for (const mode of ["rocketmq", "redis"] as const) {
          for (const i of [0, 1, 2]) {
            const [node] = nodes.splice(i, 1, await open(mode));
            if (node !== undefined) replaced.push(node);
            await new Promise((resolve) => setTimeout(resolve, 300));
          }
        }
      } finally {
        clearInterval(sending);
      }
      await Promise.all(underWay);
      // Also those that were replaced have stayed members until now: three modes of them side by side.
      for (const { member, target } of members) {
        const last = accepted.get(target) ?? NaN;
        const first = member.seqs[0] ?? last;
        await gets(member, last - first + 1);
        assert.deepEqual(member.seqs, range(last, first));
        assert.deepEqual(member.lost, []);
      }
      assert.ok(sent > 300, `${sent} were sent`);
      for (const node of [...nodes, ...replaced]) await node[Symbol.asyncDispose]();
    },

  "two clusters on one RocketMQ, one topic and one Redis get all of their own and nothing else":
    async (rocketmq) => {
      await using stack = new AsyncDisposableStack();
      const redis = stack.use(await startRedis());
      const place = { redisPort: redis.port, rocketmqPort: rocketmq.port };
      const target = newTarget();
      const clusters = [];
      for (const database of [0, 1]) {
        const identity = `cluster${database}`;
        const cluster = stack.use(brokersOver({ ...place, database, identity }));
        const nodes = [
          stack.use(await TestNode.open(cluster.open)),
          stack.use(await TestNode.open(cluster.open)),
        ] as const;
        clusters.push({
          identity,
          nodes,
          members: [await nodes[0].member(target), await nodes[1].member(target)],
        });
      }
      const startedAt = performance.now();
      for (const n of range(300)) {
        await Promise.all(
          clusters.map(({ identity, nodes }) =>
            nodes[n % 2 ? 0 : 1].publish(target, `${identity}-${n}`)
          ),
        );
      }
      for (const { identity, members } of clusters) {
        for (const member of members) {
          await gets(member, 300);
          assert.deepEqual(member.ids, range(300).map((n) => `${identity}-${n}`));
          assert.deepEqual(member.lost, []);
        }
      }
      // deno-lint-ignore no-console -- for people; nothing timed decides
      console.log(
        `2 × 300 messages to 2 × 2 members in ${Math.round(performance.now() - startedAt)} ms`,
      );
    },

  "an ephemeral message comes once to nodes in mode redis and in mode rocketmq": async (
    rocketmq,
  ) => {
    await using stack = new AsyncDisposableStack();
    const redis = stack.use(await startRedis());
    const place = { redisPort: redis.port, rocketmqPort: rocketmq.port };
    const target = newTarget();
    const nodes = [
      stack.use(await TestNode.open(stack.use(redisBrokers(redis.url)).open)),
      stack.use(await TestNode.open(stack.use(brokersOver(place)).open)),
    ];
    const members = await Promise.all(nodes.map((node) => node.member(target)));
    for (const [i, node] of nodes.entries()) {
      await node.publish(target, `passing${i}`, undefined, { ephemeral: true });
      await node.publish(target, `counted${i}`);
    }
    for (const member of members) {
      await gets(member, 4);
      assert.deepEqual([...member.ids].sort(), ["counted0", "counted1", "passing0", "passing1"]);
      assert.deepEqual(member.seqs.filter((seq) => seq > 0), [1, 2]);
      assert.deepEqual(member.lost, []);
    }
  },
};

rocketmqTest({
  name: "modes and clusters beside each other",
  needs: ["redis"],
  fn: async (t) => {
    await using rocketmq = await startRocketmq({ topics: [topic] });
    for (const [name, run] of Object.entries(cases)) await t.step(name, () => run(rocketmq));
  },
});
