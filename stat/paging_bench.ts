/**
 * 100 000 users in 100 000 groups on 5 nodes in a real Redis: the time of each read of the HTTP API, and of a report.
 * `deno run --allow-net --allow-read --allow-write --allow-run --allow-env stat/paging_bench.ts`
 */
// deno-lint-ignore-file no-console
import { logger } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { connectRpc } from "@gru/shared/rpc/client";
import { startRedis } from "@gru/shared/testing/redis";
import { loadConfig } from "@gru/shared/config";
import { statContract } from "./contract.ts";
import { startStat, statSchema } from "./stat.ts";

const [nodes, usersPerNode, rounds] = [5, 20_000, 100];

await using redis = await startRedis();
await using registry = new MemoryRegistry();
const config = loadConfig({
  program: "stat",
  schema: statSchema,
  profiles: new URL("./profiles/", import.meta.url),
  args: ["--redis", redis.url, "--port", "0", "--httpPort", "0"],
  environment: () => undefined,
});
await using stat = await startStat(config, { registry });
await using client = await connectRpc(statContract, {
  ...{ registry, log: logger("stat"), timeoutMs: 60_000 },
});

const load = { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 };
const names = Array.from({ length: nodes }, (_, i) => `spear${i + 1}`);
await using spears = new AsyncDisposableStack();
for (const name of names) {
  spears.use(
    await registry.register({ service: "spear", name, addresses: {}, startedAt: 0, meta: {} }),
  );
}
/** Each user has its own group, and all users are in the group "all" as well. */
async function report(n: number, version: number, full: boolean, userIds: readonly string[]) {
  const began = performance.now();
  await client.any.report({
    ttlMs: 600_000,
    report: {
      ...{ node: names[n] ?? "", session: "s", version, full, connections: usersPerNode, load },
      users: { joined: [...userIds], left: [] },
      groups: [
        { groupId: "all", joined: [...userIds], left: [] },
        ...userIds.map((id) => ({ groupId: `g${id}`, joined: [id], left: [] })),
      ],
    },
  });
  return performance.now() - began;
}
const fullMs = [];
for (let n = 0; n < nodes; n++) {
  const userIds = Array.from({ length: usersPerNode }, (_, i) => `${n * usersPerNode + i + 1}`);
  fullMs.push(await report(n, 1, true, userIds));
}
console.log(`full report of ${usersPerNode} users: ${Math.max(...fullMs).toFixed(0)} ms at most`);
const changeMs = [];
for (let i = 0; i < rounds; i++) changeMs.push(await report(0, 2 + i, false, [`${1_000_000 + i}`]));
print("report with one new user", changeMs);

for (
  const path of [
    "/nodes",
    "/totals",
    "/rates",
    "/users?limit=100",
    "/users?search=777",
    "/users?cursor=50000&limit=100",
    "/groups?limit=100",
    "/groups?search=g9999",
    "/nodes/spear3/groups?cursor=g45000&limit=1000",
    "/groups/all/users?cursor=50000&limit=100",
    "/groups/all/users?limit=1000",
    "/groups/g77777/users",
    "/groups/g77777",
    "/getGroupStat?groupId=g77777",
    "/getGroupStat?groupId=all",
  ]
) {
  const times = [];
  for (let i = 0; i < (path.endsWith("=all") ? 5 : rounds); i++) {
    const began = performance.now();
    const response = await fetch(`http://127.0.0.1:${stat.httpPort}${path}`);
    await response.text();
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    times.push(performance.now() - began);
  }
  print(path, times);
}

function print(what: string, times: number[]): void {
  times.sort((a, b) => a - b);
  const at = (share: number) => (times[Math.floor(share * (times.length - 1))] ?? 0).toFixed(1);
  console.log(`${what.padEnd(50)} p50 ${at(0.5).padStart(6)} ms   p99 ${at(0.99).padStart(6)} ms`);
}
