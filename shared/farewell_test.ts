import assert from "node:assert/strict";
import { saidFarewell, sayFarewell } from "./farewell.ts";
import { MemoryRegistry } from "./registry_memory.ts";

Deno.test("saidFarewell tells the life that stopped in order from those before and after it", async () => {
  await using registry = new MemoryRegistry();
  const life = (startedAt: number, name = "spear1") => ({ service: "spear", name, startedAt });
  assert.equal(await saidFarewell(registry, life(1)), false);
  await sayFarewell(registry, life(1));
  assert.equal(await saidFarewell(registry, life(1)), true);
  assert.equal(await saidFarewell(registry, life(2)), false);
  assert.equal(await saidFarewell(registry, life(1, "spear2")), false);
  await sayFarewell(registry, life(3));
  assert.equal(await saidFarewell(registry, life(1)), false);
  assert.equal(await saidFarewell(registry, life(3)), true);
});

Deno.test("sayFarewell does not hold up who stops while the registry is away", async () => {
  const registry = new MemoryRegistry();
  await registry[Symbol.asyncDispose]();
  await sayFarewell(registry, { service: "spear", name: "spear1", startedAt: 1 });
});
