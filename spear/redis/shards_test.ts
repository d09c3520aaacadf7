import assert from "node:assert/strict";
import { parseRedisAddress } from "@gru/shared/redis/address";
import { moveShards } from "@gru/shared/redis/move_shards";
import { loadConfig } from "@gru/shared/config";
import { logger } from "@gru/shared/log";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { type RedisServer, startRedis, withRedis } from "@gru/shared/testing/redis";
import { brokerCases } from "../broker/conformance.ts";
import { assertFlawless, Load, report } from "../broker/testing_load.ts";
import { Collector, gets, newTarget, range, TestNode } from "../broker/testing.ts";
import type { Target } from "../wire.ts";
import { pause } from "@gru/shared/pause";
import { ShardRing } from "@gru/shared/redis/shard_list";
import { spearSchema } from "../config.ts";
import { RedisBroker } from "./broker.ts";
import { brokersOver, CountingProxy } from "./testing.ts";

const log = logger("shards");

function shardsTest(
  name: string,
  fn: (servers: Servers) => Promise<void>,
) {
  serverTest({
    name: `RedisBroker over several Redis: ${name}`,
    needs: "redis",
    fn: async () => {
      await using stack = new AsyncDisposableStack();
      const servers = await Promise.all(
        range(3).map(async () => stack.use(await startRedis({ appendOnly: "everysec" }))),
      );
      await fn(servers as [RedisServer, RedisServer, RedisServer]);
    },
  });
}
type Servers = readonly [RedisServer, RedisServer, RedisServer];

function urlOf(...servers: readonly RedisServer[]): string {
  return `shards:${servers.map(({ port }) => `127.0.0.1:${port}`)}`;
}

function nodesOf(url: string) {
  const address = parseRedisAddress(url);
  assert.equal(address.kind, "shards");
  return "nodes" in address ? address.nodes : [];
}

function move(from: readonly RedisServer[], to: readonly RedisServer[], lost: string[] = []) {
  return moveShards({ seeds: nodesOf(urlOf(...from)), next: nodesOf(urlOf(...to)), lost, log });
}

async function has(server: RedisServer, target: Target): Promise<boolean> {
  return await withRedis(server.port, (redis) => redis.exists(`gru:{${target}}:state`)) === 1;
}

serverTest({
  name: "RedisBroker over several Redis",
  needs: "redis",
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const servers = await Promise.all(range(3).map(async () => stack.use(await startRedis())));
    const loseData = async () => {
      for (const { port } of servers) {
        await withRedis(port, (redis) => redis.flushall());
      }
    };
    for (const { name, needs, run } of brokerCases) {
      if (needs === "received") continue;
      await t.step(name, async () => {
        await using cluster = brokersOver(urlOf(...servers), { loseData });
        await run(cluster);
      });
    }
  },
});

shardsTest("what is counted in each lies there, and about a third in each", async (servers) => {
  await using cluster = brokersOver(urlOf(...servers));
  await using node = await TestNode.open(cluster.open);
  const targets = range(300).map(newTarget);
  await Promise.all(targets.map((target) => node.publish(target, "m")));
  const counts = await Promise.all(servers.map(async (server) => {
    const there = await Promise.all(targets.map((target) => has(server, target)));
    return there.filter(Boolean).length;
  }));
  assert.equal(counts.reduce((sum, count) => sum + count), 300);
  for (const count of counts) assert.ok(count > 50 && count < 150, `${counts}`);
});

shardsTest("nothing is lost, doubled or inverted while shards come and go", async (servers) => {
  const [a, b, c] = servers;
  await using cluster = brokersOver(urlOf(a, b));
  await using one = await TestNode.open(cluster.open);
  await using other = await TestNode.open(cluster.open);
  using load = await Load.start([one, other], { targets: 30 });
  await load.goesOn();
  for (const [from, to] of [[[a, b], [a, b, c]], [[a, b, c], [b, c]], [[c], [a, c]]] as const) {
    const { keys } = await move(from, to);
    assert.ok(keys > 0);
    await load.goesOn();
    const gone = servers.filter((server) => !(to as readonly RedisServer[]).includes(server));
    for (const server of gone) {
      for (const target of load.targets) assert.equal(await has(server, target), false);
    }
  }
  const outcome = await load.finish();
  report("shards come and go", outcome);
  assertFlawless(outcome);
});

