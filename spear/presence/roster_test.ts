import assert from "node:assert/strict";
import fc from "fast-check";
import { type Change, partsOf, Roster } from "./roster.ts";

Deno.test("Roster reports the right users after each take, whatever users joined and left", () => {
  const step = fc.oneof(
    fc.constant("take" as const),
    fc.record({ user: fc.constantFrom("1", "2"), group: fc.constantFrom("", "a", "b") }),
  );
  fc.assert(fc.property(fc.array(step), (steps) => {
    const roster = new Roster();
    const present = new Set<string>();
    const reported = new Set<string>();
    // A user may be reported that is known already: a full report read in the meantime contained it.
    const apply = ({ groupId = "", joined, left }: Change) => {
      for (const user of joined) reported.add(`${groupId} ${user}`);
      for (const user of left) reported.delete(`${groupId} ${user}`);
      assert.deepEqual(joined.filter((user) => left.includes(user)), []);
    };
    for (const step of [...steps, "take" as const]) {
      if (step === "take") {
        for (const change of roster.take()) apply(change);
        assert.deepEqual(reported, present);
        continue;
      }
      const { user, group } = step;
      // A present user leaves, an absent one joins.
      const leaves = present.delete(`${group} ${user}`);
      if (!leaves) present.add(`${group} ${user}`);
      if (group === "") leaves ? roster.userLeft(user) : roster.userJoined(user);
      else if (leaves) roster.groupLeft(group, user);
      else roster.groupJoined(group, user);
    }
  }));
});

Deno.test("partsOf loses nothing, splits large changes, and marks the last part", () => {
  const names = fc.uniqueArray(fc.nat(50).map(String), { maxLength: 20 });
  const change = fc.record({
    groupId: fc.option(fc.constantFrom("a", "b"), { nil: undefined }),
    joined: names,
    left: names,
  });
  fc.assert(fc.property(fc.array(change), fc.integer({ min: 1, max: 9 }), (changes, size) => {
    const parts = [...partsOf(changes, size)];
    assert.deepEqual(parts.map(({ more }) => more), parts.map((_, i) => i < parts.length - 1));
    for (const { batch } of parts) {
      const count = batch.reduce((sum, { joined, left }) => sum + joined.length + left.length, 0);
      assert.ok(count <= size, `${count} names in one part`);
    }
    const flat = (all: readonly Change[]) =>
      all.flatMap(({ groupId, joined, left }) => [
        ...joined.map((name) => `+${groupId} ${name}`),
        ...left.map((name) => `-${groupId} ${name}`),
      ]).sort();
    assert.deepEqual(flat(parts.flatMap(({ batch }) => batch)), flat(changes));
  }));
});

Deno.test("Roster reports a user that joined and left between two takes as left", () => {
  const roster = new Roster();
  roster.userJoined("1");
  roster.userLeft("1");
  assert.deepEqual(roster.take(), [{ groupId: undefined, joined: [], left: ["1"] }]);
});
