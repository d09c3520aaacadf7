import assert from "node:assert/strict";
import { Redis } from "ioredis";
import { logger } from "@gru/shared/log";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { RedisClusterServers } from "@gru/shared/testing/redis_servers";
import { scriptTexts } from "../redis_calls.ts";
import { openRedisStore } from "../store_redis.ts";
import { eventOf, type HookEvent } from "./event.ts";
import { Teller } from "./teller.ts";
import { holding, lines, reportOf, tellingCases } from "./telling_conformance.ts";
import { checkTelling, rebuilt, type TellingUnderTest } from "./telling_histories.ts";

const log = logger("stat");
const ttlMs = 600_000;

async function eventsOf(redis: Redis, tag: string): Promise<HookEvent[]> {
  const entries = await redis.xrange(`gru_stat_events${tag}`, "-", "+");
  return entries.map(([position, fields]) => {
    const event = eventOf(position, fields);
    assert.ok(event, `${position}: ${fields}`);
    return event;
  });
}

/** Two stats over the same data; small pieces, so that sweeping takes several. */
async function openTwo(url: string, port: number, tag = "") {
  await using stack = new AsyncDisposableStack();
  const stores = [
    stack.use(await openRedisStore({ url, log, pieceSize: 3 })),
    stack.use(await openRedisStore({ url, log })),
  ] as const;
  const redis = new Redis({ port, lazyConnect: true });
  stack.defer(async () => {
    const ended = new Promise((resolve) => redis.once("end", resolve));
    redis.disconnect();
    await ended;
  });
  await redis.connect();
  const garbage = `gru_stat_garbage${tag}`;
  const test = {
    stores,
    events: () => eventsOf(redis, tag),
    lease: async (token) => void await redis.set(`gru_stat_hooks_lease${tag}`, token),
    free: async () => {
      for (const place of await redis.zrange(garbage, "0", "-1")) {
        await redis.zadd(garbage, 0, place);
      }
    },
    [Symbol.asyncDispose]: async () => void await redis.flushall(),
  } satisfies TellingUnderTest;
  const owned = stack.move();
  return {
    redis,
    open: async (): Promise<TellingUnderTest> => test,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

for (const { name, run } of tellingCases) {
  serverTest({
    name: `RedisTelling: ${name}`,
    needs: "redis",
    fn: async () => {
      await using server = await startRedis();
      await using two = await openTwo(server.url, server.port);
      await run(two.open);
    },
  });
}

serverTest({
  name: "RedisTelling over a Cluster does all that it does on one server",
  needs: "redis",
  fn: async (t) => {
    await using servers = await RedisClusterServers.start({ replicas: false });
    const owner = await servers.ownerOf("gru_stat");
    await using two = await openTwo(servers.url, owner.port, "{gru_stat}");
    for (const { name, run } of tellingCases) await t.step(name, () => run(two.open));
  },
});

serverTest({
  name: "RedisTelling keeps nothing while hooks are off, and removes all when they have been off",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await using two = await openTwo(server.url, server.port);
    const [store] = (await two.open()).stores;
    const keys = async () =>
      (await two.redis.keys("*")).filter((key) => /hooks|marks|walks|events|told/.test(key)).sort();
    await store.apply(reportOf("spear1", 1, { joined: ["5"] }), ttlMs);
    await store.apply(reportOf("spear1", 2, { left: ["5"], joined: ["6"] }), ttlMs);
    await store.kick("5");
    assert.deepEqual(await keys(), []);
    const { settled } = await holding(await two.open(), 0);
    await store.apply(reportOf("spear1", 3, { left: ["6"], joined: ["7"] }), ttlMs);
    await settled();
    await two.redis.del("gru_stat_hooks_lease");
    await two.redis.hset("gru_stat_hooks", "until", 1);
    await store.apply(reportOf("spear1", 4, { left: ["7"] }), ttlMs);
    while ((await store.sweep()).more);
    assert.deepEqual(await keys(), []);
  },
});

async function checkUnreached(): Promise<void> {
  await using server = await startRedis();
  await using two = await openTwo(server.url, server.port);
  const { store, teller, settled } = await holding(await two.open(), 0);
  await store.apply(reportOf("spear1", 1, { joined: ["5"] }), ttlMs);
  assert.equal((await settled()).length, 3);
  // The node seems to have died, because its reports could not arrive.
  await two.redis.hset("gru_stat_era", "seen", 1);
  await store.removeNode("spear1");
  while ((await store.sweep()).more);
  const live = new Set(["spear1"]);
  assert.deepEqual(await store.settle(live), ["spear1"]);
  assert.deepEqual(await settled(), []);
  assert.deepEqual(await store.apply(reportOf("spear1", 2, {}), ttlMs), { resync: true });
  await store.apply(reportOf("spear1", 3, { joined: ["5"] }, true), ttlMs);
  assert.deepEqual(await settled(), []);
  assert.deepEqual(await store.settle(live), []);
  assert.deepEqual(await settled(), []);
  assert.equal((await teller.step("1")).holds, true);
}

serverTest({
  name: "RedisTelling tells nothing until all nodes have reported after Redis could not be reached",
  needs: "redis",
  fn: checkUnreached,
});

async function checkOlder(): Promise<void> {
  await using server = await startRedis({ appendOnly: true });
  await using two = await openTwo(server.url, server.port);
  const test = await two.open();
  const { store, settled } = await holding(test, 0);
  await store.apply(reportOf("spear1", 1, { joined: ["5", "6"] }), ttlMs);
  await store.apply(reportOf("spear2", 1, { joined: ["6"] }), ttlMs);
  await settled();
  const moment = await server.fileMoment();
  await store.apply(reportOf("spear1", 2, { joined: ["7"], left: ["5"] }), ttlMs);
  assert.deepEqual((await settled()).sort(), [
    "member.joined 10 7",
    "member.left 10 5",
    "user.offline 5",
    "user.online 7",
  ]);
  const delivered = await test.events();
  await server.losePower(moment);
  await waitFor(() => store.kick("9", "meanwhile").then(() => true, () => false));
  assert.equal((await test.events()).length, delivered.length - 4);
  // What is true now: 5 is at the other node, whose reports were not lost, and 7 is gone.
  await store.apply(reportOf("spear2", 2, { joined: ["5"] }), ttlMs);
  await store.apply(reportOf("spear1", 3, { joined: ["6"] }, true), ttlMs);
  await store.settle(new Set(["spear1", "spear2"]));
  await settled();
  await two.redis.zrange("gru_stat_garbage", "0", "-1").then((places) =>
    Promise.all(places.map((place) => two.redis.zadd("gru_stat_garbage", 0, place)))
  );
  while ((await store.sweep()).more);
  await settled();
  const events = await test.events();
  assert.deepEqual(events.slice(0, delivered.length), delivered, "with their positions");
  assert.deepEqual(lines(events.slice(delivered.length)).sort(), [
    "member.joined 10 5",
    "member.left 10 7",
    "user.kicked 9",
    "user.offline 7",
    "user.online 5",
  ]);
  assert.deepEqual(rebuilt(events).members, ["10 5", "10 6"]);
}

serverTest({
  name: "a server that comes back without its newest events gets them from the holder of the lease",
  needs: "redis",
  fn: checkOlder,
});

serverTest({
  name: "where nobody remembers what a server has lost, a gap says so and all are told again",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis({ appendOnly: true });
    await using two = await openTwo(server.url, server.port);
    const test = await two.open();
    const { store, teller, settled } = await holding(test, 0);
    await store.apply(reportOf("spear1", 1, { joined: ["5"] }), ttlMs);
    await settled();
    await server.losePower(await server.fileMoment());
    await waitFor(() =>
      store.apply(reportOf("spear1", 2, { joined: ["6"] }), ttlMs).then(() => true, () => false)
    );
    await store.settle(new Set(["spear1"]));
    const another = new Teller(test.stores[1].telling, { graceMs: 0 });
    const before = (await test.events()).length;
    await waitFor(() => another.step("1").then(() => true, () => false));
    while ((await another.step("1")).nextMs === 0);
    const told = lines((await test.events()).slice(before));
    assert.equal(told[0], "hooks.gap");
    assert.deepEqual(rebuilt(await test.events()).members, ["10 5", "10 6"]);
    assert.ok((await teller.step("1")).holds, "the former one sees that another one told");

    await withRedis(server.port, (redis) => redis.flushall());
    await test.lease("1");
    await store.apply(reportOf("spear1", 1, { joined: ["6"] }), ttlMs);
    await store.settle(new Set(["spear1"]));
    while ((await another.step("1")).nextMs === 0);
    assert.deepEqual(lines(await test.events())[0], "hooks.gap");
    assert.deepEqual(rebuilt(await test.events()).members, ["10 6"]);
  },
});

