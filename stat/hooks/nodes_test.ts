import assert from "node:assert/strict";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { recordOrderlyStop } from "@gru/shared/registry/orderly_stop";
import type { Instance } from "@gru/shared/registry/registry";
import { MemoryStore } from "../store_memory.ts";
import { tellOfNodes } from "./nodes.ts";
import { lines } from "./telling_conformance.ts";

Deno.test("a spear joins, leaves in order or dies, and its next life is told behind that", async () => {
  await using store = new MemoryStore();
  await using registry = new MemoryRegistry();
  const { telling } = store;
  telling.stream.holder = "1";
  await telling.reset("1", { graceMs: 0, caller: "a" });
  const spear = (name: string, startedAt: number): Instance => (
    { service: "spear", addresses: {}, meta: {}, name, startedAt }
  );
  const tell = (...live: Instance[]) => tellOfNodes("1", telling, registry, live);
  await tell(spear("spear1", 1), spear("spear2", 2));
  await tell(spear("spear1", 1), spear("spear2", 2));
  await tellOfNodes("1", telling, registry, undefined);
  await recordOrderlyStop(registry, { service: "spear", name: "spear1", startedAt: 1 });
  await tell(spear("spear2", 3));
  await tell(spear("spear2", 3));
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
