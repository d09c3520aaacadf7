import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { logger } from "@gru/shared/log";
import { RpcError } from "@gru/shared/rpc/contract";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { type RedisServer, startRedis, withRedis } from "@gru/shared/testing/redis";
import { RedisClusterServers, SentinelServers } from "@gru/shared/testing/redis_servers";
import type { Report } from "./contract.ts";
import { storeCases } from "./store_conformance.ts";
import type { StatStore } from "./store.ts";
import { openRedisStore } from "./store_redis.ts";
import { scriptTexts } from "./redis_calls.ts";

const log = logger("stat");
const ttlMs = 600_000;
const live = new Set(["spear1"]);

function report(version: number, userIds: readonly string[], session = "a"): Report {
  return {
    ...{ node: "spear1", session, version, full: true, connections: userIds.length },
    load: { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 },
    users: { joined: [...userIds], left: [] },
    groups: userIds.map((userId) => ({ groupId: `g${userId}`, joined: [userId], left: [] })),
  };
}

async function isUnavailable(store: StatStore): Promise<boolean> {
  return await store.usersOfGroup("g1", live).then(() => false, (error) => {
    assert.ok(error instanceof RpcError);
    assert.equal(error.code, "unavailable");
    assert.equal(error.retryable, true);
    return true;
  });
}

async function connect(server: RedisServer): Promise<Redis & AsyncDisposable> {
  const redis = new Redis(server.url, { lazyConnect: true });
  await redis.connect();
  return Object.assign(redis, {
    [Symbol.asyncDispose]: async () => {
      const ended = new Promise((resolve) => redis.once("end", resolve));
      redis.disconnect();
      await ended;
    },
  });
}

/** Two stats over the same data; small pieces, so that ordinary reports take several. */
async function openTwo(url: string, loseData: () => Promise<void>) {
  await using stack = new AsyncDisposableStack();
  const store = stack.use(await openRedisStore({ url, log, pieceSize: 3 }));
  const other = stack.use(await openRedisStore({ url, log }));
  const owned = stack.move();
  return {
    open: async () => ({ store, other, loseData, [Symbol.asyncDispose]: loseData }),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

for (const { name, run } of storeCases) {
  serverTest({
    name: `RedisStore: ${name}`,
    needs: "redis",
    fn: async () => {
      await using server = await startRedis();
      await using redis = await connect(server);
      await using stores = await openTwo(server.url, async () => void await redis.flushall());
      await run(stores.open);
    },
  });
}

serverTest({
  name: "RedisStore behind Sentinel does all that it does on one server",
  needs: "redis",
  fn: async (t) => {
    await using servers = await SentinelServers.start();
    await using redis = await connect(servers.primary);
    await using stores = await openTwo(servers.url, async () => void await redis.flushall());
    for (const { name, run } of storeCases) await t.step(name, () => run(stores.open));
  },
});

serverTest({
  name: "RedisStore over a Cluster does all that it does on one server, in one slot",
  needs: "redis",
  fn: async (t) => {
    await using servers = await RedisClusterServers.start({ replicas: false });
    await using stores = await openTwo(servers.url, () => servers.loseData());
    for (const { name, run } of storeCases) await t.step(name, () => run(stores.open));
    await using test = await stores.open();
    await test.store.apply(report(1, ["1", "2"]), ttlMs);
    const owner = await servers.ownerOf("gru_stat");
    for (const server of servers.servers) {
      const keys = await withRedis(server.port, (redis) => redis.keys("*"));
      assert.equal(keys.length > 0, server === owner);
      assert.ok(keys.every((key) => key.includes("{gru_stat}")), `${keys}`);
    }
  },
});

serverTest({
  name: "RedisStore takes bans of a stat that knew no versions, and no samples of a time to come",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using redis = await connect(server);
    await using store = await openRedisStore({ url: server.url, log });
    const until = (await store.bans.all()).now + 600_000;
    const old = { kind: "user", id: "5", reason: "", until };
    await redis.hset("gru_stat_bans", "user 5", JSON.stringify(old));
    const record = { ...old, version: 0, keptUntil: until };
    assert.deepEqual((await store.bans.all()).records, [record]);
    assert.equal((await store.bans.lift("user", "5"))?.until, 0);
    assert.deepEqual((await store.bans.all()).records.map((one) => one.until), [0]);

    const ahead = until + 7_200_000;
    await redis.zadd("gru_stat_samples", ahead, JSON.stringify({ at: ahead, nodes: [] }));
    assert.deepEqual((await store.samples(3_600_000)).samples, []);
    await store.addSample({ nodes: [] }, { stepMs: 1000, keepMs: 3_600_000 });
    assert.equal(await redis.zcard("gru_stat_samples"), 1);
  },
});

serverTest({
  name: "RedisStore reads nodes that have reported to a stat of before there were eras",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using redis = await connect(server);
    await using store = await openRedisStore({ url: server.url, log });
    await store.apply(report(1, ["1"]), ttlMs);
    await redis.del("gru_stat_era");
    assert.ok(await isUnavailable(store), "what was reported in another era proves nothing");
    await redis.hdel("gru_stat_node:spear1", "era");
    assert.deepEqual(await store.usersOfGroup("g1", live), ["1"]);
    assert.deepEqual(await store.settle(live), []);
    // Such a stat changes the rest of the node and leaves the era as it is.
    await store.apply(report(2, ["1"]), ttlMs);
    await redis.hset("gru_stat_node:spear1", { session: "a", version: 3 });
    assert.deepEqual(await store.usersOfGroup("g1", live), ["1"]);
    assert.deepEqual(await store.apply({ ...report(4, []), full: false }, ttlMs), {
      resync: false,
    });
  },
});

