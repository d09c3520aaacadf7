import assert from "node:assert/strict";
import { recordOrderlyStop } from "@gru/shared/registry/orderly_stop";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { waitFor } from "@gru/shared/testing/harness";
import { watchCluster } from "./cluster.ts";

Deno.test("watchCluster reports instances that joined, began to drain, left in order, and died", async () => {
  await using registry = new MemoryRegistry();
  const register = (name: string) =>
    registry.register({ service: "spear", name, addresses: {}, startedAt: 1, meta: {} });
  await using _there = await register("spear1");
  using cluster = await watchCluster(registry, ["spear", "stat"]);
  assert.deepEqual(cluster.events, [], "instances of the first view have not joined");

  const orderly = await register("spear2");
  const sudden = await register("spear3");
  await orderly.update({ meta: { draining: true } });
  await sudden.update({ meta: { draining: true } });
  await sudden[Symbol.asyncDispose]();
  await waitFor(() => cluster.events.length === 5);
  await recordOrderlyStop(registry, { service: "spear", name: "spear2", startedAt: 1 });
  await orderly[Symbol.asyncDispose]();
  await waitFor(() => cluster.events.length === 6);

  assert.deepEqual(
    cluster.events.map(({ kind, name }) => `${name} ${kind}`),
    [
      "spear2 left",
      "spear3 died",
      "spear3 draining",
      "spear2 draining",
      "spear3 joined",
      "spear2 joined",
    ],
  );
  assert.deepEqual(cluster.view.instances.map(({ name }) => name), ["spear1"]);
});

Deno.test("watchCluster says how many connections a spear had that died, also when nobody has looked", async () => {
  await using registry = new MemoryRegistry();
  using cluster = await watchCluster(registry, ["spear"]);
  const life = { service: "spear", addresses: {}, startedAt: 1, meta: { load: 17 } };
  const registrations = [];
  for (const name of ["spear1", "spear2"]) {
    registrations.push(await registry.register({ ...life, name }));
  }
  cluster.connections.set("spear2", 18);
  for (const one of registrations) await one[Symbol.asyncDispose]();
  await waitFor(() => cluster.events.length === 4);
  const died = cluster.events.filter(({ kind }) => kind === "died");
  assert.deepEqual(died.map(({ name, connections }) => `${name} ${connections}`).sort(), [
    "spear1 17",
    "spear2 18",
  ]);
});
