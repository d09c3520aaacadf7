import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { type RedisServer, startRedis, withRedis } from "@gru/shared/testing/redis";
import { InDoubtError, NotAcceptedError } from "../broker/broker.ts";
import { assertFlawless, Load, report } from "../broker/testing_load.ts";
import {
  type BrokerOptions,
  defaults,
  gets,
  newTarget,
  range,
  TestNode,
} from "../broker/testing.ts";
import { brokersOver, CountingProxy } from "./testing.ts";

interface Scene {
  readonly server: RedisServer;
  /** The second node's way to the server. */
  readonly proxy: FaultyProxy;
  readonly load: Load;
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Two nodes under load, one of them through a proxy. */
function faultTest(
  name: string,
  cause: (scene: Scene) => Promise<void>,
  options: Partial<BrokerOptions> = {},
): void {
  serverTest({
    name: `RedisBroker loses and doubles nothing when ${name}`,
    needs: "redis",
    fn: async () => {
      await using server = await startRedis({ appendOnly: true });
      await using proxy = new FaultyProxy({ port: server.port });
      await using direct = brokersOver(server.url);
      await using proxied = brokersOver(`redis://${proxy.address}`);
      let opened = 0;
      const open: typeof direct.open = (sink, settings) =>
        (opened++ === 0 ? direct : proxied).open(sink, { ...settings, ...options });
      await using a = await TestNode.open(open);
      await using b = await TestNode.open(open);
      using load = await Load.start([a, b]);
      await load.goesOn();
      await cause({ server, proxy, load });
      await load.goesOn();
      const outcome = await load.finish();
      report(name, outcome);
      assertFlawless(outcome);
      assert.equal(outcome.newEpochs, 0);
    },
  });
}

faultTest("its server is killed and comes back with its append-only file", async ({ server }) => {
  await server.kill();
  await pause(500);
  await server.start();
});

faultTest("its server is killed three times", async ({ server, load }) => {
  for (let i = 0; i < 3; i++) {
    await server.kill();
    await server.start();
    await load.goesOn(50);
  }
});

faultTest("its server is frozen for five seconds", async ({ server }) => {
  server.freeze();
  await pause(5000);
  server.thaw();
});

faultTest(
  "its server is frozen for a second, too short for anybody to notice",
  async ({ server }) => {
    server.freeze();
    await pause(1000);
    server.thaw();
  },
);

faultTest("its connections are cut again and again", async ({ proxy, load }) => {
  for (let i = 0; i < 20; i++) {
    proxy.cut();
    await load.goesOn(30);
  }
});

faultTest("its connections end in the middle of answers", async ({ proxy, load }) => {
  for (let i = 0; i < 10; i++) {
    proxy.truncateAfter(200 + 37 * i);
    await waitFor(() => proxy.cutDone);
    await load.goesOn(30);
  }
});

faultTest(
  "publications are done and the connection breaks in place of the answers",
  async ({ proxy, load }) => {
    for (let i = 0; i < 10; i++) {
      proxy.cutAnswerTo((request) => new TextDecoder().decode(request).includes("PUBLISH"));
      await waitFor(() => proxy.cutDone);
      await load.goesOn(30);
    }
  },
);

faultTest(
  "the network holds everything back for five seconds and then delivers it",
  async ({ proxy }) => {
    proxy.freeze();
    await pause(5000);
    proxy.pass();
  },
);

faultTest("the network swallows everything for four seconds", async ({ proxy }) => {
  proxy.swallow();
  await pause(4000);
  proxy.pass();
});

faultTest("somebody flushes the server's scripts", async ({ server, load }) => {
  for (let i = 0; i < 5; i++) {
    await withRedis(server.port, (redis) => redis.script("FLUSH"));
    await load.goesOn(50);
  }
});

faultTest("somebody kills all connections of clients", async ({ server, load }) => {
  for (let i = 0; i < 5; i++) {
    for (const type of ["normal", "pubsub"]) {
      await withRedis(server.port, (redis) => redis.call("CLIENT", "KILL", "TYPE", type)).catch(
        () => {},
      );
    }
    await load.goesOn(50);
  }
});

faultTest("only the subscribers' connections break", async ({ server, load }) => {
  for (let i = 0; i < 20; i++) {
    await withRedis(server.port, (redis) => redis.call("CLIENT", "KILL", "TYPE", "pubsub"));
    await load.goesOn(30);
  }
});

faultTest("its server is away for longer than a publication may take", async ({ server }) => {
  await server.kill();
  await pause(2000);
  await server.start();
}, { publishMs: 500 });

faultTest("its server is frozen for longer than a publication may take", async ({ server }) => {
  server.freeze();
  await pause(4500);
  server.thaw();
}, { publishMs: 500 });

serverTest({
  name: "RedisBroker says in time that it cannot publish, and never does so later",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis({ appendOnly: true });
    await using cluster = brokersOver(server.url);
    const publishMs = 400;
    await using node = await TestNode.open(cluster.open, { publishMs });
    const target = newTarget();
    const member = await node.member(target);
    await server.kill();
    await waitFor(() => !node.broker.connected);
    const startedAt = performance.now();
    for (const promise of [node.publish(target, "never"), node.publish(target, "never", "key")]) {
      await assert.rejects(promise, NotAcceptedError);
    }
    const tookMs = performance.now() - startedAt;
    assert.ok(tookMs >= publishMs - 20, `refused after ${tookMs} ms`);
    await assert.rejects(node.broker.listen(newTarget()), NotAcceptedError);
    await assert.rejects(node.broker.history(target, { epoch: "", seq: 0 }), NotAcceptedError);
    await assert.rejects(node.hub.join(newTarget(), member), NotAcceptedError);
    await server.start();
    await waitFor(() => node.broker.connected);
    assert.equal((await node.publish(target, "after")).seq, 1);
    await waitFor(() => member.frames.length > 0);
    assert.deepEqual(member.ids, ["after"]);
  },
});

