import assert from "node:assert/strict";
import { parseRedisAddress } from "./address.ts";

Deno.test("parseRedisAddress knows one server, a cluster and sentinels, users and IPv6 in each", () => {
  for (
    const [address, parsed] of [
      ["redis://127.0.0.1:6379/2", { place: { host: "127.0.0.1", port: 6379, db: 2 } }],
      ["redis://redis.example", { place: { host: "redis.example", port: 6379 } }],
      ["rediss://gru@[::1]:6380", {
        username: "gru",
        place: { host: "::1", port: 6380, tls: {} },
      }],
      ["redis://a%40b@[fe80::1]/0", {
        username: "a@b",
        place: { host: "fe80::1", port: 6379, db: 0 },
      }],
      ["sentinel:s1:26379,[::1]:26380/gru", {
        place: {
          sentinels: [{ host: "s1", port: 26379 }, { host: "::1", port: 26380 }],
          name: "gru",
        },
      }],
      ["sentinel:app@s1:26379/gru", {
        username: "app",
        place: { sentinels: [{ host: "s1", port: 26379 }], name: "gru" },
      }],
    ] as const
  ) {
    assert.deepEqual(parseRedisAddress(address), { kind: "one", ...parsed }, address);
  }
  assert.deepEqual(parseRedisAddress("cluster:10.0.0.1:7000,[::1]:7001"), {
    kind: "cluster",
    nodes: [{ host: "10.0.0.1", port: 7000 }, { host: "::1", port: 7001 }],
  });
  assert.deepEqual(parseRedisAddress("shards:gru@10.0.0.1:6379,[::1]:6380"), {
    kind: "shards",
    username: "gru",
    nodes: [{ host: "10.0.0.1", port: 6379 }, { host: "::1", port: 6380 }],
  });
  assert.deepEqual(parseRedisAddress("cluster:gru@h:7000"), {
    kind: "cluster",
    username: "gru",
    nodes: [{ host: "h", port: 7000 }],
  });
});

/** That people have in passwords, and that mean something in an address. */
const signs = ["/", "@", ":", " ", "?", "#", "%", "//", "@@", "/ @", "1/"];

Deno.test("parseRedisAddress repeats what it does not know, and no password", () => {
  const wrong = [
    ...[
      "",
      "127.0.0.1:6379",
      "redis://",
      "cluster:",
      "cluster:h",
      "cluster:h:1/name",
      "cluster:h:1,",
      "shards:h",
      "shards:h:1/0",
      "shards:h:1,,h:2",
    ],
    ...[
      "sentinel:h:1",
      "sentinel:h:99999/name",
      "sentinel:h:1/",
      "redis://::1:6379",
      "redis://@h:1",
    ],
    ...["redis://[::1", "redis://[::g]:1", "redis://h:0", "redis://h:1/x", "redis://h:1/0/1"],
    ...["redis://h:1,h:2", "redis://%zz@h:1", "cluster:::1:7000", "sentinel:h:1/a/b", "http://h:1"],
  ];
  for (const address of wrong) {
    assert.throws(
      () => parseRedisAddress(address),
      (error: Error) => error.message.endsWith(`, got ${address}`),
      address,
    );
  }
  for (
    const address of [
      "redis://user:hunter22@h:1",
      "cluster::hunter22@h:1",
      "sentinel:u:hunter22@h:1/n",
      ...signs.flatMap((sign) => [
        `redis://user:a${sign}hunter22@h:1`,
        `rediss://:a${sign}hunter22@h:1`,
        `cluster:u:a${sign}hunter22@h:1`,
        `sentinel::a${sign}hunter22@h:1/n`,
        `redis:u:a${sign}hunter22@h:1`,
        `u:a${sign}hunter22@h:1`,
      ]),
    ]
  ) {
    assert.throws(
      () => parseRedisAddress(address),
      (error: Error) => !error.message.includes("hunter22") && error.message.includes("***"),
      address,
    );
  }
});
