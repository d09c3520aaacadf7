import assert from "node:assert/strict";
import { type Cell, ConflictError, RegistryUnavailableError } from "@gru/shared/registry/registry";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { Ceiling } from "./ceiling.ts";
import { endMs } from "./snowflake.ts";

const windowMs = 3000;

Deno.test("Ceiling starts at the clock, or at the stored ceiling when that is later", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const first = new Ceiling(cell, windowMs);
  await first.reserve(10_000);
  assert.deepEqual(first.ranges, [{ fromMs: 10_000, ceilingMs: 13_000 }]);
  const second = new Ceiling(cell, windowMs);
  await second.reserve(9000);
  assert.deepEqual(second.ranges, [{ fromMs: 13_000, ceilingMs: 16_000 }]);
});

Deno.test("Ceiling writes only after a third of its window is used", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const ceiling = new Ceiling(cell, windowMs);
  for (const usedMs of [10_000, 10_500, 10_999]) await ceiling.reserve(usedMs);
  assert.deepEqual(await cell.read(), { value: "13000", version: 0 });
  await ceiling.reserve(11_000);
  assert.deepEqual(ceiling.ranges, [{ fromMs: 10_000, ceilingMs: 14_000 }]);
  assert.deepEqual(await cell.read(), { value: "14000", version: 1 });
});

Deno.test("Ceiling rejects with ConflictError after another process has written the cell", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const fenced = new Ceiling(cell, windowMs);
  await fenced.reserve(10_000);
  await new Ceiling(cell, windowMs).reserve(10_000);
  await assert.rejects(fenced.reserve(12_000), ConflictError);
});

Deno.test("Ceiling skips milliseconds that a write with an unknown outcome may have reserved", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  let isLost = false;
  const doubtful: Cell = {
    read: () => cell.read(),
    write: async (value, expected) => {
      const stored = await cell.write(value, expected);
      if (isLost) throw new RegistryUnavailableError("no answer");
      return stored;
    },
  };
  const ceiling = new Ceiling(doubtful, windowMs);
  await ceiling.reserve(10_000);
  isLost = true;
  await assert.rejects(ceiling.reserve(12_000), RegistryUnavailableError);
  assert.deepEqual(ceiling.ranges, [{ fromMs: 10_000, ceilingMs: 13_000 }]);
  isLost = false;
  await ceiling.reserve(12_500);
  assert.deepEqual(ceiling.ranges, [
    { fromMs: 10_000, ceilingMs: 13_000 },
    { fromMs: 15_000, ceilingMs: 15_500 },
  ]);
  await ceiling.reserve(13_500);
  assert.deepEqual(ceiling.ranges, [{ fromMs: 15_000, ceilingMs: 16_500 }]);
});

Deno.test("Ceiling never goes below its own range after the registry lost the cell", async () => {
  await using registry = new MemoryRegistry();
  const cells = ["a", "b"].map((key) => registry.cell(key));
  let at = 0;
  const wiped: Cell = {
    read: async () => await cells[at]?.read(),
    write: (value, expected) => (cells[at] as Cell).write(value, expected),
  };
  let nowMs = 0;
  const ceiling = new Ceiling(wiped, windowMs, () => nowMs);
  await ceiling.reserve(10_000);
  at = 1;
  await assert.rejects(ceiling.reserve(12_000), ConflictError);
  assert.deepEqual(ceiling.ranges, []);
  nowMs = 500;
  await ceiling.reserve(9000);
  // It also skips what other processes may have reserved in the meantime.
  assert.deepEqual(ceiling.ranges, [{ fromMs: 16_500, ceilingMs: 19_500 }]);
});

Deno.test("Ceiling rejects a stored value that is not a time", async () => {
  await using registry = new MemoryRegistry();
  for (const [index, value] of ["", "soon", "-5", "99999999999999999"].entries()) {
    const cell = registry.cell(`c${index}`);
    await cell.write(value, undefined);
    await assert.rejects(new Ceiling(cell, windowMs).reserve(10_000), /stored ceiling is/);
  }
});

