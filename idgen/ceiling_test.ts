import assert from "node:assert/strict";
import { type Cell, ConflictError, RegistryUnavailableError } from "@gru/shared/registry";
import { MemoryRegistry } from "@gru/shared/registry_memory";
import { Ceiling } from "./ceiling.ts";
import { endMs } from "./snowflake.ts";

const windowMs = 3000;

Deno.test("Ceiling starts at the clock, or at what is stored when that is later", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const first = new Ceiling(cell, windowMs);
  await first.reserve(10_000);
  assert.deepEqual(first.range, { fromMs: 10_000, ceilingMs: 13_000 });
  const second = new Ceiling(cell, windowMs);
  await second.reserve(9000);
  assert.deepEqual(second.range, { fromMs: 13_000, ceilingMs: 16_000 });
});

Deno.test("Ceiling writes only when a third of its window is used", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const ceiling = new Ceiling(cell, windowMs);
  for (const usedMs of [10_000, 10_500, 10_999]) await ceiling.reserve(usedMs);
  assert.deepEqual(await cell.read(), { value: "13000", version: 0 });
  await ceiling.reserve(11_000);
  assert.deepEqual(ceiling.range, { fromMs: 10_000, ceilingMs: 14_000 });
  assert.deepEqual(await cell.read(), { value: "14000", version: 1 });
});

Deno.test("Ceiling rejects with ConflictError once another has written", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const fenced = new Ceiling(cell, windowMs);
  await fenced.reserve(10_000);
  await new Ceiling(cell, windowMs).reserve(10_000);
  await assert.rejects(fenced.reserve(12_000), ConflictError);
});

Deno.test("Ceiling leaves out what a write in doubt may have reserved", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  let isLost = false;
  const doubtful: Cell = {
    read: () => cell.read(),
    write: async (value, expected) => {
      const version = await cell.write(value, expected);
      if (isLost) throw new RegistryUnavailableError("no answer");
      return version;
    },
  };
  const ceiling = new Ceiling(doubtful, windowMs);
  await ceiling.reserve(10_000);
  isLost = true;
  await assert.rejects(ceiling.reserve(12_000), RegistryUnavailableError);
  assert.deepEqual(ceiling.range, { fromMs: 10_000, ceilingMs: 13_000 });
  isLost = false;
  await ceiling.reserve(12_000);
  assert.deepEqual(ceiling.range, { fromMs: 15_000, ceilingMs: 18_000 });
});

Deno.test("Ceiling never falls back below its own range when the cell was lost", async () => {
  await using registry = new MemoryRegistry();
  const cells = ["a", "b"].map((key) => registry.cell(key));
  let at = 0;
  const wiped: Cell = {
    read: async () => await cells[at]?.read(),
    write: async (value, expected) => await cells[at]?.write(value, expected) ?? 0,
  };
  const ceiling = new Ceiling(wiped, windowMs);
  await ceiling.reserve(10_000);
  at = 1;
  await assert.rejects(ceiling.reserve(12_000), ConflictError);
  await ceiling.reserve(9000);
  assert.deepEqual(ceiling.range, { fromMs: 13_000, ceilingMs: 16_000 });
});

Deno.test("Ceiling refuses a stored value that is no time", async () => {
  await using registry = new MemoryRegistry();
  for (const [index, value] of ["", "soon", "-5", "99999999999999999"].entries()) {
    const cell = registry.cell(`c${index}`);
    await cell.write(value, undefined);
    await assert.rejects(new Ceiling(cell, windowMs).reserve(10_000), /stored ceiling is/);
  }
});

Deno.test("Ceiling does not write what lies beyond the last id", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const ceiling = new Ceiling(cell, windowMs);
  await assert.rejects(ceiling.reserve(endMs - windowMs + 1), /Ids end at/);
  assert.equal(await cell.read(), undefined);
  await ceiling.reserve(endMs - windowMs);
  await assert.rejects(ceiling.reserve(endMs - 1), /Ids end at/);
});
