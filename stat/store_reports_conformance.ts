/** How a store applies reports of nodes: whole, of changes, in parts, in any order. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import type { Report } from "./contract.ts";
import { changes, full, group, load, opened, type StoreCase, ttlMs } from "./store_scene.ts";

export const reportCases: readonly StoreCase[] = [
  {
    name: "usersOfGroup is the union over live nodes, each user once",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      await store.apply(full("spear1", "a", 1, [["10", "1", "2"], ["11", "3"]]), ttlMs);
      await other.apply(full("spear2", "b", 1, [["10", "2", "4"]]), ttlMs);
      assert.deepEqual(await group(store, "10", "spear1", "spear2"), ["1", "2", "4"]);
      assert.deepEqual(await group(other, "10", "spear2", "spear9"), ["2", "4"]);
      assert.deepEqual(await group(store, "10"), []);
      assert.deepEqual(await group(store, "12", "spear1", "spear2"), []);
    },
  },
  {
    name: "distinct counts each user and each group of the live nodes once, however many there are",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const live = new Set(["spear1", "spear2", "spear3"]);
      const counts = async () => [
        await store.distinct("users", live),
        await other.distinct("groups", live),
      ];
      assert.deepEqual(await counts(), [0, 0]);
      const users = (from: number, to: number) =>
        Array.from({ length: to - from }, (_, i) => `${from + i}`);
      await store.apply(full("spear1", "a", 1, [["10", ...users(0, 40)], ["11", "1"]]), ttlMs);
      assert.deepEqual(await counts(), [40, 2]);
      await store.apply(full("spear2", "b", 1, [["10", ...users(30, 70)], ["ü", "31"]]), ttlMs);
      await store.apply(full("spear3", "c", 1, [["10", "1", "31"], ["12", "z", "é"]]), ttlMs);
      assert.deepEqual(await counts(), [72, 4]);
      live.delete("spear1");
      assert.deepEqual(await counts(), [43, 3]);
    },
  },
  {
    name: "nodesOfUser and counts include live nodes only, sorted",
    run: async (open) => {
      await using test = await opened(open);
      const { store } = test;
      await store.apply(full("spear2", "b", 1, [["10", "2", "4"]]), ttlMs);
      await store.apply(full("spear1", "a", 1, [["10", "1", "2"], ["11", "2"]]), ttlMs);
      const both = new Set(["spear2", "spear1", "spear3"]);
      assert.deepEqual(await store.nodesOfUser("2", both), ["spear1", "spear2"]);
      assert.deepEqual(await store.nodesOfUser("2", new Set(["spear2"])), ["spear2"]);
      assert.deepEqual(await store.nodesOfUser("9", both), []);
      assert.deepEqual(await store.counts(both), [
        { node: "spear1", connections: 2, users: 2, groups: 2, load },
        { node: "spear2", connections: 2, users: 2, groups: 1, load },
      ]);
      assert.deepEqual(await store.counts(new Set()), []);
    },
  },
  {
    name: "apply adds users that joined, removes users that left, and forgets an empty group",
    run: async (open) => {
      await using test = await opened(open);
      const { store } = test;
      await store.apply(full("spear1", "a", 1, [["10", "1", "2"], ["11", "1"]]), ttlMs);
      const next = changes({
        ...{ node: "spear1", session: "a", version: 2, connections: 7 },
        users: { joined: ["3", "4"], left: ["1"] },
        groups: [
          { groupId: "10", joined: ["3", "4"], left: ["1"] },
          { groupId: "11", joined: [], left: ["1", "never there"] },
          { groupId: "12", joined: [], left: ["1"] },
        ],
      });
      assert.deepEqual(await store.apply(next, ttlMs), { resync: false });
      assert.deepEqual(await group(store, "10", "spear1"), ["2", "3", "4"]);
      assert.deepEqual(await group(store, "11", "spear1"), []);
      assert.deepEqual(await store.nodesOfUser("1", new Set(["spear1"])), []);
      assert.deepEqual(await store.counts(new Set(["spear1"])), [
        { node: "spear1", connections: 7, users: 3, groups: 1, load },
      ]);
    },
  },
  {
    name: "apply counts a repeated name once, and as joined when it also left",
    run: async (open) => {
      await using test = await opened(open);
      const { store } = test;
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), ttlMs);
      const next = changes({
        ...{ node: "spear1", session: "a", version: 2 },
        groups: [
          { groupId: "10", joined: ["1", "2", "2"], left: ["1"] },
          { groupId: "10", joined: ["3"], left: ["2"] },
        ],
      });
      await store.apply(next, ttlMs);
      assert.deepEqual(await group(store, "10", "spear1"), ["1", "2", "3"]);
    },
  },
  {
    name: "apply ignores the list of left users in a full report",
    run: async (open) => {
      await using test = await opened(open);
      const report = full("spear1", "a", 1, [["10", "1"]]);
      const groups = [{ groupId: "10", joined: ["1"], left: ["1", "2"] }];
      await test.store.apply({ ...report, groups }, ttlMs);
      assert.deepEqual(await group(test.store, "10", "spear1"), ["1"]);
    },
  },
  {
    name: "apply replaces everything of a node by a full report, also of the same session",
    run: async (open) => {
      await using test = await opened(open);
      const { store } = test;
      const live = new Set(["spear1"]);
      await store.apply(full("spear1", "a", 1, [["10", "1", "2"], ["11", "3"]]), ttlMs);
      await store.apply(full("spear1", "a", 5, [["10", "2"], ["12", "4"]]), ttlMs);
      assert.deepEqual(await group(store, "10", "spear1"), ["2"]);
      assert.deepEqual(await group(store, "11", "spear1"), []);
      assert.deepEqual(await store.nodesOfUser("1", live), []);
      await store.apply(full("spear1", "b", 1, []), ttlMs);
      assert.deepEqual(await group(store, "10", "spear1"), []);
      assert.deepEqual(await store.counts(live), [
        { node: "spear1", connections: 0, users: 0, groups: 0, load },
      ]);
    },
  },
  {
    name: "apply asks for a full report when the previous version or the session is not known",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const resync = { resync: true };
      const first = changes({ node: "spear1", session: "a", version: 1 });
      assert.deepEqual(await store.apply(first, ttlMs), resync);
      await store.apply(full("spear1", "a", 2, [["10", "1"]]), ttlMs);
      const leave = { groups: [{ groupId: "10", joined: [], left: ["1"] }] };
      const gap = changes({ node: "spear1", session: "a", version: 4, ...leave });
      assert.deepEqual(await other.apply(gap, ttlMs), resync);
      const stranger = changes({ node: "spear1", session: "b", version: 3, ...leave });
      assert.deepEqual(await store.apply(stranger, ttlMs), resync);
      assert.deepEqual(await group(store, "10", "spear1"), ["1"]);
    },
  },
  {
    name: "apply changes nothing for a version that it has seen, full or not",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const no = { resync: false };
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), ttlMs);
      const second = changes({
        ...{ node: "spear1", session: "a", version: 2 },
        groups: [{ groupId: "10", joined: ["2"], left: [] }],
      });
      assert.deepEqual(await store.apply(second, ttlMs), no);
      assert.deepEqual(await other.apply(second, ttlMs), no);
      const third = changes({
        ...{ node: "spear1", session: "a", version: 3 },
        groups: [{ groupId: "10", joined: ["3"], left: ["2"] }],
      });
      assert.deepEqual(await store.apply(third, ttlMs), no);
      for (const late of [second, third, full("spear1", "a", 1, []), full("spear1", "a", 3, [])]) {
        assert.deepEqual(await other.apply(late, ttlMs), no);
      }
      assert.deepEqual(await group(store, "10", "spear1"), ["1", "3"]);
    },
  },
  {
    name: "apply accepts a full report and changes that are larger than one step",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const live = new Set(["spear1"]);
      const users = Array.from({ length: 5000 }, (_, i) => `${i}`);
      const own = users.map((user) => [`of ${user}`, user] as const);
      await store.apply(full("spear1", "a", 1, [["all", ...users], ...own]), ttlMs);
      assert.equal((await store.usersOfGroup("all", live)).length, 5000);
      assert.deepEqual(await group(other, "of 4999", "spear1"), ["4999"]);
      const odd = users.filter((_, i) => i % 2 === 1);
      const next = changes({
        ...{ node: "spear1", session: "a", version: 2 },
        users: { joined: [], left: odd },
        groups: [
          { groupId: "all", joined: [], left: odd },
          ...odd.map((user) => ({ groupId: `of ${user}`, joined: [], left: [user] })),
        ],
      });
      assert.deepEqual(await other.apply(next, ttlMs), { resync: false });
      assert.equal((await store.usersOfGroup("all", live)).length, 2500);
      assert.deepEqual(await group(store, "of 4999", "spear1"), []);
      assert.deepEqual(await store.counts(live), [
        { node: "spear1", connections: 0, users: 2500, groups: 2501, load },
      ]);
    },
  },
  {
    name:
      "a report in parts takes effect with the last part, whichever stats get the others, in any order",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const no = { resync: false };
      const parts = (version: number, users: readonly string[]): Report[] =>
        users.map((user, part) => ({
          ...full("spear1", "a", version, [["10", user]]),
          part,
          ...(part === users.length - 1 ? {} : { more: true as const }),
        }));
      await store.apply(full("spear1", "a", 1, [["10", "old"]]), ttlMs);
      const [first, second, third, last] = parts(2, ["1", "2", "3", "4"]);
      for (const part of [first, third, second, second]) {
        assert.deepEqual(await (part === second ? other : store).apply(part!, ttlMs), no);
        assert.deepEqual(await group(store, "10", "spear1"), ["old"]);
      }
      assert.deepEqual(await other.apply(last!, ttlMs), no);
      assert.deepEqual(await group(store, "10", "spear1"), ["1", "2", "3", "4"]);
      for (const late of [first, second, last]) {
        assert.deepEqual(await store.apply(late!, ttlMs), no);
      }
      assert.deepEqual(await group(other, "10", "spear1"), ["1", "2", "3", "4"]);
      // Starts in the middle: the earlier parts are missing.
      const [, middle] = parts(3, ["5", "6", "7"]);
      assert.deepEqual(await store.apply(middle!, ttlMs), { resync: true });

      const leaving = (user: string, more: boolean) =>
        changes({
          ...{ node: "spear1", session: "a", version: 3 },
          groups: [{ groupId: "10", joined: [], left: [user] }],
          ...(more ? { more } : { part: 1 }),
        });
      assert.deepEqual(await store.apply(leaving("1", true), ttlMs), no);
      assert.deepEqual(await other.apply(leaving("2", false), ttlMs), no);
      assert.deepEqual(await group(store, "10", "spear1"), ["3", "4"]);
    },
  },
  {
    name:
      "claim gives a node to one session, and reports of any other session are rejected without effect",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const claimed = (session: string, user: string): Report => ({
        ...full("spear1", session, 1, [["10", user]]),
        claimed: true,
      });
      const refused = { resync: true, refused: true };
      assert.deepEqual(await store.apply(claimed("a", "1"), ttlMs), refused);
      assert.equal(await store.claim("spear1", "a", false), true);
      assert.equal(await other.claim("spear1", "a", false), true);
      assert.deepEqual(await store.apply(claimed("a", "1"), ttlMs), { resync: false });
      assert.equal(await other.claim("spear1", "b", false), false);
      assert.deepEqual(await other.apply(claimed("b", "2"), ttlMs), refused);
      assert.deepEqual(await group(store, "10", "spear1"), ["1"]);
      assert.equal(await other.claim("spear1", "b", true), true);
      assert.deepEqual(await store.apply(claimed("b", "2"), ttlMs), { resync: false });
      const late = { ...claimed("a", "1"), version: 2 };
      assert.deepEqual(await store.apply(late, ttlMs), refused);
      assert.deepEqual(await group(store, "10", "spear1"), ["2"]);
      // A spear of an older version does not claim.
      const unclaimed = full("spear1", "old", 1, [["10", "3"]]);
      assert.deepEqual(await store.apply(unclaimed, ttlMs), { resync: false });
    },
  },
  {
    name: "apply keeps names apart that contain separators",
    run: async (open) => {
      await using test = await opened(open);
      const { store } = test;
      await store.apply(full("a_b", "s", 1, [["c", "1"]]), ttlMs);
      await store.apply(full("a", "s", 1, [["b_c", "2"], ["我是谁:*?", "3 4"]]), ttlMs);
      assert.deepEqual(await group(store, "b_c", "a", "a_b"), ["2"]);
      assert.deepEqual(await group(store, "c", "a", "a_b"), ["1"]);
      assert.deepEqual(await group(store, "我是谁:*?", "a"), ["3 4"]);
    },
  },
  {
    name: "a node past its time to live is not read, is swept, and returns with a full report",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const live = new Set(["spear1", "spear2"]);
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), 1);
      await store.apply(full("spear2", "b", 1, [["10", "2"]]), ttlMs);
      await waitFor(async () => (await store.counts(live)).length === 1);
      assert.deepEqual(await group(store, "10", ...live), ["2"]);
      assert.deepEqual(await store.nodesOfUser("1", live), []);
      while ((await other.sweep()).more);
      const next = changes({ node: "spear1", session: "a", version: 2 });
      assert.deepEqual(await store.apply(next, ttlMs), { resync: true });
      await store.apply(full("spear1", "a", 3, [["10", "3"]]), ttlMs);
      assert.deepEqual(await group(store, "10", ...live), ["2", "3"]);
    },
  },
  {
    name: "a report without changes prolongs the time to live",
    run: async (open) => {
      await using test = await opened(open);
      const { store } = test;
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), 1);
      await waitFor(async () => (await store.counts(new Set(["spear1"]))).length === 0);
      const next = changes({ node: "spear1", session: "a", version: 2, connections: 1 });
      assert.deepEqual(await store.apply(next, ttlMs), { resync: false });
      while ((await store.sweep()).more);
      assert.deepEqual(await group(store, "10", "spear1"), ["1"]);
    },
  },
  {
    name: "removeNode hides a node until it reports again",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), ttlMs);
      await store.removeNode("spear1");
      await store.removeNode("never seen");
      assert.deepEqual(await group(other, "10", "spear1"), []);
      await store.apply(full("spear1", "a", 2, [["10", "1"]]), ttlMs);
      while ((await store.sweep()).more);
      assert.deepEqual(await group(other, "10", "spear1"), ["1"]);
    },
  },
  {
    name: "of reports that reach two stats at once, one is applied completely",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const users = Array.from({ length: 3000 }, (_, i) => `${i}`);
      const groups = users.map((user) => [`g${Number(user) % 100}`, user] as const);
      const one = full("spear1", "a", 1, groups);
      await Promise.all([store.apply(one, ttlMs), other.apply(one, ttlMs)]);
      const two = changes({
        ...{ node: "spear1", session: "a", version: 2 },
        users: { joined: ["new"], left: users },
      });
      await Promise.all([store.apply(two, ttlMs), other.apply(two, ttlMs)]);
      while ((await store.sweep()).more);
      assert.deepEqual(await store.counts(new Set(["spear1"])), [
        { node: "spear1", connections: 0, users: 1, groups: 100, load },
      ]);
      assert.equal((await group(store, "g7", "spear1")).length, 30);
    },
  },
];
