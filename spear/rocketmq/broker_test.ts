import assert from "node:assert/strict";
import { ServerProcess, taskArguments, waitFor } from "@gru/shared/testing/harness";
import { type RedisServer, startRedis, withRedis } from "@gru/shared/testing/redis";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing/rocketmq";
import { brokerCases } from "../broker/conformance.ts";
import { Collector, gets, newTarget, range, TestNode } from "../broker/testing.ts";
import { brokersOver, topic } from "./testing.ts";

interface Servers extends AsyncDisposable {
  readonly redis: RedisServer;
  readonly rocketmq: RocketmqServer;
  readonly place: { readonly redisPort: number; readonly rocketmqPort: number };
  readonly keys: (pattern: string) => Promise<string[]>;
}

/** A Redis of its own, with the RocketMQ that all have. */
async function withOwnRedis(rocketmq: RocketmqServer): Promise<Servers> {
  const redis = await startRedis();
  return {
    ...{ redis, rocketmq, place: { redisPort: redis.port, rocketmqPort: rocketmq.port } },
    keys: (pattern) => withRedis(redis.port, (it) => it.keys(pattern)),
    [Symbol.asyncDispose]: () => redis[Symbol.asyncDispose](),
  };
}

/** In this order, on one RocketMQ: its start takes long, and the last one kills it. */
const cases: Readonly<Record<string, (servers: Servers, t: Deno.TestContext) => Promise<void>>> = {
  "passes the conformance suite": async ({ rocketmq }, t) => {
    for (const { name, run } of brokerCases) {
      await t.step(name, async () => {
        await using redis = await startRedis();
        const place = { redisPort: redis.port, rocketmqPort: rocketmq.port };
        await using cluster = brokersOver(place);
        const loseData = () => withRedis(redis.port, async (it) => void await it.flushall());
        await run({ ...cluster, loseData });
      });
    }
  },

  "leaves nothing behind of nodes that stop, and gives their slots to others": async (servers) => {
    const identity = "fleeting";
    await using cluster = brokersOver({ ...servers.place, identity });
    {
      await using stays = await TestNode.open(cluster.open);
      const target = newTarget();
      const member = await stays.member(target);
      for (const n of range(5)) {
        await using comes = await TestNode.open(cluster.open);
        const its = [await comes.member(target), await comes.member(newTarget())] as const;
        await comes.publish(target, `a${n}`);
        await stays.publish(target, `b${n}`);
        await gets(its[0], 2);
      }
      await gets(member, 10);
      assert.deepEqual(member.seqs, range(10));
      assert.deepEqual(await servers.keys("gru:{g:*:nodes"), [`gru:{${target}}:nodes`]);
    }
    assert.deepEqual(await servers.keys("gru:{g:*:nodes"), []);
    const left = await withRedis(
      servers.redis.port,
      (redis) => redis.hkeys("gru:{rocketmq}:nodes"),
    );
    assert.deepEqual(left, ["faults"]);
    const groups = await servers.rocketmq.consumerGroups();
    assert.deepEqual(groups.filter((group) => group.startsWith(`${topic}-${identity}`)).sort(), [
      ...[`${topic}-${identity}-lane-0`, `${topic}-${identity}-lane-1`],
    ]);
  },

  "delivers messages that a killed node had stored and not sent, and removes the node": async (
    servers,
  ) => {
    const { redis, rocketmq, keys } = servers;
    await using cluster = brokersOver(servers.place);
    await using a = await TestNode.open(cluster.open);
    const target = newTarget();
    const member = await a.member(target);
    const fixture = new URL("broker_fixture.ts", import.meta.url).pathname;
    // The permissions of a spear: no native functions, and no files except its profiles.
    const permissions = taskArguments("spear").filter((word) => /^--(allow|ignore)-/.test(word));
    await using mortal = new ServerProcess(Deno.execPath(), {
      args: [
        "run",
        "--quiet",
        "--no-prompt",
        ...permissions,
        fixture,
        redis.url,
        rocketmq.address,
        target,
      ],
    });
    await waitFor(() => member.frames.length > 200).catch((error) => {
      throw new Error(`${error.message}: ${mortal.output}`);
    });
    await mortal.kill();
    const killedAt = performance.now();
    const atKill = member.frames.length;
    const [head] = await a.broker.positions([{ target, epoch: "", seq: 0 }]);
    const kept = head?.seq ?? NaN;
    await gets(member, kept);
    const tookMs = Math.round(performance.now() - killedAt);
    assert.deepEqual(member.seqs, range(kept));
    assert.deepEqual(member.lost, []);
    // deno-lint-ignore no-console -- for people; nothing timed decides
    console.log(`killed with ${kept - atKill} messages on their way: all here after ${tookMs} ms`);

    // The slot is free after half a minute; the entry is removed at the next publication.
    const nodes = () => withRedis(redis.port, (it) => it.hkeys("gru:{rocketmq}:nodes"));
    await waitFor(async () => (await nodes()).length === 2, { timeoutMs: 90_000 });
    const entries = () => withRedis(redis.port, (it) => it.hlen(`gru:{${target}}:nodes`));
    await waitFor(async () => {
      await a.publish(target, "after");
      return await entries() === 1;
    });
    assert.deepEqual(await keys("gru:{rocketmq}:mail:*"), []);
  },

  "loses, duplicates and reorders nothing while RocketMQ is killed, restarted and frozen": async (
    servers,
  ) => {
    await using cluster = brokersOver(servers.place);
    await using stack = new AsyncDisposableStack();
    const nodes: TestNode[] = [];
    for (const _ of range(3)) nodes.push(stack.use(await TestNode.open(cluster.open)));
    const targets = range(20).map(() => newTarget());
    const members: { readonly index: number; readonly member: Clocked }[] = [];
    for (const [index, target] of targets.entries()) {
      for (const offset of [0, 1]) {
        const member = new Clocked();
        (await nodes[(index + offset) % 3]?.hub.join(target, member))?.activate();
        members.push({ index, member });
      }
    }

    const rows: string[] = [];
    const accepted = targets.map(() => 0);
    let refused = 0;
    async function phase(name: string, fault: () => Promise<void>): Promise<void> {
      const before = accepted.reduce((sum, count) => sum + count);
      const seen = members.map(({ member }) => member.delaysMs.length);
      let sent = 0;
      const underWay = new Set<Promise<void>>();
      const startedAt = performance.now();
      const sending = setInterval(() => {
        // 600 per second, however late the timer runs.
        while (sent < (performance.now() - startedAt) * 0.6) {
          const index = Math.floor(Math.random() * targets.length);
          const id = `${name} ${++sent}`;
          const body = JSON.stringify({ id, at: performance.now() });
          const target = targets[index] ?? "g:";
          const publishing = nodes[sent % 3]?.broker.publish({ target, id, body }).then(
            () => void (accepted[index] = (accepted[index] ?? 0) + 1),
            () => void refused++,
          ) ?? Promise.resolve();
          underWay.add(publishing);
          publishing.finally(() => underWay.delete(publishing));
        }
      }, 2);
      try {
        await fault();
      } finally {
        clearInterval(sending);
      }
      await Promise.all(underWay);
      const elapsedS = (performance.now() - startedAt) / 1000;
      for (const { index, member } of members) await gets(member, accepted[index] ?? NaN);
      const delays = members.flatMap(({ member }, i) => member.delaysMs.slice(seen[i]))
        .sort((a, b) => a - b);
      const at = (share: number) =>
        `${Math.round(delays[Math.floor((delays.length - 1) * share)] ?? NaN)} ms`.padStart(9);
      const count = accepted.reduce((sum, count) => sum + count) - before;
      rows.push(
        [name.padEnd(26), `${count}`.padStart(8), `${Math.round(count / elapsedS)}/s`.padStart(7)]
          .concat(`${delays.length}`.padStart(9), at(0.5), at(0.99), at(1)).join("  "),
      );
    }
    const seconds = (count: number) => new Promise<void>((go) => setTimeout(go, count * 1000));
    const healed = () =>
      waitFor(() => nodes.every(({ broker }) => (broker as { direct?: boolean }).direct));

    await phase("no fault", () => seconds(4));
    await phase("kill -9, restart after 3 s", async () => {
      await seconds(1);
      await servers.rocketmq.kill();
      await seconds(3);
      await servers.rocketmq.start();
      await healed();
      await seconds(1);
    });
    await phase("frozen for 6 s", async () => {
      await seconds(1);
      servers.rocketmq.freeze();
      await seconds(6);
      servers.rocketmq.thaw();
      await healed();
      await seconds(1);
    });
    await phase("no fault again", () => seconds(4));

    // deno-lint-ignore no-console -- for people; nothing timed decides
    console.log([
      "RocketMQ                    accepted     rate  delivered  p50        p99        longest",
      ...rows,
      `gaps read from history or by comparing: ${
        nodes.map(({ disruptions }) => disruptions)
      } disruptions`,
    ].join("\n"));
    assert.equal(refused, 0);
    for (const { index, member } of members) {
      assert.deepEqual(member.seqs, range(accepted[index] ?? NaN));
      assert.deepEqual(member.lost, []);
    }
  },
};

/** Records when its messages arrived. */
class Clocked extends Collector {
  readonly delaysMs: number[] = [];

  override send(frame: Parameters<Collector["send"]>[0]): void {
    super.send(frame);
    this.delaysMs.push(performance.now() - JSON.parse(frame.text.slice(2))[1].at);
  }
}

rocketmqTest({
  name: "RocketmqBroker over a real RocketMQ",
  needs: ["redis"],
  fn: async (t) => {
    await using rocketmq = await startRocketmq({ topics: [topic] });
    for (const [name, run] of Object.entries(cases)) {
      await t.step(name, async (t) => {
        await using servers = await withOwnRedis(rocketmq);
        await run(servers, t);
      });
    }
  },
});
