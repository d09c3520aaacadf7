import assert from "node:assert/strict";
import fc from "fast-check";
import { allows, everything, type Pattern, readRights, writeRights } from "./rights.ts";

Deno.test("allows matches exact ids, ranges with both ends, and prefixes", () => {
  const patterns: Pattern[] = [10, "lobby", [100, 199], "room:*"];
  for (const id of ["10", "lobby", "100", "150", "199", "room:", "room:7"]) {
    assert.equal(allows(patterns, id), true, id);
  }
  for (const id of ["1", "lobby2", "99", "200", "0150", "1e2", "150.5", "roo", " 150", "*", ""]) {
    assert.equal(allows(patterns, id), false, id);
  }
  assert.equal(allows(["*"], "any"), true);
  assert.equal(allows([], "any"), false);
});

Deno.test("allows matches only the integers of a range", () => {
  const integer = fc.maxSafeInteger();
  fc.assert(fc.property(integer, integer, integer, (from, to, id) => {
    assert.equal(allows([[from, to]], String(id)), from <= id && id <= to);
  }));
});

Deno.test("readRights grants no group and every user when the claims are missing", () => {
  assert.deepEqual(readRights({}), { listen: [], send: [], users: ["*"] });
  assert.deepEqual(readRights({ groups: [1], users: [] }), { listen: [1], send: [1], users: [] });
  assert.deepEqual(readRights({ groups: { listen: ["a*"] } }), {
    listen: ["a*"],
    send: [],
    users: ["*"],
  });
  assert.deepEqual(readRights(writeRights(everything)), everything);
});

for (
  const [what, claims, message] of [
    ["text for groups", { groups: "10" }, /groups: expected a list/],
    ["null for groups", { groups: null }, /groups: expected a list/],
    ["a number for a list", { groups: { send: 5 } }, /groups\.send: expected a list/],
    ["a star inside", { groups: ["a*b"] }, /groups\[0\]: expected an id/],
    ["a range of three", { groups: [1, [1, 2, 3]] }, /groups\[1\]/],
    ["half a number", { users: [1.5] }, /users\[0\]/],
    ["an empty id", { groups: { listen: [""] } }, /groups\.listen\[0\]/],
    ["an endless id", { groups: ["x".repeat(130)] }, /groups\[0\]/],
    ["too much", { groups: Array(1001).fill(1) }, /at most 1000 entries, got 1001/],
  ] as const
) {
  Deno.test(`readRights refuses ${what}`, () => {
    assert.throws(() => readRights(claims), { name: "TypeError", message });
  });
}

Deno.test("readRights turns any claims into usable rights, or names the wrong claim", () => {
  fc.assert(fc.property(fc.anything(), fc.anything(), fc.string(), (groups, users, id) => {
    let rights;
    try {
      rights = readRights({ groups, users });
    } catch (error) {
      assert.match((error as Error).message, /^(groups|users)/);
      return;
    }
    for (const list of Object.values(rights)) allows(list, id);
  }));
});
