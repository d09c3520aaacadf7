import assert from "node:assert/strict";
import { recordOrderlyStop, stoppedInOrder } from "./orderly_stop.ts";
import { MemoryRegistry } from "./memory.ts";

Deno.test("stoppedInOrder is true for the life that stopped in order, and not for those before and after it", async () => {
  await using registry = new MemoryRegistry();
  const life = (startedAt: number, name = "spear1") => ({ service: "spear", name, startedAt });
  assert.equal(await stoppedInOrder(registry, life(1)), false);
  await recordOrderlyStop(registry, life(1));
  assert.equal(await stoppedInOrder(registry, life(1)), true);
  assert.equal(await stoppedInOrder(registry, life(2)), false);
  assert.equal(await stoppedInOrder(registry, life(1, "spear2")), false);
  await recordOrderlyStop(registry, life(3));
  assert.equal(await stoppedInOrder(registry, life(1)), false);
  assert.equal(await stoppedInOrder(registry, life(3)), true);
});

Deno.test("recordOrderlyStop does not delay a stop while the registry cannot be reached", async () => {
  const registry = new MemoryRegistry();
  await registry[Symbol.asyncDispose]();
  await recordOrderlyStop(registry, { service: "spear", name: "spear1", startedAt: 1 });
});

Deno.test("orderly stops of thousands of names fill one cell of bounded size", async () => {
  await using registry = new MemoryRegistry();
  for (let at = 0; at < 3000; at++) {
    await recordOrderlyStop(registry, { service: "spear", name: `spear${at}`, startedAt: at });
  }
  const stored = await registry.cell("farewells/spear").read();
  assert.ok((stored?.value.length ?? Infinity) < 8000, `${stored?.value.length} characters`);
  assert.equal(
    await stoppedInOrder(registry, { service: "spear", name: "spear2999", startedAt: 2999 }),
    true,
  );
  assert.equal(
    await stoppedInOrder(registry, { service: "spear", name: "spear0", startedAt: 0 }),
    false,
  );
});

Deno.test("recordOrderlyStop records all programs that stop at the same moment", async () => {
  await using registry = new MemoryRegistry();
  const lives = Array.from({ length: 50 }, (_, index) => ({
    service: "spear",
    name: `spear${index}`,
    startedAt: index,
  }));
  await Promise.all(lives.map((life) => recordOrderlyStop(registry, life)));
  for (const life of lives) assert.equal(await stoppedInOrder(registry, life), true, life.name);
});
