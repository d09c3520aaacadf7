/** Two processes under one name, over real ZooKeeper and Redis: one slept for longer than its session. */
import assert from "node:assert/strict";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import { TestCluster } from "./processes.ts";

serverTest({
  name:
    "a spear that slept while its name was taken falsifies nothing, lets nobody in and sends its clients away",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const httpPort = freePort();
    await Promise.all([cluster.add("idgen", "test1"), cluster.add("stat", "test1", { httpPort })]);
    const api = `http://127.0.0.1:${httpPort}`;
    const flags = { id: 1, "zookeeper.sessionMs": 1000 };
    const sleeper = await cluster.add("spear", "test1", flags);

    async function users(): Promise<string> {
      const { userIds } = await (await fetch(`${api}/getGroupStat?groupId=10`)).json();
      return userIds.sort().join();
    }
    async function enter(address: string, id: number) {
      const client = await authenticated(address, id);
      const argument = { userId: id, subscribeGroups: [{ id: 10 }] };
      assert.equal((await client.request("subscribe", argument)).success, true);
      return client;
    }

    const early = [await enter(sleeper.address, 1), await enter(sleeper.address, 2)];
    await waitFor(async () => await users() === "1,2");
    sleeper.process.freeze();
    const twin = await cluster.add("spear", "test1", flags);
    await using late = await enter(twin.address, 3);
    await waitFor(async () => await users() === "3");

    sleeper.process.thaw();
    let gone = false;
    void Promise.all(early.map((client) => client.closed)).then(() => gone = true);
    while (!gone) assert.equal(await users(), "3");
    await assert.rejects(authenticated(sleeper.address, 4));
    const ready = await fetch(`${sleeper.monitor}/readyz`);
    assert.deepEqual([ready.status, (await ready.json()).checks.announced], [503, false]);
    assert.match(sleeper.process.output, /another process runs under the name "spear1"/);

    // The name is free again: the one that slept takes it, and is a node like any other.
    await twin.process.kill();
    await late.closed;
    await waitFor(async () => {
      const { ok, body } = await fetch(`${sleeper.monitor}/readyz`);
      await body?.cancel();
      return ok;
    }, { timeoutMs: 30_000 });
    await using _back = await enter(sleeper.address, 3);
    await waitFor(async () => await users() === "3");
  },
});
