import assert from "node:assert/strict";
import fc from "fast-check";
import { CompactMap, CompactSet } from "./compact.ts";

const steps = fc.array(
  fc.record({
    what: fc.constantFrom("add" as const, "delete" as const, "clear" as const),
    key: fc.constantFrom("", "a", "b", "c"),
    value: fc.option(fc.integer(), { nil: undefined }),
  }),
  { maxLength: 30 },
);

Deno.test("a compact set behaves like a Set", () => {
  fc.assert(fc.property(steps, (steps) => {
    const [compact, set] = [new CompactSet<string>(), new Set<string>()];
    for (const { what, key } of steps) {
      if (what === "delete") assert.equal(compact.delete(key), set.delete(key));
      else [compact, set].forEach((one) => one.add(key));
      assert.deepEqual([...compact], [...set]);
      assert.equal(compact.size, set.size);
      for (const key of ["", "a", "b", "c"]) assert.equal(compact.has(key), set.has(key));
    }
  }));
});

Deno.test("a compact map behaves like a Map", () => {
  fc.assert(fc.property(steps, (steps) => {
    let compact = new CompactMap<string, number | undefined>([]);
    const map = new Map<string, number | undefined>();
    for (const { what, key, value } of steps) {
      if (what === "delete") assert.equal(compact.delete(key), map.delete(key));
      else if (what === "clear") [compact, map].forEach((one) => one.clear());
      else [compact, map].forEach((one) => one.set(key, value));
      assert.deepEqual([...compact], [...map]);
      assert.deepEqual([...compact.values()], [...map.values()]);
      assert.equal(compact.size, map.size);
      for (const key of ["", "a", "b", "c"]) {
        assert.deepEqual([compact.has(key), compact.get(key)], [map.has(key), map.get(key)]);
      }
      compact = new CompactMap(compact);
    }
  }));
});

Deno.test("an element that is removed while iterating is visited once", () => {
  for (const keys of [["a"], ["a", "b", "c"]]) {
    const set = new CompactSet<string>();
    for (const key of keys) set.add(key);
    const map = new CompactMap<string, string>(keys.map((key) => [key, key]));
    const seen = { set: [] as string[], map: [] as string[] };
    for (const key of set) seen.set.push(key) && set.delete(key);
    for (const key of map.values()) seen.map.push(key) && map.delete(key);
    assert.deepEqual(seen, { set: keys, map: keys });
    assert.deepEqual([set.size, map.size], [0, 0]);
  }
});
