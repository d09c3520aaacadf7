/** Actions that are repeated for ever leave no listener and no node behind. */
import assert from "node:assert/strict";
import { EventEmitter } from "node:events";
import { recordOrderlyStop } from "../registry/orderly_stop.ts";
import { someInstance, Views } from "../registry/conformance.ts";
import { connect } from "./scene.ts";
import { FaultyProxy } from "../testing/proxy.ts";
import { serverTest, waitFor } from "../testing/harness.ts";
import { startZookeeper } from "../testing/zookeeper.ts";

/** The most watchers of any path: the client keeps them as listeners of one emitter for each path. */
function countWatchers(): { most: number } & Disposable {
  const { once } = EventEmitter.prototype;
  const count = {
    most: 0,
    [Symbol.dispose]: () => void (EventEmitter.prototype.once = once),
  };
  EventEmitter.prototype.once = function (this: EventEmitter, event, listener) {
    once.call(this, event, listener);
    if (event === "notification") {
      count.most = Math.max(count.most, this.listenerCount("notification"));
    }
    return this;
  };
  return count;
}

serverTest({
  name: "a standby that tries to acquire a lease again and again leaves no watch on it",
  needs: "zookeeper",
  fn: async () => {
    using watchers = countWatchers();
    await using server = await startZookeeper();
    await using holder = await connect([server.address]);
    await using standby = await connect([server.address]);
    await using _lease = await holder.acquire("key", "holder");
    // Longer than several rounds of the registry's upkeep, which must not treat an attempt as a held lease.
    const until = performance.now() + 5000;
    let tries = 0;
    while (performance.now() < until) {
      assert.equal(await standby.acquire("key", "standby"), undefined);
      tries++;
    }
    assert.ok(tries > 100, `${tries} tries`);
    // The watch of the holder itself.
    assert.equal(watchers.most, 1);
  },
});

serverTest({
  name:
    "a registry that lost its connection 200 times has as many watches and nodes as after the first connection",
  needs: "zookeeper",
  fn: async () => {
    using watchers = countWatchers();
    await using server = await startZookeeper();
    await using proxy = new FaultyProxy(server);
    await using registry = await connect([proxy.address]);
    await using observer = await connect([server.address]);
    await using registration = await registry.register(someInstance("spear1"));
    await using lease = await registry.acquire("key", "holder");
    using views = await Views.of(registry, "spear");
    using seen = await Views.of(observer, "spear");
    const nodes = await server.nodes();
    for (let round = 0; round < 200; round++) {
      proxy.cut();
      await waitFor(() => proxy.connections === 1 && registry.state === "connected");
    }
    await registration.update({ meta: { round: 200 } });
    await waitFor(() => seen.last?.instances[0]?.meta.round === 200);
    await waitFor(() => views.last?.instances[0]?.meta.round === 200 && !views.last.stale);
    assert.deepEqual(await server.nodes(), nodes);
    assert.equal(proxy.connections, 1);
    assert.ok((lease?.validUntil() ?? 0) > performance.now());
    // The watch of the registration, and the watch on its service.
    assert.equal(watchers.most, 2);
  },
});

serverTest({
  name: "100 programs with new names that start and stop leave no node",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using observer = await connect([server.address]);
    using views = await Views.of(observer, "spear");
    async function live(index: number): Promise<void> {
      await using registry = await connect([server.address]);
      const life = someInstance(`spear${index}`);
      const registration = await registry.register(life);
      await using _lease = await registry.acquire("key", life.name);
      await recordOrderlyStop(registry, life);
      await registration[Symbol.asyncDispose]();
    }
    await live(0);
    await views.settle("");
    const nodes = await server.nodes();
    for (let index = 1; index <= 100; index++) await live(index);
    await views.settle("");
    await waitFor(async () => (await server.nodes()).ephemeral === nodes.ephemeral);
    assert.deepEqual(await server.nodes(), nodes);
  },
});