Deno.test("Ceiling reserves nothing beyond the last possible id", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const ceiling = new Ceiling(cell, windowMs);
  await assert.rejects(ceiling.reserve(endMs - windowMs + 1), /Ids end at/);
  assert.equal(await cell.read(), undefined);
  await ceiling.reserve(endMs - windowMs);
  await assert.rejects(ceiling.reserve(endMs - 1), /Ids end at/);
});

Deno.test("Ceiling writes the highest ceiling it saw back to a registry that lost it", async () => {
  await using registry = new MemoryRegistry();
  const [lost, restored, emptied] = ["a", "b", "c"].map((key) => registry.cell(key)) as Cell[];
  let cell = lost as Cell;
  const changing: Cell = {
    read: () => cell.read(),
    write: (value, expected) => cell.write(value, expected),
  };
  let nowMs = 0;
  const standby = new Ceiling(changing, windowMs, () => nowMs);
  await standby.remember();
  assert.equal(await lost?.read(), undefined, "no ceiling was seen, so none is written back");
  await new Ceiling(lost as Cell, windowMs).reserve(10_000);
  await standby.remember();
  assert.equal((await lost?.read())?.version, 0);

  nowMs = 700;
  cell = emptied as Cell;
  await standby.remember();
  assert.equal((await emptied?.read())?.value, `${13_000 + 700 + windowMs}`);
  cell = restored as Cell;
  await restored?.write("11000", undefined);
  await standby.remember();
  assert.ok(Number((await restored?.read())?.value) >= 13_000 + 700 + windowMs);

  // A later ceiling that another process has written stays.
  const found = await restored?.read();
  const later = await restored?.write("90000", found);
  await standby.remember();
  assert.deepEqual(await restored?.read(), later);
});

Deno.test("Ceiling keeps what it owns after a write with an unknown outcome that never happened", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  let isAway = false;
  const doubtful: Cell = {
    read: () => cell.read(),
    write: (value, expected) =>
      isAway
        ? Promise.reject(new RegistryUnavailableError("no answer"))
        : cell.write(value, expected),
  };
  const ceiling = new Ceiling(doubtful, windowMs);
  await ceiling.reserve(10_000);
  isAway = true;
  await assert.rejects(ceiling.reserve(12_000), RegistryUnavailableError);
  isAway = false;
  await ceiling.reserve(12_000);
  assert.deepEqual(ceiling.ranges, [{ fromMs: 10_000, ceilingMs: 15_000 }]);
});

Deno.test("Ceiling keeps its milliseconds when a cell is lost, and gives them up when another process claimed it since", async () => {
  await using registry = new MemoryRegistry();
  let cell = registry.cell("before");
  const changing: Cell = {
    read: () => cell.read(),
    write: (value, expected) => cell.write(value, expected),
  };
  const keeper = new Ceiling(changing, windowMs, () => 0);
  await keeper.reserve(10_000);
  cell = registry.cell("emptied");
  await keeper.remember();
  assert.deepEqual(keeper.ranges, [{ fromMs: 10_000, ceilingMs: 13_000 }]);
  const later = new Ceiling(cell, windowMs);
  await later.reserve(11_000);
  assert.deepEqual(later.ranges, [{ fromMs: 16_000, ceilingMs: 19_000 }]);

  // A successor got here first, and its ceiling is higher than the one that the keeper knows.
  const late = new Ceiling(changing, windowMs, () => 0);
  cell = registry.cell("used");
  await late.reserve(10_000);
  cell = registry.cell("emptied and used again");
  await new Ceiling(cell, windowMs).reserve(11_000);
  await late.remember();
  assert.deepEqual(late.ranges, []);
});

Deno.test("Ceiling gives back what is not used, so that the next holder starts there", async () => {
  await using registry = new MemoryRegistry();
  const cell = registry.cell("c");
  const ceiling = new Ceiling(cell, 600_000);
  await ceiling.reserve(10_000);
  await ceiling.giveBack(11_000);
  assert.deepEqual(ceiling.ranges, []);
  const next = new Ceiling(cell, 600_000);
  await next.reserve(10_500);
  assert.deepEqual(next.ranges, [{ fromMs: 11_000, ceilingMs: 611_000 }]);
});
