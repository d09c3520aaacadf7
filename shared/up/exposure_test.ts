import assert from "node:assert/strict";
import { ConfigError, loadConfig } from "@gru/shared/config";
import { isLoopback } from "@gru/shared/http/exposure";
import { idgenSchema } from "../../idgen/idgen.ts";
import { minionsSchema } from "../../minions/minions.ts";
import { spearSchema } from "../../spear/config.ts";
import { statSchema } from "../../stat/stat.ts";
import { ticketSchema } from "../../ticket/ticket.ts";

const schemas = { idgenSchema, minionsSchema, spearSchema, statSchema, ticketSchema };
const secrets = {
  GRU_CLUSTER_KEY: "a cluster key",
  GRU_ZOOKEEPER_CREDENTIALS: "gru:digest word",
  GRU_REDIS_PASSWORD: "a redis word",
  GRU_STAT_API_KEY: "an api key",
  GRU_MINIONS_PASSWORD: "a console word",
};

function load(program: string, flags: Record<string, string>, environment: Record<string, string>) {
  return loadConfig({
    program,
    schema: schemas[`${program}Schema` as keyof typeof schemas] as typeof spearSchema,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    args: Object.entries({ profile: "test1", ...flags }).map(([k, v]) => `--${k}=${v}`),
    environment: (name) => environment[name],
  });
}

/** The first words of each line of the refusal, which is the key. */
function keysRefused(program: string, flags: Record<string, string>, environment = {}): string[] {
  try {
    load(program, { host: "10.0.0.5", ...flags }, environment);
    return [];
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    return error.message.split("\n").map((line) =>
      /profile test1: ([\w.]+):/.exec(line)?.[1] ?? line
    );
  }
}

const zookeeper = ["zookeeper.acl", "zookeeper.credentials"];

for (
  const [program, flags, keys] of [
    ["ticket", {}, ["rpc.clusterKey", ...zookeeper]],
    ["idgen", {}, ["rpc.clusterKey", ...zookeeper]],
    ["minions", {}, ["password", "rpc.clusterKey", ...zookeeper]],
    ["stat", {}, ["apiKey", "redisPassword", "rpc.clusterKey", ...zookeeper]],
    ["stat", { redis: "memory:", registry: "memory:" }, ["apiKey", "rpc.clusterKey"]],
    ["stat", { redis: "rediss://10.0.0.6:6379" }, [
      "apiKey",
      "redisPassword",
      "rpc.clusterKey",
      ...zookeeper,
    ]],
    ["spear", {}, ["redisPassword", "rpc.clusterKey", ...zookeeper]],
    ["spear", { mode: "rocketmq" }, ["redisPassword", "rpc.clusterKey", ...zookeeper]],
    ["spear", { mode: "single" }, ["rpc.clusterKey"]],
  ] as const
) {
  Deno.test(`${program} ${JSON.stringify(flags)} beyond its machine names all guards that are missing`, () => {
    assert.deepEqual([...new Set(keysRefused(program, flags))].sort(), [...keys].sort());
    assert.deepEqual(keysRefused(program, { "zookeeper.acl": "digest", ...flags }, secrets), []);
    assert.ok(load(program, flags, { GRU_MINIONS_PASSWORD: "a console word" }));
  });
}

Deno.test("the refusal names host and variables, and the secrets of the tokens with them", () => {
  const flags = { host: "0.0.0.0", "auth.scheme": "jwt" };
  assert.throws(() => load("ticket", flags, {}), ({ message }) => {
    assert.match(message, /rpc\.clusterKey: missing: host is 0\.0\.0\.0, .*GRU_CLUSTER_KEY/);
    assert.match(message, /zookeeper\.acl: is "open"; expected digest/);
    return /GRU_TOKEN2_SECRET/.test(message);
  });
});

Deno.test("only names and addresses of this machine count as loopback", () => {
  for (const host of ["127.0.0.1", "127.3.2.1", "::1", "localhost"]) assert.ok(isLoopback(host));
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example", "localhost.example"]) {
    assert.ok(!isLoopback(host));
  }
});
