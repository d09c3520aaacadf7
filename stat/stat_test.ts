import assert from "node:assert/strict";
import { ConfigError, loadConfig } from "@gru/shared/config";
import { logger } from "@gru/shared/log";
import type { Registration, Registry } from "@gru/shared/registry/registry";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { connectZookeeper } from "@gru/shared/zookeeper/registry";
import { connectRpc } from "@gru/shared/rpc/client";
import { freePort, serverTest, spawnTask, waitFor } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { startZookeeper } from "@gru/shared/testing/zookeeper";
import { type Report, statContract } from "./contract.ts";
import { startStat, statSchema } from "./stat.ts";

const log = logger("stat");
const profiles = new URL("./profiles/", import.meta.url);

function configOf(...args: string[]) {
  return loadConfig({
    ...{ program: "stat", schema: statSchema, profiles, args },
    environment: () => undefined,
  });
}

function register(registry: Registry, name: string): Promise<Registration> {
  return registry.register({ service: "spear", name, addresses: {}, startedAt: 0, meta: {} });
}

function report(node: string, version: number, full: boolean, ...joined: string[]) {
  const report: Report = {
    ...{ node, session: "s", version, full, connections: joined.length },
    load: { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 },
    users: { joined, left: [] },
    groups: [{ groupId: "10", joined, left: [] }],
  };
  return { report, ttlMs: 600_000 };
}

async function groupStat(httpPort: number): Promise<unknown> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/getGroupStat?groupId=10`);
  return await response.json();
}

Deno.test("statSchema accepts the profiles, with the old Gru's ports", () => {
  const ports = ["dev", "test1", "test2"].map((profile) => {
    const { id, port, httpPort } = configOf("--profile", profile);
    return [id, port, httpPort];
  });
  assert.deepEqual(ports, [[1, 32000, 50000], [1, 32001, 50000], [2, 32002, 50001]]);
});

Deno.test("statSchema rejects an address of Redis that stat cannot use, and names the key", () => {
  const bad = [
    "redis:",
    "redis://:secret@host",
    "cluster:a:1/0",
    "shards:a:1,b:2",
    "sentinel:a:1",
    "redis://host:x",
    "http://h",
    "",
  ];
  for (const redis of bad) {
    assert.throws(
      () => configOf("--redis", redis),
      (error) =>
        error instanceof ConfigError && / redis: is ".*expected memory:/.test(error.message),
      redis,
    );
  }
  const good = [
    "redis://host",
    "rediss://host:1/15",
    "redis://[::1]:6379",
    "sentinel:a:1,b:2/name",
  ];
  for (const redis of ["memory:", "cluster:a:1,b:2", ...good]) {
    assert.equal(configOf("--redis", redis).redis, redis);
  }
});

Deno.test("startStat serves reports over RPC, in the process and over HTTP, of live spears only", async () => {
  await using registry = new MemoryRegistry();
  const config = configOf("--redis", "memory:", "--port", "0", "--httpPort", "0");
  await using stat = await startStat(config, { registry });
  await using client = await connectRpc(statContract, { registry, log, timeoutMs: 30_000 });
  await using spear1 = await register(registry, "spear1");
  await using _spear2 = await register(registry, "spear2");

  assert.deepEqual(await client.any.report(report("spear1", 1, false, "1")), { resync: true });
  assert.deepEqual(await client.any.report(report("spear1", 2, true, "1", "2")), { resync: false });
  const call = { deadline: Infinity, signal: new AbortController().signal };
  await stat.handlers.report(report("spear2", 1, true, "2", "3"), call);
  await client.any.report(report("spear9", 1, true, "9"));

  assert.deepEqual(await groupStat(stat.httpPort), { groupId: 10, userIds: [1, 2, 3] });
  assert.deepEqual(await client.any.nodesOfUser({ userId: "2" }), { nodes: ["spear1", "spear2"] });
  await spear1[Symbol.asyncDispose]();
  assert.deepEqual(await groupStat(stat.httpPort), { groupId: 10, userIds: [2, 3] });
  assert.deepEqual(
    (await client.any.usersOfGroup({ groupId: "10" })).userIds.sort(),
    ["2", "3"],
  );
  assert.match((await client.any.getServiceVersion({})).version, /^\d+\.\d+\.\d+/);

  const ready = await fetch(`http://127.0.0.1:${stat.port}/readyz`);
  const checks = { announced: true, registry: true, store: true };
  assert.deepEqual(await ready.json(), {
    ready: true,
    checks: { ...checks, clusterKey: true, redis: true },
  });
  const metrics = await (await fetch(`http://127.0.0.1:${stat.port}/metrics`)).text();
  assert.match(metrics, /gru_stat_reports_total\{result="full",node="stat1"\} 3/);
});

