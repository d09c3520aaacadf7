import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { assertFlawless, Load, report } from "../broker/testing_load.ts";
import { gets, newTarget, TestNode } from "../broker/testing.ts";
import type { Target } from "../wire.ts";
import { brokersOver } from "./testing.ts";

/** As the README says people run it. */
const appendOnly = "everysec";

/** A server as people run it, and so many nodes. */
async function redisWith<Nodes extends readonly TestNode[]>(count: Nodes["length"]) {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startRedis({ appendOnly }));
  const cluster = stack.use(brokersOver(server.url));
  const nodes: TestNode[] = [];
  for (let i = 0; i < count; i++) nodes.push(stack.use(await TestNode.open(cluster.open)));
  const opened = stack.move();
  return {
    server,
    nodes: nodes as unknown as Nodes,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

serverTest({
  name:
    "a Redis that comes back without its last moments gives no seq twice, and loses nothing that it accepts then",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode, TestNode]>(2);
    const { server, nodes: [one, two] } = scene;
    const [target, unheard, untouched] = [newTarget(), newTarget(), newTarget()];
    const member = await two.member(target);
    const before = await one.publish(untouched, "u1");
    for (const n of [1, 2, 3]) await one.publish(target, `m${n}`);
    const first = await one.publish(unheard, "x1");
    const moment = await server.fileMoment();
    for (const n of [4, 5]) await one.publish(target, `m${n}`);
    const second = await one.publish(unheard, "x2");
    await waitFor(() => member.frames.length === 5);
    assert.equal(second.epoch, first.epoch);

    const restarting = server.losePower(moment);
    await waitFor(() => !one.broker.connected && !two.broker.connected);
    // Both try to be the first.
    const sent = [6, 7, 8].map((n) => (n === 7 ? two : one).publish(target, `m${n}`));
    const again = one.publish(unheard, "x3");
    await restarting;
    await Promise.all(sent);
    await waitFor(() => member.frames.length === 8);
    const given = member.frames.map(({ epoch, seq }) => `${epoch} ${seq}`);
    assert.equal(new Set(given).size, given.length, `given twice: ${given}`);
    assert.deepEqual(member.ids.toSorted(), [1, 2, 3, 4, 5, 6, 7, 8].map((n) => `m${n}`));
    assert.deepEqual(member.lost, []);
    // Its members know of no loss, the node that sent it does.
    assert.notEqual((await again).epoch, first.epoch);
    // Nothing is missing here, and it goes on.
    assert.deepEqual(await one.publish(untouched, "u2"), { ...before, id: "u2", seq: 2 });
  },
});

serverTest({
  name:
    "a node remembers the last seq that it gave, also when it answers an earlier message's repetition afterwards",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode]>(1);
    const { server, nodes: [one] } = scene;
    const target = newTarget();
    const first = await one.publish(target, "m1", "a key");
    const moment = await server.fileMoment();
    const lost = await one.publish(target, "m2");
    assert.deepEqual(await one.publish(target, "m3", "a key"), first);
    await server.losePower(moment);
    const after = await one.publish(target, "m4");
    assert.notEqual(`${after.epoch} ${after.seq}`, `${lost.epoch} ${lost.seq}`);
  },
});

serverTest({
  name: "a node remembers what its members were given, also when all of them have left since",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode]>(1);
    const { server, nodes: [one] } = scene;
    const target = newTarget();
    const member = await one.member(target);
    const { epoch } = await one.publish(target, "m1");
    const moment = await server.fileMoment();
    // Published by a node that never got the answer.
    await withRedis(server.port, async (redis) => {
      const seq = await redis.hincrby(`gru:{${target}}:state`, "seq", 1);
      await redis.publish(`gru:{${target}}`, `${epoch} ${seq} {"id":"m2"}`);
    });
    await waitFor(() => member.frames.length === 2);
    one.hub.leave(target, member);
    await server.losePower(moment);
    const after = await one.publish(target, "m3");
    assert.notEqual(`${after.epoch} ${after.seq}`, `${epoch} 2`);
  },
});

