import assert from "node:assert/strict";
import { z } from "zod";
import { logger } from "./log.ts";
import { openRegistry, registryShape } from "./open_registry.ts";
import { MemoryRegistry } from "./registry/memory.ts";
import { serverTest } from "./testing/harness.ts";
import { startZookeeper } from "./testing/zookeeper.ts";

const schema = z.strictObject(registryShape);
const zookeeper = { sessionMs: 4000, acl: "open" };

Deno.test("registryShape accepts memory: and lists of ZooKeeper servers with a root, and nothing else", () => {
  for (
    const registry of [
      "memory:",
      "zookeeper://127.0.0.1:2181/gru",
      "zookeeper://a.example:2181,b.example:2182/company/gru-1_x.y",
      "zookeeper://[::1]:2181/gru",
      "zookeeper://[2001:db8::1]:2181,127.0.0.1:2182/gru",
    ]
  ) {
    assert.equal(schema.parse({ registry, zookeeper }).registry, registry);
  }
  for (
    const registry of [
      "",
      "memory",
      "zookeeper://127.0.0.1/gru",
      "zookeeper://127.0.0.1:2181",
      "zookeeper://127.0.0.1:2181/",
      "zookeeper://127.0.0.1:2181/gru/",
      "zookeeper://127.0.0.1:2181,/gru",
      "zookeeper://127.0.0.1:2181/gru/..",
      "zookeeper://127.0.0.1:2181/./gru",
      "zookeeper://::1:2181/gru",
      "zookeeper://[::1]/gru",
      "zookeeper://[::g]:2181/gru",
      "zookeeper://127.0.0.1:99999/gru",
      "etcd://127.0.0.1:2379/gru",
    ]
  ) {
    assert.equal(schema.safeParse({ registry, zookeeper }).success, false, registry);
  }
});

Deno.test("registryShape requires user:password for acl digest", () => {
  for (const credentials of [undefined, "user", ":"]) {
    const parsed = schema.safeParse({
      registry: "memory:",
      zookeeper: { ...zookeeper, acl: "digest", credentials },
    });
    assert.equal(parsed.success, credentials === ":", `${credentials}`);
  }
});

Deno.test("openRegistry opens the memory engine for memory:", async () => {
  const config = schema.parse({ registry: "memory:", zookeeper });
  await using registry = await openRegistry(config, logger("test"));
  assert.ok(registry instanceof MemoryRegistry);
});

serverTest({
  name: "openRegistry connects programs that have the same root and credentials",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    const open = (root: string) => {
      const registry = `zookeeper://${server.address}/${root}`;
      const digest = { ...zookeeper, acl: "digest", credentials: "user:password" };
      return openRegistry(schema.parse({ registry, zookeeper: digest }), logger("test"));
    };
    await using a = await open("company/gru");
    await using b = await open("company/gru");
    await using other = await open("company/other");
    await a.cell("cell").write("1", undefined);
    assert.equal((await b.cell("cell").read())?.value, "1");
    assert.equal(await other.cell("cell").read(), undefined);
  },
});