Deno.test("startStat leaves the registry and closes its ports, also when it fails to start", async () => {
  await using registry = new MemoryRegistry();
  const seen: string[][] = [];
  using _watch = await registry.watch("stat", ({ instances }) => {
    seen.push(instances.map(({ name, addresses }) => `${name} ${Object.keys(addresses)}`));
  });
  const [port, httpPort] = [freePort(), freePort()];
  const args = ["--redis", "memory:", "--port", `${port}`, "--httpPort", `${httpPort}`];
  {
    await using stat = await startStat(configOf(...args), { registry });
    const other = startStat(configOf(...args, "--id", "2", "--port", "0"), { registry });
    await assert.rejects(other, new RegExp(`Cannot listen on 127.0.0.1:${httpPort}`));
    await stat[Symbol.asyncDispose]();
  }
  assert.deepEqual(seen, [[], ["stat1 rpc,http"], []]);
  for (const freed of [port, httpPort]) Deno.listen({ hostname: "127.0.0.1", port: freed }).close();
});

serverTest({
  name:
    "two stats serve with real ZooKeeper and Redis, recover from faults, and exit with 0 on SIGTERM",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const zookeeper = stack.use(await startZookeeper());
    const redis = stack.use(await startRedis());
    const [port1, port2, http1, http2] = [freePort(), freePort(), freePort(), freePort()];
    const shared = ["--registry", `zookeeper://${zookeeper.address}/gru`, "--redis", redis.url];
    const ports1 = ["--port", `${port1}`, "--httpPort", `${http1}`];
    const ports2 = ["--port", `${port2}`, "--httpPort", `${http2}`];
    const stats = [
      stack.use(spawnTask("stat", ["--profile", "test1", ...shared, ...ports1])),
      stack.use(spawnTask("stat", ["--profile", "test2", ...shared, ...ports2])),
    ];
    const isReady = (port: number) =>
      fetch(`http://127.0.0.1:${port}/readyz`).then(async (response) => {
        await response.body?.cancel();
        return response.ok;
      }, () => false);
    await stats[0]?.ready(() => isReady(port1), { what: "stat1" });
    await stats[1]?.ready(() => isReady(port2), { what: "stat2" });

    const registry = stack.use(
      await connectZookeeper({
        ...{ servers: [zookeeper.address], root: "/gru", sessionMs: 4000, log },
      }),
    );
    const client = stack.use(await connectRpc(statContract, { registry, log, timeoutMs: 30_000 }));
    const stat1 = client.at("stat1");
    const stat2 = client.at("stat2");
    const spear1 = stack.use(await register(registry, "spear1"));
    const shows = (httpPort: number, ...userIds: number[]) =>
      waitFor(async () => {
        const shown = await groupStat(httpPort);
        return JSON.stringify(shown) === JSON.stringify({ groupId: 10, userIds });
      }, { what: `users ${userIds} on ${httpPort}` });

    assert.deepEqual(await stat1.report(report("spear1", 1, true, "7", "3")), { resync: false });
    assert.deepEqual(await stat2.report(report("spear1", 2, false, "11")), { resync: false });
    await shows(http1, 3, 7, 11);
    await shows(http2, 3, 7, 11);

    await redis.kill();
    await waitFor(async () => !await isReady(port1));
    // A client repeats the call until its time is over, whatever error came last.
    await assert.rejects(stat1.usersOfGroup({ groupId: "10" }, { timeoutMs: 300 }), ({ code }) => {
      return ["unavailable", "deadline_exceeded"].includes(code);
    });
    const away = await fetch(`http://127.0.0.1:${http2}/getGroupStat?groupId=10`);
    assert.equal(away.status, 503);
    assert.equal((await away.json()).error.code, "unavailable");
    await redis.start();
    await waitFor(async () => await isReady(port1) && await isReady(port2));
    assert.deepEqual(await stat2.report(report("spear1", 3, false)), { resync: true });
    await stat2.report(report("spear1", 4, true, "7"));
    await shows(http1, 7);

    await stats[0]?.kill();
    await shows(http2, 7);
    await spear1[Symbol.asyncDispose]();
    await shows(http2);
    await stats[1]?.kill("SIGTERM");
    const ended = await stats[1]?.ended;
    assert.deepEqual([ended?.code, ended?.signal], [0, null]);
    assert.match(stats[1]?.output ?? "", /Redis is out of reach.*Redis is back/s);
  },
});

serverTest({
  name:
    "stat exits with 1 and the reason when Redis or ZooKeeper cannot be reached, and with 2 for a bad flag",
  needs: "zookeeper",
  fn: async () => {
    await using zookeeper = await startZookeeper();
    const registry = ["--registry", `zookeeper://${zookeeper.address}/gru`];
    const free = ["--port", "0", "--httpPort", "0"];
    const nobody = `redis://127.0.0.1:${freePort()}`;
    for (
      const { args, code, says } of [
        { args: [...registry, ...free, "--redis", nobody], code: 1, says: /Redis: cannot connect/ },
        { args: ["--redis", "memcached:"], code: 2, says: /redis: is "memcached:"; expected/ },
      ]
    ) {
      await using stat = spawnTask("stat", args);
      const ended = await stat.ended;
      await stat.kill();
      assert.equal(ended.code, code, stat.output);
      assert.match(stat.output, says);
    }
  },
});