serverTest({
  name:
    "what an epoch had last, and no node got, reaches the members although several nodes begin another one",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode, TestNode, TestNode]>(3);
    const { server, nodes } = scene;
    const [one] = nodes;
    const target = newTarget();
    const members = await Promise.all(nodes.map((node) => node.member(target)));
    const moment = await server.fileMoment();
    for (const node of nodes) await node.publish(target, "m1");
    for (const member of members) await gets(member, 3);
    await server.losePower(moment);
    // All remember the epoch before this one, and cannot tell whether the server is back in one that went further.
    await one.publish(target, "m2");
    await waitFor(() => members.every(({ ids }) => ids.includes("m2")));
    // Counted and kept; the server is killed before it has sent it out.
    await withRedis(server.port, async (redis) => {
      const key = `gru:{${target}}`;
      const seq = await redis.hincrby(`${key}:state`, "seq", 1);
      const gen = await redis.hget(`${key}:state`, "gen");
      await redis.xadd(
        ...[`${key}:log`, `${gen}-${seq}`, "i", "m3", "b", '{"id":"m3"}'] as const,
        ...["t", Date.now(), "e", 100],
      );
    });
    await server.kill();
    await server.start();
    await waitFor(() => members.every(({ ids }) => ids.includes("m3")));
    await one.publish(target, "m4");
    await waitFor(() => members.every(({ ids }) => ids.includes("m4")));
    for (const { ids, lost } of members) {
      assert.deepEqual(ids, ["m1", "m1", "m1", "m2", "m3", "m4"]);
      assert.deepEqual(lost, []);
    }
  },
});

serverTest({
  name:
    "what was accepted in two epochs, while a node in an empty one was cut off, reaches its members",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode]>(1);
    const { server, nodes: [other] } = scene;
    await using proxy = new FaultyProxy({ port: server.port });
    await using cluster = brokersOver(`redis://127.0.0.1:${proxy.port}`);
    await using node = await TestNode.open(cluster.open);
    const [before, empty] = [newTarget(), newTarget()];
    await other.publish(before, "old");
    const members = [await node.member(before), await node.member(empty)];
    const countsElsewhere = (target: Target) =>
      withRedis(server.port, (redis) => redis.hset(`gru:{${target}}:state`, "home", "elsewhere"));
    // The node finds the one in an epoch that has no messages yet, and what was before it is not for its members.
    await countsElsewhere(before);
    const [begun] = await node.broker.positions([{ target: before, epoch: "", seq: 0 }]);
    node.hub.disrupted();
    await waitFor(() => [...node.hub.seen()].some(({ epoch }) => epoch === begun?.epoch));
    proxy.refuse();
    proxy.cut();
    await waitFor(() => !node.broker.connected);
    for (const target of [before, empty]) {
      for (const id of ["m1", "m2"]) {
        await countsElsewhere(target);
        await other.publish(target, id);
      }
    }
    proxy.pass();
    for (const member of members) {
      await gets(member, 2);
      assert.deepEqual(member.ids, ["m1", "m2"]);
    }
  },
});

serverTest({
  name: "a Redis that is killed goes on with all epochs, also with appendfsync everysec",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode, TestNode]>(2);
    const { server, nodes: [one, two] } = scene;
    using load = await Load.start([one, two]);
    for (let i = 0; i < 2; i++) {
      await load.goesOn();
      await load.pause();
      await server.written();
      await server.kill();
      load.resume();
      await server.start();
    }
    await load.goesOn();
    const outcome = await load.finish();
    report("killed with everysec", outcome);
    assertFlawless(outcome);
    assert.equal(outcome.newEpochs, 0);
  },
});

serverTest({
  name:
    "a Redis that loses its tail together with a node begins new epochs, for nobody else knows what that node had seen",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode]>(1);
    const { server, nodes: [one] } = scene;
    const target = newTarget();
    const before = await one.publish(target, "m1");
    // A node that was there a moment ago, and is not any more.
    await withRedis(server.port, async (redis) => {
      const [seconds, micros] = await redis.time();
      const now = Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
      await redis.hset("gru:incarnation:one:{one}", "b:gone", now);
    });
    await server.written();
    await server.kill();
    await server.start();
    const after = await one.publish(target, "m2");
    assert.notEqual(after.epoch, before.epoch);
    // It has been judged: the next one goes on.
    assert.deepEqual(await one.publish(target, "m3"), { ...after, id: "m3", seq: 2 });
  },
});

serverTest({
  name: "a Redis that comes back as it was long ago begins new epochs",
  needs: "redis",
  fn: async () => {
    await using scene = await redisWith<[TestNode]>(1);
    const { server, nodes: [one] } = scene;
    const target = newTarget();
    const before = await one.publish(target, "m1");
    await withRedis(server.port, async (redis) => {
      const beats = Object.entries(await redis.hgetall("gru:incarnation:one:{one}"))
        .filter(([field]) => field.startsWith("b:"));
      for (const [field, at] of beats) {
        await redis.hset("gru:incarnation:one:{one}", field, Number(at) - 60_000);
      }
    });
    await server.written();
    await server.kill();
    await server.start();
    assert.notEqual((await one.publish(target, "m2")).epoch, before.epoch);
  },
});
