/** Faults of servers and networks. `registry_test.ts` covers faults of single operations and processes. */
import assert from "node:assert/strict";
import type { Lease } from "../registry/registry.ts";
import { someInstance, Views } from "../registry/conformance.ts";
import { connect, pause, Scene, sessionMs } from "./scene.ts";
import { FaultyProxy } from "../testing/proxy.ts";
import { serverTest, waitFor } from "../testing/harness.ts";
import { startEnsemble, startZookeeper, type ZookeeperServer } from "../testing/zookeeper.ts";

/** Longer than any session: ZooKeeper ends a session up to one tick late. */
const outageMs = 1.5 * sessionMs;

async function allSuspended(scene: Scene): Promise<void> {
  await waitFor(() => scene.registries.every((registry) => registry.state === "suspended"), {
    what: "all to notice that the servers cannot be reached",
  });
}

serverTest({
  name: "a registry survives its only server frozen, killed and restarted",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using scene = await Scene.start([server.address]);
    await scene.survive("frozen until noticed", async () => {
      server.freeze();
      await allSuspended(scene);
      assert.deepEqual([scene.views.last?.stale, scene.views.names], [true, "spear1 spear2"]);
      server.thaw();
    });
    await scene.survive("frozen for a long time, so that all expire", async () => {
      server.freeze();
      await pause(outageMs);
      server.thaw();
    });
    await scene.survive("killed and restarted at once", async () => {
      await server.kill();
      await server.start();
    });
    await scene.survive("killed, restarted after a long time", async () => {
      await server.kill();
      await pause(outageMs);
      await server.start();
    });
  },
});

serverTest({
  name: "a registry survives any one or two of three servers frozen or killed",
  needs: "zookeeper",
  fn: async () => {
    await using ensemble = await startEnsemble();
    const { servers } = ensemble;
    const leader = async () => await ensemble.leader() as ZookeeperServer;
    const follower = async () => {
      const leading = await leader();
      return servers.find((server) => server !== leading) as ZookeeperServer;
    };
    await using scene = await Scene.start(ensemble.addresses);
    for (const [name, pick] of [["leader", leader], ["follower", follower]] as const) {
      await scene.survive(`${name} of three frozen for a long time`, async () => {
        const server = await pick();
        server.freeze();
        await pause(outageMs);
        server.thaw();
        await server.serving();
      });
      await scene.survive(`${name} of three killed and gone`, async () => {
        const server = await pick();
        await server.kill();
        await pause(outageMs);
        await server.start();
      });
    }
    await scene.survive("two of three killed for a long time", async () => {
      const victims = [await leader(), await follower()];
      await Promise.all(victims.map((server) => server.kill()));
      await allSuspended(scene);
      await pause(outageMs);
      await Promise.all(victims.map((server) => server.start()));
    });
  },
});
serverTest({
  name: "a registry survives being cut off alone, by dropped packets and by refused connections",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using proxy = new FaultyProxy(server);
    await using scene = await Scene.start([proxy.address], [server.address]);
    const [cutOff] = scene.registries;
    await scene.survive("cut off for a moment", async () => {
      proxy.cut();
    });
    for (const how of ["freeze", "swallow", "refuse"] as const) {
      await scene.survive(`cut off: ${how}, until the session ended`, async () => {
        await scene.holds(1);
        proxy[how]();
        await scene.views.settle("spear2");
        assert.equal(cutOff?.state, "suspended");
        proxy.pass();
      }, "spear1");
    }
    await scene.survive("the network delivers what it held for long", async () => {
      await scene.holds(1);
      proxy.freeze();
      await pause(outageMs);
      proxy.pass();
    }, "spear1");
  },
});

serverTest({
  name: "a lease held through a follower ends when the leader no longer reaches that follower",
  needs: "zookeeper",
  fn: async () => {
    await using links = new AsyncDisposableStack();
    const toLeader: FaultyProxy[] = [];
    await using ensemble = await startEnsemble({
      link: (by, of, port) => {
        if (by !== 1 || of === 1) return port;
        const proxy = links.use(new FaultyProxy({ port }));
        toLeader.push(proxy);
        return proxy.port;
      },
    });
    const [follower, ...others] = ensemble.servers as [ZookeeperServer, ...ZookeeperServer[]];
    assert.equal(await follower.role(), "follower");
    await using cutOff = await connect([follower.address]);
    await using rival = await connect(others.map((server) => server.address));
    await using _registration = await cutOff.register(someInstance("spear1"));
    using views = await Views.of(rival, "spear");
    const lease = await cutOff.acquire("key", "cut off");
    assert.ok(lease);

    for (const proxy of toLeader) proxy.freeze();
    let rivals: Lease | undefined;
    await waitFor(async () => (rivals = await rival.acquire("key", "rival")) !== undefined);
    assert.ok(lease.validUntil() < performance.now(), "two hold the lease");
    await views.settle("");
    for (const proxy of toLeader) proxy.pass();
    await views.settle("spear1");
    assert.equal(lease.lost.aborted, true);
    assert.equal(rivals?.lost.aborted, false);
  },
});

serverTest({
  name:
    "a watch keeps instances whose sessions an outage ended, for the time they need to reconnect",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using proxy = new FaultyProxy(server);
    await using registering = await connect([proxy.address]);
    await using watching = await connect([server.address]);
    await using _registration = await registering.register(someInstance("spear1"));
    const emptyAt: number[] = [];
    using views = await Views.of(watching, "spear");
    using _empties = await watching.watch("spear", (view) => {
      if (view.instances.length === 0) emptyAt.push(performance.now());
    });

    server.freeze();
    await pause(outageMs);
    proxy.refuse();
    const thawedAt = performance.now();
    server.thaw();
    // A program without a view from before the outage sees that the session has ended.
    await using newcomer = await connect([server.address]);
    using truth = await Views.of(newcomer, "spear");
    await truth.settle("");
    await views.settle("");
    assert.ok(emptyAt.every((at) => at > thawedAt + sessionMs), "it was given up too early");
    proxy.pass();
    await views.settle("spear1");
  },
});

serverTest({
  name: "a registry survives answers that are cut off at any byte",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using proxy = new FaultyProxy(server);
    await using scene = await Scene.start([proxy.address], [server.address]);
    const [truncated] = scene.registries;
    await scene.survive("40 answers truncated", async () => {
      for (let bytes = 1; bytes <= 40; bytes++) {
        proxy.truncateAfter(bytes);
        await waitFor(() => proxy.cutDone && truncated?.state === "connected", {
          what: `a new connection after an answer of ${bytes} bytes`,
        });
      }
    });
  },
});