shardsTest("what was missed before a move is read after it", async ([a, b, c]) => {
  await using cluster = brokersOver(urlOf(a, b));
  await using node = await TestNode.open(cluster.open);
  const targets = range(40).map(newTarget);
  const first = new Map<Target, { epoch: string; seq: number }>();
  for (const target of targets) {
    first.set(target, await node.publish(target, "m1"));
    await node.publish(target, "m2");
  }
  await move([a, b], [a, b, c]);
  for (const target of targets) await node.publish(target, "m3");
  let moved = 0;
  for (const target of targets) {
    if (await has(c, target)) moved++;
    const member: Collector = await node.member(target, first.get(target));
    await waitFor(() => member.ids.length >= 2);
    assert.deepEqual(member.ids, ["m2", "m3"]);
  }
  assert.ok(moved > 0 && moved < targets.length);
});

shardsTest("a target that comes back to a shard does not find its old epoch", async ([a, b, c]) => {
  await using cluster = brokersOver(urlOf(a, b));
  await using node = await TestNode.open(cluster.open);
  const targets = range(40).map(newTarget);
  const old = new Map<Target, { epoch: string; seq: number }>();
  for (const target of targets) old.set(target, await node.publish(target, "m1"));
  const here: Target[] = [];
  for (const target of targets) if (await has(b, target)) here.push(target);
  assert.ok(here.length > 0);
  // It is gone with all that it had: and comes back with it.
  await b.kill();
  const lost = [`127.0.0.1:${b.port}`];
  await move([a], [a, c], lost);
  for (const target of here) await node.publish(target, "m2");
  await b.start();
  await move([a], [a, b]);
  for (const target of here) {
    const { epoch } = await node.publish(target, "m3");
    assert.notEqual(epoch, old.get(target)?.epoch);
    const join = await node.hub.join(target, new Collector(), old.get(target));
    // What was sent without it, by way of the other shard, is missing.
    assert.equal(join.recovered, false);
    join.activate();
  }
});

shardsTest(
  "a request that was under way when its target moved is counted once, where the target is",
  async (servers) => {
    await using stack = new AsyncDisposableStack();
    const ways = servers.map(({ port }) => stack.use(new CountingProxy(port)));
    const [before, after] = [2, 3].map((count) =>
      ways.slice(0, count).map(({ port }) => `127.0.0.1:${port}`)
    );
    assert.ok(before && after);
    const [from, to] = [before, after].map((addresses) => new ShardRing(addresses));
    const target = range(1000).map(newTarget).find((target) =>
      to?.ownerOf(target) === after[2] && from?.ownerOf(target) === before[0]
    );
    assert.ok(target);
    const [seeds, next] = [before, after].map((addresses) => nodesOf(`shards:${addresses}`));
    await using cluster = brokersOver(`shards:${before}`);
    await using node = await TestNode.open(cluster.open);
    const member = await node.member(target);
    await node.publish(target, "m1");
    const held = ways[0]!.holdNext("under way");
    const published = node.publish(target, "under way");
    await waitFor(() => held.sprung());
    await moveShards({ seeds: seeds!, next: next!, log });
    await published;
    // The server has ended the connection.
    await Promise.race([held.deliver().catch(() => ""), pause(300)]);
    assert.equal(await has(servers[0]!, target), false);
    await node.publish(target, "m3");
    await gets(member, 3);
    assert.deepEqual(member.ids, ["m1", "under way", "m3"]);
  },
);

shardsTest("a move that is killed holds the shards until it is done again", async ([a, b, c]) => {
  await using cluster = brokersOver(urlOf(a, b));
  await using node = await TestNode.open(cluster.open);
  using load = await Load.start([node, node], { targets: 30 });
  await load.goesOn();
  // So that there is something to interrupt.
  for (const { port } of [a, b]) {
    await withRedis(port, (redis) =>
      redis.eval(
        "for i = 1, 60000 do redis.call('SET', 'gru:{g:' .. i .. '}:state', string.rep('x', 100)) end",
        0,
      ));
  }
  const command = () =>
    new Deno.Command(Deno.execPath(), {
      args: [
        ...["run", "--no-check", "--no-prompt", "--allow-net", "--allow-env"],
        ...[new URL("../shards.ts", import.meta.url).pathname, urlOf(a, b), urlOf(a, b, c)],
      ],
      stdout: "piped",
      stderr: "piped",
    });
  const some = () => withRedis(c.port, (redis) => redis.dbsize());
  await using killed = command().spawn();
  await waitFor(async () => await some() > 5000);
  killed.kill("SIGKILL");
  const { success } = await killed.output();
  assert.equal(success, false);
  assert.ok(await withRedis(a.port, (redis) => redis.hexists("gru:{shards}", "next")) === 1);
  assert.equal(node.broker instanceof RedisBroker && node.broker.connected, false);
  const done = await command().output();
  assert.match(new TextDecoder().decode(done.stdout), /^the shards are .* keys have moved$/m);
  await load.goesOn();
  const outcome = await load.finish();
  report("a move of shards is killed and done again", outcome);
  assertFlawless(outcome);
  const counts = await Promise.all(
    [a, b, c].map(({ port }) => withRedis(port, (redis) => redis.dbsize())),
  );
  assert.ok(counts.reduce((sum, count) => sum + count) >= 60_000);
  assert.ok(Math.min(...counts) > 10_000);
});

