/**
 * What hooks cost a report of a spear in a real Redis, beside the same without them, in turn; and how fast events are made.
 * `deno run --allow-net --allow-read --allow-write --allow-run --allow-env stat/hooks/report_bench.ts`
 */
// deno-lint-ignore-file no-console
import { logger } from "@gru/shared/log";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { openRedisStore } from "../store_redis.ts";
import { Teller } from "./teller.ts";

const [users, rounds] = [20_000, 300];
const load = { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 };
const log = logger("stat");

async function open(isOn: boolean) {
  await using stack = new AsyncDisposableStack();
  const server = stack.use(await startRedis());
  const store = stack.use(await openRedisStore({ url: server.url, log, timeoutMs: 30_000 }));
  await store.settle(new Set());
  const teller = new Teller(store.telling, { graceMs: 0 });
  if (isOn) {
    await withRedis(server.port, (redis) => redis.set("gru_stat_hooks_lease", "1"));
    await teller.step("1");
  }
  let version = 0;
  const report = async (verb: "joined" | "left", userIds: readonly string[]) => {
    const began = performance.now();
    const changed = { joined: [], left: [], [verb]: [...userIds] };
    await store.apply({
      ...{ node: "spear1", session: "s", version: ++version, full: version === 1 },
      ...{ connections: users, load, users: changed },
      groups: [
        { groupId: "all", ...changed },
        ...userIds.map((id) => ({ groupId: `g${id}`, joined: [], left: [], [verb]: [id] })),
      ],
    }, 600_000);
    return performance.now() - began;
  };
  const tell = async () => {
    const began = performance.now();
    let added = 0;
    let nextMs: number;
    do {
      const step = await teller.step("1");
      added += step.added;
      nextMs = step.nextMs;
    } while (nextMs === 0);
    return { added, ms: performance.now() - began };
  };
  const owned = stack.move();
  return { report, tell, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

await using off = await open(false);
await using on = await open(true);
const all = Array.from({ length: users }, (_, i) => `${i}`);
for (const [name, one] of Object.entries({ off, on })) {
  console.log(
    `full report of ${users} users, hooks ${name}: ${
      (await one.report("joined", all)).toFixed(0)
    } ms`,
  );
}
const told = await on.tell();
console.log(
  `${told.added} events of it: ${told.ms.toFixed(0)} ms, ${
    (told.added / told.ms).toFixed(0)
  } per ms`,
);
for (const size of [0, 1, 100]) {
  const times = { off: [] as number[], on: [] as number[] };
  for (let i = 0; i < rounds; i++) {
    const some = Array.from({ length: size }, (_, n) => `${i}-${n}`);
    for (const verb of ["joined", "left"] as const) {
      times.off.push(await off.report(verb, some));
      times.on.push(await on.report(verb, some));
      await on.tell();
    }
  }
  const half = (list: number[]) => list.sort((a, b) => a - b)[list.length >> 1] ?? 0;
  const [a, b] = [half(times.off), half(times.on)];
  console.log(
    `report with ${size} users: off p50 ${a.toFixed(2)} ms, on ${b.toFixed(2)} ms, ratio ${
      (b / a).toFixed(2)
    }`,
  );
}