serverTest({
  name: "openRedisStore names the server that it cannot reach",
  needs: "redis",
  // ioredis leaves a timer of two seconds behind when it is told to disconnect from a socket that is closed already.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using server = await startRedis();
    const { url } = server;
    {
      await using redis = await connect(server);
      await redis.config("SET", "requirepass", "secret");
    }
    await assert.rejects(openRedisStore({ url, log }), {
      code: "unavailable",
      message: /^Redis: cannot connect to 127\.0\.0\.1:\d+: NOAUTH/,
    });
    await assert.rejects(openRedisStore({ url, log, password: "wrong" }), /WRONGPASS/);
    await using store = await openRedisStore({ url: `${url}/3`, log, password: "secret" });
    assert.deepEqual(await store.apply(report(1, ["1"]), ttlMs), { resync: false });
    await server.kill();
    await assert.rejects(openRedisStore({ url, log }), /ECONNREFUSED/);
  },
});

serverTest({
  name: "RedisStore leaves nothing behind of replaced reports and of nodes that died unseen",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using redis = await connect(server);
    {
      await using gone = await openRedisStore({ url: server.url, log, timeoutMs: 200 });
      await gone.apply(report(1, ["1", "2", "3"]), ttlMs);
      await gone.apply(report(2, ["2", "3", "4", "5"]), ttlMs);
      await gone.apply(report(1, ["7"], "restarted"), 1);
    }
    await using store = await openRedisStore({ url: server.url, log, pieceSize: 2 });
    await waitFor(async () => {
      while ((await store.sweep()).more);
      return (await redis.keys("*")).join() === "gru_stat_era";
    }, { what: "a database with nothing but the era" });
  },
});