shardsTest("one that is away holds up its own targets only", async ([a, b, c]) => {
  await using cluster = brokersOver(urlOf(a, b, c));
  await using node = await TestNode.open(cluster.open);
  const targets = range(60).map(newTarget);
  const members = new Map<Target, Collector>();
  for (const target of targets) {
    members.set(target, await node.member(target));
    await node.publish(target, "m1");
  }
  const there = new Set<Target>();
  for (const target of targets) if (await has(b, target)) there.add(target);
  await b.kill();
  const others = targets.filter((target) => !there.has(target));
  for (const target of others) await node.publish(target, "m2");
  for (const target of others) await gets(members.get(target)!, 2);
  const waiting = [...there].map((target) => node.publish(target, "m2"));
  assert.ok("proveWritable" in node.broker);
  await (node.broker as unknown as { proveWritable(): Promise<void> }).proveWritable();
  // A node that starts meanwhile knows the shards from most of them.
  await using another = await TestNode.open(cluster.open);
  await another.publish(others[0]!, "m3");
  await gets(members.get(others[0]!)!, 3);
  await b.start();
  await Promise.all(waiting);
  for (const target of there) await gets(members.get(target)!, 2);
});

shardsTest(
  "a node goes by what the shards say, and uses none that says anything else",
  async (servers) => {
    const [a, b, c] = servers;
    await using cluster = brokersOver(urlOf(a, b));
    await using node = await TestNode.open(cluster.open);
    const told = () => withRedis(b.port, (redis) => redis.exists("gru:{shards}"));
    await waitFor(async () => await told() === 1);
    // The profile of one that starts later has another list.
    await using stale = brokersOver(urlOf(b, c));
    await using second = await TestNode.open(stale.open);
    const targets = range(30).map(newTarget);
    for (const target of targets) {
      const member = await second.member(target);
      await node.publish(target, "m1");
      await gets(member, 1);
      assert.equal(await has(c, target), false);
    }
    await using foreign = brokersOver(urlOf(c));
    await using lone = await TestNode.open(foreign.open);
    await lone.publish(newTarget(), "m1");
    await assert.rejects(
      move([a, b], [a, b, c]),
      /is one of other shards, 127.0.0.1:\d+\. If these are no more/,
    );
    await assert.rejects(
      moveShards({ seeds: nodesOf("shards:127.0.0.1:1"), next: nodesOf(urlOf(a)), log }),
      /127.0.0.1:1 cannot be reached .*ECONNREFUSED.*--lost 127.0.0.1:1/,
    );
    await assert.rejects(
      move([a], [a, b], [`127.0.0.1:${b.port}`]),
      /127.0.0.1:\d+ is named as lost, and as one of those that are to be/,
    );
  },
);

shardsTest("a user without the rights to move keys holds nothing up", async ([a, b, c]) => {
  await using cluster = brokersOver(urlOf(a, b));
  await using node = await TestNode.open(cluster.open);
  for (const { port } of [a, b, c]) {
    await withRedis(
      port,
      (redis) => redis.acl("SETUSER", "weak", "on", ">secret", "~*", "&*", "+@all", "-restore"),
    );
  }
  const next = nodesOf(urlOf(a, b, c));
  await assert.rejects(
    moveShards({ seeds: nodesOf(urlOf(a)), next, username: "weak", password: "secret", log }),
    /keys cannot be moved from 127.0.0.1:\d+ to 127.0.0.1:\d+: NOPERM .*restore/,
  );
  assert.equal((await node.publish(newTarget(), "m1")).seq, 1);
});

Deno.test("mode rocketmq refuses several Redis and names the key", () => {
  const load = (mode: string) =>
    loadConfig({
      ...{ program: "spear", schema: spearSchema, environment: () => undefined },
      profiles: new URL("../profiles/", import.meta.url),
      args: ["--profile", "dev", "--mode", mode, "--redis", "shards:a:1,b:2"],
    });
  assert.throws(() => load("rocketmq"), / redis: .*mode rocketmq takes .* got shards:a:1,b:2/);
  assert.equal(load("redis").redis, "shards:a:1,b:2");
});
