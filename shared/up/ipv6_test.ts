/** A whole cluster over IPv6 alone, with a user of Redis's ACL: every address that a profile can hold. */
import assert from "node:assert/strict";
import type { z } from "zod";
import { idgenSchema, startIdgen } from "../../idgen/idgen.ts";
import { ConfigError, loadConfig } from "@gru/shared/config";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { startZookeeper } from "@gru/shared/testing/zookeeper";
import { spearSchema } from "../../spear/config.ts";
import { startSpear } from "../../spear/spear.ts";
import { dialects } from "../../spear/test_client.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";
import { assertSuccess, enter } from "./scenario.ts";

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");

const user = "gru";
const password = "a-password-of-the-user-gru";

function profile<S extends z.ZodObject>(
  program: string,
  schema: S,
  flags: Readonly<Record<string, string | number>>,
  environment: Readonly<Record<string, string>> = { GRU_REDIS_PASSWORD: password },
): z.output<S> {
  return loadConfig({
    program,
    schema,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    environment: (name) => environment[name],
    args: Object.entries({ "log.level": "error", ...flags }).map(([key, value]) =>
      `--${key}=${value}`
    ),
  });
}

function hasIpv6(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

const whole: Parameters<typeof serverTest>[0] = {
  name: "a cluster listens on ::1, finds ZooKeeper and Redis there, and its clients find it",
  needs: ["zookeeper", "redis"],
  // ioredis leaves a timer of two seconds behind when it is told to disconnect from a socket that is closed already.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using redisServer = await startRedis({
      args: [
        ...["--bind", "127.0.0.1", "::1"],
        // The default user may only say that the server is there.
        ...["--user", "default", "on", "nopass", "resetchannels", "-@all", "+ping"],
        ...["--user", user, "on", `>${password}`, "~*", "&*", "+@all"],
      ],
    });
    await using zookeeper = await startZookeeper({ host: "::1" });
    const redis = `redis://${user}@[::1]:${redisServer.port}/1`;
    const common = { host: "::1", port: 0, registry: `zookeeper://${zookeeper.address}/gru` };
    await using idgen = await startIdgen(profile("idgen", idgenSchema, common));
    await using stat = await startStat(
      profile("stat", statSchema, { ...common, httpPort: 0, redis }),
    );
    await using spear = await startSpear(
      profile("spear", spearSchema, { ...common, redis, mode: "redis", drainMs: 0 }),
    );
    await using ticket = await startTicket(
      profile("ticket", ticketSchema, { ...common, host: "[::1]" }),
    );
    for (const address of [spear.address, spear.monitorAddress, ticket.address]) {
      assert.match(address, /^http:\/\/\[::1\]:\d+$/);
    }
    // A new idgen waits until nobody else can believe to be the one that issues.
    await waitFor(async () => {
      const { ok, body } = await fetch(`${idgen.address}/readyz`);
      await body?.cancel();
      return ok;
    }, { timeoutMs: 20_000, what: "an idgen that issues" });
    const query = "userId=7&userName=a&appType=1&token1=t";
    await waitFor(async () => {
      const answer = await fetch(`${ticket.address}/ticket?${query}`);
      return (await answer.json()).success;
    }, { what: "a ticket that knows a spear" });
    await using client = await enter(ticket.address, 7, modern);
    assertSuccess(
      await client.request("subscribe", { userId: 7, subscribeGroups: [{ id: 10 }] }),
    );
    assertSuccess(await client.request("msg", { type: 1, target: { id: 10 }, content: "over 6" }));
    assert.equal((await client.next("msg")).content, "over 6");
    const response = await fetch(`http://[::1]:${stat.httpPort}/nodes`);
    const { nodes } = await response.json();
    assert.equal(nodes[0].address, spear.address);
  },
};

if (hasIpv6()) serverTest(whole);
else Deno.test.ignore(`${whole.name} [this machine has no ::1]`, () => {});

const spear = (flags: Readonly<Record<string, string | number>>, environment = {}) =>
  profile("spear", spearSchema, flags, environment);

for (
  const [flags, message] of [
    [{ host: "0.0.0.0" }, / advertise: missing; needed with host 0\.0\.0\.0/],
    [{ host: "::" }, / advertise: missing; needed with host ::,/],
    [{ host: "[::]" }, / advertise: missing; needed with host ::,/],
    [
      { advertise: "http://0.0.0.0:31001" },
      /advertise: is "http:\/\/0\.0\.0\.0:31001"; .*connect to/,
    ],
    [{ advertise: "http://[::]:31001" }, /advertise: is "http:\/\/\[::\]:31001"; .*connect to/],
    [{ advertise: "http://::1:31001" }, /advertise: is "http:\/\/::1:31001"; .*brackets/],
    [{ "rpc.advertise": "0.0.0.0" }, /rpc\.advertise: is "0\.0\.0\.0"; .*connect to/],
    [{ host: "127.0.0.1:31001" }, /host: is "127\.0\.0\.1:31001"; .*without a port/],
    [{ rocketmq: "::1:8081" }, /rocketmq: is "::1:8081"; .*brackets/],
    [{ redis: "redis://gru@[::1]:6379" }, /redisPassword: .*user.*GRU_REDIS_PASSWORD/],
  ] as const
) {
  Deno.test(`a spear refuses to start with ${JSON.stringify(flags)}`, () => {
    assert.throws(() => spear(flags), (error: Error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("addresses of all kinds are taken by the keys that hold them", () => {
  const all = { rocketmq: "[::1]:8081", advertise: "http://[::1]:31001", "rpc.advertise": "[::1]" };
  assert.equal(spear(all).rpc.advertise, "::1");
  const password = { GRU_REDIS_PASSWORD: "a-password" };
  for (const redis of ["redis://u@[::1]:1/2", "cluster:u@[::1]:1,h:2", "sentinel:u@[::1]:1/n"]) {
    assert.equal(spear({ redis }, password).redis, redis);
  }
  for (const redis of ["cluster:[::1]:1,h:2", "sentinel:[::1]:1/n"]) {
    assert.equal(profile("stat", statSchema, { redis }).redis, redis);
  }
  assert.throws(
    () => profile("stat", statSchema, { redis: "http://h:1" }),
    /redis: is "http:\/\/h:1"; expected memory: or redis:/,
  );
});
