import assert from "node:assert/strict";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { recordOrderlyStop } from "@gru/shared/registry/orderly_stop";
import { MemoryStore } from "../store_memory.ts";
import { NodeTeller } from "./node_teller.ts";
import { lines } from "./telling_conformance.ts";

const spear = { service: "spear", addresses: {}, meta: {} };

Deno.test("a program joins, leaves in order or dies, and its next life is told behind that", async () => {
  await using store = new MemoryStore();
  await using registry = new MemoryRegistry();
  const { telling } = store;
  telling.stream.holder = "1";
  await telling.reset("1", { graceMs: 0, caller: "a" });
  using first = await NodeTeller.open(registry, telling);
  const one = await registry.register({ ...spear, name: "spear1", startedAt: 1 });
  const two = await registry.register({ ...spear, name: "spear2", startedAt: 2 });
  await first.step("1");
  await first.step("1");
  await recordOrderlyStop(registry, { service: "spear", name: "spear1", startedAt: 1 });
  await one[Symbol.asyncDispose]();
  await two[Symbol.asyncDispose]();
  await using _again = await registry.register({ ...spear, name: "spear2", startedAt: 3 });
  // Another stat, which has not seen the first lives.
  using second = await NodeTeller.open(registry, telling);
  await second.step("1");
  await first.step("1");
  const told = lines(telling.stream.events.slice(1));
  assert.deepEqual(told.filter((line) => line.endsWith("spear1")), [
    "node.joined spear1",
    "node.left spear1",
  ]);
  assert.deepEqual(told.filter((line) => line.endsWith("spear2")), [
    "node.joined spear2",
    "node.died spear2",
    "node.joined spear2",
  ]);
});
