/**
 * How fast the broker over Redis is, beside the same script called without it:
 * `deno run --allow-net --allow-env --allow-read --allow-write --allow-run --allow-sys spear/redis/broker_bench.ts`
 */
import { logger } from "@gru/shared/log";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { waitFor } from "@gru/shared/testing/harness";
import type { BrokerSink } from "../broker/broker.ts";
import { RedisBroker } from "./broker.ts";
import { newTarget } from "../broker/testing.ts";
import type { RedisStoreOptions } from "./store.ts";
import publishScript from "./lua/publish.lua" with { type: "text" };

const underWay = 256;
const seconds = 3;
const body = JSON.stringify({ id: "1234567890123456789", content: "x".repeat(200) });

/** Calls per second with so many of them under way. */
async function rate(call: (n: number) => Promise<unknown>): Promise<number> {
  let calls = 0;
  const startedAt = performance.now();
  const endsAt = startedAt + seconds * 1000;
  let done = 0;
  await Promise.all(Array.from({ length: underWay }, async () => {
    while (performance.now() < endsAt) {
      await call(++calls);
      done++;
    }
  }));
  return Math.round(done / (performance.now() - startedAt) * 1000);
}

function percentile(sorted: readonly number[], share: number): string {
  return (sorted[Math.floor(sorted.length * share)] ?? NaN).toFixed(2);
}

await using server = await startRedis({ args: ["--appendonly", "yes"] });
await using _replica = await startRedis({ args: ["--replicaof", "127.0.0.1", `${server.port}`] });
const history = { size: 1000, ageMs: 300_000 };
const open = async (
  node: string,
  sink: BrokerSink,
  durability: RedisStoreOptions["durability"] = "one",
) => {
  const options = { url: server.url, node, history, durability, publishMs: 15_000 };
  const broker = new RedisBroker({ ...options, log: logger("bench") }, sink);
  await waitFor(() => broker.connected);
  return broker;
};

const sentAt = new Map<string, number>();
const latencies: number[] = [];
const deaf: BrokerSink = { message: () => {}, disrupted: () => {}, seen: () => [] };
await using a = await open("a", deaf);
await using safe = await open("safe", deaf, "replica");
await using b = await open("b", {
  message: (_target, _epoch, _seq, text) => {
    const at = sentAt.get(JSON.parse(text).id);
    if (at !== undefined) latencies.push(performance.now() - at);
  },
  disrupted: () => {},
  seen: () => [],
});
const targets = Array.from({ length: 1000 }, newTarget);
for (const target of targets) await b.listen(target);
const targetOf = (n: number) => targets[n % targets.length] ?? "g:";

const unheard = Array.from({ length: 1000 }, newTarget);
const rows: [string, string][] = [];
for (let turn = 1; turn <= 2; turn++) {
  const ours = await rate((n) =>
    a.publish({ target: unheard[n % 1000] ?? "g:", id: `${n}`, body })
  );
  const bare = await withRedis(server.port, async (redis) => {
    const node = crypto.randomUUID();
    const sha = String(await redis.script("LOAD", publishScript));
    return await rate((n) => {
      const target = unheard[n % 1000];
      return redis.evalsha(
        ...[
          sha,
          3,
          `gru:{${target}}:state`,
          `gru:{${target}}:log`,
          `gru:{${target}}:nodes`,
        ] as const,
        ...[`${n}`, body, node, n, 0, "epoch", "one", 1000, 300_000, 600_000, 8_000_000, "PUBLISH"],
        ...[`gru:{${target}}`, `gru:{${target}}:rocketmq`, "all"],
      );
    });
  });
  const heard = await rate((n) => a.publish({ target: targetOf(n), id: `${n}`, body }));
  const replicated = await rate((n) =>
    safe.publish({ target: unheard[n % 1000] ?? "g:", id: `${n}`, body })
  );
  rows.push([`turn ${turn}: durability replica`, `${replicated}`]);
  rows.push([`turn ${turn}: publications/s, ${underWay} under way, nobody listens`, `${ours}`]);
  rows.push([`turn ${turn}: the same script without the broker`, `${bare}`]);
  rows.push([`turn ${turn}: another broker (in this process) listens to all`, `${heard}`]);
}
for (const perSecond of [500, 5000]) {
  latencies.length = 0;
  const answers: number[] = [];
  const count = perSecond * seconds;
  const startedAt = performance.now();
  for (let n = 0; n < count;) {
    for (; n < count && n < (performance.now() - startedAt) * perSecond / 1000; n++) {
      const id = `${perSecond}-${n}`;
      const at = performance.now();
      sentAt.set(id, at);
      void a.publish({ target: targetOf(n), id, body: JSON.stringify({ id, body }) }).then(() =>
        answers.push(performance.now() - at)
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await waitFor(() => latencies.length >= count && answers.length >= count);
  for (
    const [what, list] of [["publish to sink", latencies], ["publish to answer", answers]] as const
  ) {
    const sorted = list.toSorted((x, y) => x - y);
    rows.push([
      `${what} at ${perSecond}/s: ms p50 / p99`,
      `${percentile(sorted, 0.5)} / ${percentile(sorted, 0.99)}`,
    ]);
  }
}
// deno-lint-ignore no-console
for (const [what, value] of rows) console.log(what.padEnd(64), value);
