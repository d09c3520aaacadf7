import assert from "node:assert/strict";
import fc from "fast-check";
import { Roster } from "./roster.ts";

Deno.test("Roster tells the net changes between two takings, whatever came and went", () => {
  const step = fc.oneof(
    fc.constant("take" as const),
    fc.record({ user: fc.constantFrom("1", "2"), group: fc.constantFrom("", "a", "b") }),
  );
  fc.assert(fc.property(fc.array(step), (steps) => {
    const roster = new Roster();
    const present = new Set<string>();
    const told = new Set<string>();
    const apply = (group: string, { joined, left }: { joined: string[]; left: string[] }) => {
      for (const user of joined) {
        assert.ok(!told.has(`${group} ${user}`) && told.add(`${group} ${user}`));
      }
      for (const user of left) assert.ok(told.delete(`${group} ${user}`));
    };
    for (const step of [...steps, "take" as const]) {
      if (step === "take") {
        const { users, groups } = roster.take();
        apply("", users);
        for (const { groupId, ...changes } of groups) apply(groupId, changes);
        assert.deepEqual(told, present);
        continue;
      }
      const { user, group } = step;
      // Who is there leaves, who is not comes.
      const leaves = present.delete(`${group} ${user}`);
      if (!leaves) present.add(`${group} ${user}`);
      if (group === "") leaves ? roster.userLeft(user) : roster.userJoined(user);
      else if (leaves) roster.groupLeft(group, user);
      else roster.groupJoined(group, user);
    }
  }));
});
