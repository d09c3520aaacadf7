/**
 * A kick ends what was issued before it, on every node, and kicks and bans outlive a Redis that loses its data: with a real
 * Redis, stat and spears, and tokens as ticket makes them.
 */
import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { loadConfig } from "@gru/shared/config";
import { logger } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { issuer } from "@gru/ticket/token";
import { singleSpear } from "../../spear/spear_testing.ts";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { openRedisStore } from "../../stat/store_redis.ts";
import { idgenIn } from "./up_testing.ts";

const [modern] = dialects;
const secret = "a-secret-of-more-than-32-characters";
const environment = { GRU_TOKEN2_SECRET: secret };
const rights = { listen: ["*"], send: ["*"], users: ["*"] };
const desk = issuer({
  scheme: "jwt",
  token1: { secret: "another-secret-of-more-than-32-characters", skewMs: 0 },
  token2Secret: secret,
  token2Ms: 30_000,
  rightsMs: 3_600_000,
});

async function startCluster() {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis());
  const registry = stack.use(new MemoryRegistry());
  const stat = stack.use(
    await startStat(
      loadConfig({
        program: "stat",
        schema: statSchema,
        profiles: new URL("../../stat/profiles/", import.meta.url),
        args: ["--registry=memory:", "--port=0", "--httpPort=0", `--redis=${redis.url}`],
        environment: () => undefined,
      }),
      { registry },
    ),
  );
  // Without one no spear serves.
  stack.use(
    await idgenIn(registry),
  );
  const owned = stack.move();
  const startSpear = async (id: number) =>
    owned.use(
      await singleSpear(
        {
          ...{ mode: "redis", registry: "memory:", redis: redis.url, monitorPort: 0, id },
          ...{ "auth.scheme": "jwt", reportMs: 50 },
        },
        { registry },
        environment,
      ),
    );

  async function call(method: string, path: string, body: object) {
    const response = await fetch(`http://127.0.0.1:${stat.httpPort}${path}`, {
      method,
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    assert.equal(response.status, 200, await response.clone().text());
    return await response.json();
  }

  /** Resolves with the result of `auth`. */
  async function enter(address: string, userId: number, token: string) {
    if (modern === undefined) throw new Error("no dialects");
    const client = owned.use(await TestClient.connect(address, modern));
    return { client, ...await client.request("auth", { id: userId, token2: token }) };
  }
  return {
    redis,
    startSpear,
    enter,
    /** As ticket gives it for any of the nodes. */
    ticket: async (userId: number) => {
      const grant = { userId: `${userId}`, userName: "", appType: "", rights };
      const until = { ...grant, rightsUntil: Date.now() + 3_600_000 };
      return (await desk.issue(until, "", ["spear1", "spear2", "spear3"])).token;
    },
    bans: async () => {
      const response = await fetch(`http://127.0.0.1:${stat.httpPort}/bans`);
      const { bans } = await response.json() as { bans: { kind: string; id: string }[] };
      return bans.map(({ kind, id }) => `${kind} ${id}`).sort().join();
    },
    lift: async (path: string) => {
      const url = `http://127.0.0.1:${stat.httpPort}/bans/${path}`;
      const response = await fetch(url, { method: "DELETE" });
      assert.equal(response.status, 200, await response.text());
    },
    post: (path: string, banMs?: number, body: object = { reason: "stolen", banMs }) =>
      call("POST", path, body),
    put: (path: string, body: object) => call("PUT", path, body),
    connectionsOf: async (userId: number) => {
      const response = await fetch(`http://127.0.0.1:${stat.httpPort}/users/${userId}`);
      return (await response.json()).nodes as {
        node: string;
        connections: { connectionId: string }[];
      }[];
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

serverTest({
  name: "after a kick neither resume nor an unused token2 lets in, on no node; a new ticket does",
  needs: "redis",
  fn: async () => {
    await using gru = await startCluster();
    const nodes = [await gru.startSpear(1), await gru.startSpear(2)];
    const [here, there] = nodes.map(({ address }) => address);
    assert(here !== undefined && there !== undefined);
    const thief = await gru.enter(here, 5, await gru.ticket(5));
    const other = await gru.enter(here, 6, await gru.ticket(6));
    // A chain of tokens has the age of its first.
    const again = await gru.enter(there, 5, thief.data.resume);
    const unused = [await gru.ticket(5), await gru.ticket(5)];
    await gru.post("/users/5/kick");
    await Promise.all([thief.client.closed, again.client.closed]);
    for (const [i, address] of [here, there].entries()) {
      for (const token of [again.data.resume, unused[i] ?? ""]) {
        const result = await gru.enter(address, 5, token);
        assert.equal(result.errorCode, 1003, JSON.stringify(result));
        assert.match(result.msg, /from before the user was kicked/);
      }
      assert.equal((await gru.enter(address, 5, await gru.ticket(5))).success, true);
    }
    assert.equal((await gru.enter(there, 6, other.data.resume)).success, true);
    // A node that was not there then.
    const late = await gru.startSpear(3);
    assert.equal((await gru.enter(late.address, 5, again.data.resume)).errorCode, 1003);
    assert.equal((await gru.enter(late.address, 5, await gru.ticket(5))).success, true);
  },
});

serverTest({
  name:
    "a node that was out of reach at the kick ends the user's connections and refuses old tokens",
  needs: "redis",
  fn: async () => {
    await using gru = await startCluster();
    const node = await gru.startSpear(1);
    const thief = await gru.enter(node.address, 5, await gru.ticket(5));
    const other = await gru.enter(node.address, 6, await gru.ticket(6));
    await using store = await openRedisStore({ url: gru.redis.url, log: logger("test") });
    // No node is told.
    await store.kick("5");
    await thief.client.closed;
    const result = await gru.enter(node.address, 5, thief.data.resume);
    assert.equal(result.errorCode, 1003, JSON.stringify(result));
    assert.equal(other.client.connected, true);
  },
});

serverTest({
  name: "the kick of one connection ends its tokens, and no others of its user",
  needs: "redis",
  fn: async () => {
    await using gru = await startCluster();
    const [here, there] = [await gru.startSpear(1), await gru.startSpear(2)];
    const thief = await gru.enter(here.address, 5, await gru.ticket(5));
    // Each auth gives one more.
    const renewed = await thief.client.request("auth", { id: 5, token2: await gru.ticket(5) });
    const honest = await gru.enter(there.address, 5, await gru.ticket(5));
    await waitFor(async () => (await gru.connectionsOf(5)).length === 2);
    const [place] = await gru.connectionsOf(5);
    await gru.post(`/connections/${place?.connections[0]?.connectionId}/kick`);
    await thief.client.closed;
    for (const { data } of [thief, renewed]) {
      assert.equal((await gru.enter(there.address, 5, data.resume)).errorCode, 1003);
    }
    assert.equal(honest.client.connected, true);
    assert.equal((await gru.enter(here.address, 5, honest.data.resume)).success, true);
  },
});

serverTest({
  name: "the kick of a connection that was asked to move ends the token that it was given for that",
  needs: "redis",
  fn: async () => {
    await using gru = await startCluster();
    const [here, there] = [await gru.startSpear(1), await gru.startSpear(2)];
    const thief = await gru.enter(here.address, 5, await gru.ticket(5));
    const honest = await gru.enter(here.address, 6, await gru.ticket(6));
    await waitFor(async () => (await gru.connectionsOf(5)).length === 1);
    await gru.post("/nodes/spear1/drain", undefined, { overMs: 600_000 });
    const moves = [await thief.client.next("move"), await honest.client.next("move")];
    const [place] = await gru.connectionsOf(5);
    await gru.post(`/connections/${place?.connections[0]?.connectionId}/kick`);
    await thief.client.closed;
    assert.equal((await gru.enter(there.address, 5, moves[0].token)).errorCode, 1003);
    assert.equal((await gru.enter(there.address, 6, moves[1].token)).success, true);
  },
});

serverTest({
  name:
    "a Redis that comes back empty or older has the bans, mutes and kicks again, and none that was lifted",
  needs: "redis",
  fn: async () => {
    await using gru = await startCluster();
    const nodes = [await gru.startSpear(1), await gru.startSpear(2)];
    const hour = 3_600_000;
    const stolen = (await gru.enter(nodes[0]?.address ?? "", 7, await gru.ticket(7))).data.resume;
    await gru.post("/users/5/kick", hour);
    await gru.post("/users/6/kick", hour);
    const redis = new Redis(gru.redis.url, { lazyConnect: true });
    await redis.connect();
    try {
      const backup = await redis.dumpBuffer("gru_stat_bans");
      await gru.lift("user/6");
      await gru.post("/groups/10/kick", hour);
      await gru.post("/users/7/kick");
      await gru.put("/users/6/mute", { muteMs: 3_600_000 });
      const right = "group 10,user 5";
      assert.equal(await gru.bans(), right);
      // All nodes have followed when each has refused what the commands did not bring: the lifted one comes in.
      for (const { address } of nodes) {
        await waitFor(async () => (await gru.enter(address, 6, await gru.ticket(6))).success);
      }

      await redis.flushall();
      await waitFor(async () => await gru.bans() === right);
      await redis.flushall();
      await redis.restore("gru_stat_bans", 0, backup ?? "");
      await waitFor(async () => await gru.bans() === right);
      // Only what stands in the store reaches a new node.
      await waitFor(async () => await redis.zcard("gru_stat_kicks") === 3);
      await waitFor(async () => await redis.hlen("gru_stat_mutes") === 1);
      const late = await gru.startSpear(3);
      for (const { address } of [...nodes, late]) {
        assert.equal((await gru.enter(address, 5, await gru.ticket(5))).errorCode, 1002);
        const six = await gru.enter(address, 6, await gru.ticket(6));
        assert.equal(six.success, true);
        // A new node may have read the bans and not yet the mutes.
        await waitFor(async () => {
          const message = { type: 0, target: { id: 6 }, content: "x" };
          return (await six.client.request("msg", message)).errorCode === 1002;
        });
        assert.equal((await gru.enter(address, 7, stolen)).errorCode, 1003);
      }
      assert.equal(await gru.bans(), right);
    } finally {
      await redis.quit();
    }
  },
});
