import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { logger } from "@gru/shared/log";
import { RpcError } from "@gru/shared/rpc/contract";
import { serverTest, waitFor } from "@gru/shared/testing";
import { type RedisServer, startRedis } from "@gru/shared/testing_redis";
import type { Report } from "./contract.ts";
import { storeCases } from "./store_conformance.ts";
import type { StatStore } from "./store.ts";
import { openRedisStore } from "./store_redis.ts";
import reportScript from "./lua/report.lua" with { type: "text" };

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

for (const { name, run } of storeCases) {
  serverTest({
    name: `RedisStore: ${name}`,
    needs: "redis",
    fn: async () => {
      await using server = await startRedis();
      await using redis = await connect(server);
      // Small pieces, so that ordinary reports take several.
      await using store = await openRedisStore({ url: server.url, log, pieceSize: 3 });
      await using other = await openRedisStore({ url: server.url, log });
      const loseData = async () => void await redis.flushall();
      await run(async () => ({ store, other, loseData, [Symbol.asyncDispose]: loseData }));
    },
  });
}

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
      return await redis.dbsize() === 0;
    }, { what: "an empty database" });
  },
});

serverTest({
  name: "RedisStore shows a full report only when it is whole, and sweeps one that was given up",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using redis = await connect(server);
    await using store = await openRedisStore({ url: server.url, log });
    const piece = (place: string, position: "first" | "last", userId: string) =>
      redis.eval(
        ...[reportScript, 4, "gru_stat_node:spear1", "gru_stat_nodes", "user_count:spear1"],
        ...["gru_stat_garbage", "spear1", "a", 2, 1, ttlMs, place],
        ...[position === "first" ? 1 : 0, position === "last" ? 1 : 0, ttlMs, 0, "{}"],
        ...["join", "g", 1, userId, "join", "", 1, userId],
      );
    await store.apply(report(1, ["1"]), ttlMs);

    assert.equal(await piece("given up:spear1", "first", "2"), "more");
    assert.deepEqual(await store.usersOfGroup("g", live), []);
    await redis.zadd("gru_stat_garbage", 0, "given up:spear1");
    while ((await store.sweep()).more);
    assert.equal(await piece("given up:spear1", "last", "3"), "lost");
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
    await waitFor(async () => !await isUnavailable(store), { what: "an answer after the thaw" });
    assert.deepEqual(await store.usersOfGroup("g1", live), ["1"]);

    const underWay = Promise.allSettled(
      Array.from({ length: 50 }, () => store.usersOfGroup("g1", live)),
    );
    await server.kill();
    await underWay;
    await waitFor(() => isUnavailable(store));
    assert.equal(store.ready, false);
    await server.start();
    await waitFor(async () => !await isUnavailable(store), { what: "an answer after the restart" });
    assert.deepEqual(await store.usersOfGroup("g1", live), []);
    const next = { ...report(3, []), full: false };
    assert.deepEqual(await store.apply(next, ttlMs), { resync: true });
    await store.apply(report(4, ["1"]), ttlMs);
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