async function checkRandomHistories(): Promise<void> {
  await using server = await startRedis();
  await using two = await openTwo(server.url, server.port);
  await checkTelling(two.open, { runs: 200 });
}

type Check = () => Promise<void>;

/** What is taken out of the scripts, one at a time: each is missed by a check. */
const guards: readonly [script: keyof typeof scriptTexts, from: string, to: string, Check?][] = [
  ["report", "if book and not full then mark(", "if false then mark("],
  ["report", "if full and book then", "if false then"],
  ["sweep", "mark(false, group, names)", ""],
  ["tell", "if not told then", "if true then"],
  ["tell", "'ZSCORE', set_of(at, group), user", "'EXISTS', set_of(at, group)"],
  ["tell", "'EXISTS', set_of(book, group)) == 0", "'EXISTS', set_of(book, group)) == 1"],
  ["tell", "~= table.remove(ARGV, 1) then", "== table.remove(ARGV, 1) .. '?' then"],
  ["tell", "if not settled then", "if false then", checkUnreached],
  ["tell", "hooks[4] ~= run then return", "false then return", checkOlder],
  ["kick", "if hooks[4] == run then", "if true then", checkOlder],
  ["resume", "redis.call('ZADD', marks, 'LT', now, marked(group, user))", "", checkOlder],
  [
    "resume",
    "redis.call('ZADD', marks, 'GT', now + ARGV[1], marked(group, user))",
    "",
    checkOlder,
  ],
];

for (const [script, from, to, check = checkRandomHistories] of guards) {
  serverTest({
    name: `it is found when the script ${script} lacks: ${from}`,
    needs: "redis",
    fn: async () => {
      const whole = scriptTexts[script];
      assert.equal(whole.split(from).length, 2, "the guard is where it is said to be");
      scriptTexts[script] = whole.replace(from, () => to);
      try {
        await assert.rejects(check(), (error: Error) => {
          assert.ok(
            [error, error.cause].some((one) => one instanceof assert.AssertionError),
            error,
          );
          return true;
        });
      } finally {
        scriptTexts[script] = whole;
      }
    },
  });
}