serverTest({
  name: "RedisBroker is in doubt only about what it has sent, and does not send it again",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis({ appendOnly: true });
    await using cluster = brokersOver(server.url);
    await using node = await TestNode.open(cluster.open, { publishMs: 400 });
    const target = newTarget();
    const member = await node.member(target);
    server.freeze();
    const sent = node.publish(target, "sent");
    await assert.rejects(sent, InDoubtError);
    await waitFor(() => !node.broker.connected);
    await assert.rejects(node.publish(target, "not sent"), NotAcceptedError);
    server.thaw();
    await waitFor(() => node.broker.connected);
    await node.publish(target, "after");
    await waitFor(() => member.ids.includes("after"));
    // The server had received it before; whether it looks at that is its affair.
    assert.deepEqual(member.ids.filter((id) => id !== "sent"), ["after"]);
    assert.ok(member.ids.filter((id) => id === "sent").length <= 1);
    assert.deepEqual(member.ids, member.ids.toSorted().reverse());
  },
});

serverTest({
  name: "RedisBroker doubles nothing when a command arrives after its repetition, however late",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis({ appendOnly: true });
    await using proxy = new CountingProxy(server.port);
    await using cluster = brokersOver(`redis://127.0.0.1:${proxy.port}`);
    await using node = await TestNode.open(cluster.open, {
      history: { ...defaults.history, size: 5 },
    });
    const target = newTarget();
    const member = await node.member(target);
    await node.publish(target, "first");
    const held = proxy.holdNext("PUBLISH");
    const repeated = await Promise.all([node.publish(target, "a"), node.publish(target, "b")]);
    assert.ok(held.sprung());
    assert.deepEqual(repeated.map(({ id, seq }) => ({ id, seq })), [
      { id: "a", seq: 2 },
      { id: "b", seq: 3 },
    ]);
    // Until the log has forgotten them.
    for (let i = 0; i < 150; i++) await node.publish(target, `later${i}`);
    assert.match(await held.deliver(), /^-OVERTAKEN/);
    await node.publish(target, "last");
    await gets(member, 154);
    assert.deepEqual(member.seqs, range(154));
    assert.equal(new Set(member.ids).size, 154);
  },
});