serverTest({
  name: "RedisStore shows a full report only when it is whole, and sweeps one that was given up",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using redis = await connect(server);
    await using store = await openRedisStore({ url: server.url, log });
    const run = /run_id:(\w+)/.exec(await redis.info())?.[1] ?? "";
    const piece = (place: string, position: "first" | "last", userId: string) =>
      redis.eval(
        ...[scriptTexts.report, 5, "gru_stat_era", "gru_stat_node:spear1", "gru_stat_nodes"],
        ...["user_count:spear1", "gru_stat_garbage", run, 3000, "spear1", "a", 2, 1, ttlMs, place],
        ...[position === "first" ? 1 : 0, position === "last" ? 1 : 0, ttlMs, 0, "{}", 0],
        ...["join", "g", 1, userId, "join", "", 1, userId],
      );
    await store.apply(report(1, ["1"]), ttlMs);
    assert.deepEqual(await store.settle(live), []);

    assert.equal(await piece("given up:spear1", "first", "2"), "more");
    assert.deepEqual(await store.usersOfGroup("g", live), []);
    await redis.zadd("gru_stat_garbage", 0, "given up:spear1");
    while ((await store.sweep()).more);
    assert.equal(await piece("given up:spear1", "last", "3"), "resync");
    assert.deepEqual(await redis.keys("*given up*"), []);

    assert.equal(await piece("whole:spear1", "first", "2"), "more");
    assert.deepEqual(await store.usersOfGroup("g1", live), ["1"]);
    assert.equal(await piece("whole:spear1", "last", "3"), "done");
    assert.deepEqual((await store.usersOfGroup("g", live)).sort(), ["2", "3"]);
    assert.deepEqual(await store.usersOfGroup("g1", live), []);
    assert.equal((await store.counts(live))[0]?.users, 2);
  },
});

serverTest({
  name: "RedisStore fails within its bound while Redis is frozen or dead, and heals by itself",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using store = await openRedisStore({ url: server.url, log, timeoutMs: 300 });
    await store.apply(report(1, ["1"]), ttlMs);
    server.freeze();
    await assert.rejects(store.apply(report(2, ["1"]), ttlMs), { code: "unavailable" });
    await waitFor(() => !store.ready, { what: "the frozen connection to be given up" });
    assert.ok(await isUnavailable(store));
    server.thaw();
    await waitFor(() => store.ready, { what: "a connection after the thaw" });
    // It may have been frozen for so long that reports could not arrive.
    await waitFor(() => store.apply(report(3, ["1"]), ttlMs).then(() => true, () => false));
    assert.deepEqual(await store.usersOfGroup("g1", live), ["1"]);

    const underWay = Promise.allSettled(
      Array.from({ length: 50 }, () => store.usersOfGroup("g1", live)),
    );
    await server.kill();
    await underWay;
    await waitFor(() => !store.ready, { what: "the closed connection to be noticed" });
    assert.ok(await isUnavailable(store));
    await server.start();
    await waitFor(() => store.ready, { what: "a connection after the restart" });
    assert.ok(await isUnavailable(store), "an emptied server does not say that nobody is there");
    const next = { ...report(4, []), full: false };
    assert.deepEqual(await store.apply(next, ttlMs), { resync: true });
    assert.ok(await isUnavailable(store));
    await store.apply(report(5, ["1"]), ttlMs);
    assert.deepEqual(await store.usersOfGroup("g1", live), ["1"]);
  },
});

serverTest({
  name: "RedisStore is disposed once or twice, also while Redis is frozen or dead",
  needs: "redis",
  // ioredis leaves a timer of two seconds behind when it is told to disconnect from a socket that is closed already.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using server = await startRedis();
    const idle = await openRedisStore({ url: server.url, log });
    const [frozen, away] = [
      await openRedisStore({ url: server.url, log, timeoutMs: 300 }),
      await openRedisStore({ url: server.url, log, timeoutMs: 300 }),
    ];
    await idle[Symbol.asyncDispose]();
    await idle[Symbol.asyncDispose]();
    assert.ok(await isUnavailable(idle));
    server.freeze();
    const underWay = isUnavailable(frozen);
    await frozen[Symbol.asyncDispose]();
    assert.ok(await underWay);
    await server.kill();
    await waitFor(() => !away.ready);
    await away[Symbol.asyncDispose]();
    await away[Symbol.asyncDispose]();
  },
});
