import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { waitFor } from "@gru/shared/testing/harness";
import { noteHappenings } from "./happenings.ts";
import { MemoryStore } from "./store_memory.ts";

Deno.test("one that is cut off and comes back stands in the audit log each time, and once however many stats see it", async () => {
  await using registry = new MemoryRegistry();
  const store = new MemoryStore();
  const options = { registry, store, keepMs: 60_000, log: logger("stat") };
  using _first = await noteHappenings(options);
  using _second = await noteHappenings(options);
  const told = async () =>
    (await store.audits(100)).toReversed().map(({ command, target }) => `${command} ${target}`);
  // The same life: its session has ended and it registers again.
  const life = { service: "spear", name: "spear2", addresses: {}, startedAt: 1, meta: {} };
  const expected: string[] = [];
  for (let i = 0; i < 2; i++) {
    const registration = await registry.register(life);
    expected.push("joined spear2");
    await waitFor(async () => (await told()).length >= expected.length);
    await registration[Symbol.asyncDispose]();
    expected.push("died spear2");
    await waitFor(async () => (await told()).length >= expected.length);
  }
  assert.deepEqual((await told()).map((line) => line.replace("left", "died")), expected);
});
