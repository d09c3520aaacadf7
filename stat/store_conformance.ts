/** What every engine of the store must do. An engine's test registers each case under its own name. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing";
import type { Report } from "./contract.ts";
import type { Listing, StatStore } from "./store.ts";
import { checkHistories, type StoreUnderTest } from "./store_histories.ts";

export interface StoreCase {
  readonly name: string;
  readonly run: (open: () => Promise<StoreUnderTest>) => Promise<void>;
}

/** Longer than any test. */
const ttlMs = 600_000;

const load = { acceptedPerSecond: 1.5, deliveredPerSecond: 20, memoryBytes: 3_000_000 };

type Members = readonly (readonly [group: string, ...users: string[]])[];

function full(node: string, session: string, version: number, groups: Members): Report {
  const users = [...new Set(groups.flatMap(([, ...users]) => users))];
  return {
    ...{ node, session, version, full: true, connections: users.length, load },
    users: { joined: users, left: [] },
    groups: groups.map(([groupId, ...joined]) => ({ groupId, joined, left: [] })),
  };
}

function changes(report: Partial<Report> & Pick<Report, "node" | "session" | "version">): Report {
  return {
    full: false,
    connections: 0,
    load,
    users: { joined: [], left: [] },
    groups: [],
    ...report,
  };
}

async function group(store: StatStore, groupId: string, ...live: string[]): Promise<string[]> {
  return (await store.usersOfGroup(groupId, new Set(live))).sort();
}

export const storeCases: readonly StoreCase[] = [
  {
    name: "usersOfGroup is the union over live nodes, each user once",
    run: async (open) => {
      await using test = await open();
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
    name: "nodesOfUser and counts tell of live nodes only, sorted",
    run: async (open) => {
      await using test = await open();
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
    name: "apply adds who joined, removes who left, and forgets an empty group",
    run: async (open) => {
      await using test = await open();
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
    name: "apply counts a name once that comes twice, and as joined when it also left",
    run: async (open) => {
      await using test = await open();
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
    name: "apply ignores the left of a full report",
    run: async (open) => {
      await using test = await open();
      const report = full("spear1", "a", 1, [["10", "1"]]);
      const groups = [{ groupId: "10", joined: ["1"], left: ["1", "2"] }];
      await test.store.apply({ ...report, groups }, ttlMs);
      assert.deepEqual(await group(test.store, "10", "spear1"), ["1"]);
    },
  },
  {
    name: "apply replaces all of a node with a full report, also of the same session",
    run: async (open) => {
      await using test = await open();
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
    name: "apply asks for everything when the version before or the session is not known",
    run: async (open) => {
      await using test = await open();
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
      await using test = await open();
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
    name: "apply takes a full report and changes that are larger than any one step",
    run: async (open) => {
      await using test = await open();
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
    name: "apply keeps names apart that contain separators",
    run: async (open) => {
      await using test = await open();
      const { store } = test;
      await store.apply(full("a_b", "s", 1, [["c", "1"]]), ttlMs);
      await store.apply(full("a", "s", 1, [["b_c", "2"], ["我是谁:*?", "3 4"]]), ttlMs);
      assert.deepEqual(await group(store, "b_c", "a", "a_b"), ["2"]);
      assert.deepEqual(await group(store, "c", "a", "a_b"), ["1"]);
      assert.deepEqual(await group(store, "我是谁:*?", "a"), ["3 4"]);
    },
  },
  {
    name: "a node past its time to live is not read, is swept, and comes back with a full report",
    run: async (open) => {
      await using test = await open();
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
      await using test = await open();
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
      await using test = await open();
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
    name: "reports that reach two stats at once leave what one of them says, whole",
    run: async (open) => {
      await using test = await open();
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
  {
    name: "page goes through names in the order of their code points, each once, with its nodes",
    run: async (open) => {
      await using test = await open();
      const { store } = test;
      await store.apply(full("spear1", "a", 1, [["10", "1", "2", "3"], ["11", "2"]]), ttlMs);
      await store.apply(full("spear2", "b", 1, [["10", "2", "4"], ["9", "4"]]), ttlMs);
      await store.apply(full("spear3", "c", 1, [["10", "5"]]), ttlMs);
      const live = new Set(["spear1", "spear2"]);
      const page = (listing: Listing, after: string, limit: number, prefix = "") =>
        store.page(listing, live, { after, limit, prefix });
      const at = (...nodes: string[]) => nodes.map((node) => ({ node, users: 0 }));
      assert.deepEqual(await page({ of: "users" }, "", 2), [
        { name: "1", nodes: at("spear1") },
        { name: "2", nodes: at("spear1", "spear2") },
      ]);
      assert.deepEqual(await page({ of: "users" }, "2", 5), [
        { name: "3", nodes: at("spear1") },
        { name: "4", nodes: at("spear2") },
      ]);
      assert.deepEqual(await page({ of: "groups" }, "", 5, "1"), [
        { name: "10", nodes: [{ node: "spear1", users: 3 }, { node: "spear2", users: 2 }] },
        { name: "11", nodes: [{ node: "spear1", users: 1 }] },
      ]);
      assert.deepEqual(await page({ of: "users of a group", groupId: "10" }, "3", 5), [
        { name: "4", nodes: at("spear2") },
      ]);
      assert.deepEqual(await page({ of: "users of a group", groupId: "none" }, "", 5), []);
      assert.deepEqual(await store.nodesOfGroup("10", live), [
        { node: "spear1", users: 3 },
        { node: "spear2", users: 2 },
      ]);
      assert.deepEqual(await store.nodesOfGroup("none", live), []);
    },
  },
  {
    name: "pages of any names, with any prefix and size, together give what a naive search gives",
    run: async (open) => {
      const name = fc.string({
        unit: fc.constantFrom(..."ab1", "我", "\u{1f600}", "\uffee"),
        minLength: 1,
        maxLength: 4,
      });
      await fc.assert(
        fc.asyncProperty(
          fc.uniqueArray(name, { maxLength: 40 }),
          fc.string({ unit: fc.constantFrom("a", "1", "我"), maxLength: 2 }),
          fc.integer({ min: 1, max: 7 }),
          async (names, prefix, limit) => {
            await using test = await open();
            const [here, there] = [
              names.filter((_, i) => i % 3 < 2),
              names.filter((_, i) => i % 3 > 0),
            ];
            await test.store.apply(full("spear1", "a", 1, [["g", ...here]]), ttlMs);
            await test.store.apply(full("spear2", "a", 1, [["g", ...there]]), ttlMs);
            const live = new Set(["spear1", "spear2"]);
            const found: string[] = [];
            for (;;) {
              const after = found.at(-1) ?? "";
              const page = await test.store.page({ of: "users" }, live, { prefix, after, limit });
              found.push(...page.map(({ name }) => name));
              if (page.length < limit) break;
            }
            const expected = names.filter((name) => name.startsWith(prefix))
              .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
            assert.deepEqual(found, expected);
          },
        ),
        { numRuns: 30 },
      );
    },
  },
  {
    name: "samples are kept once for each moment, and no longer than wanted",
    run: async (open) => {
      await using test = await open();
      const { store, other } = test;
      const nodes = [{ node: "spear1", connections: 1, users: 2, groups: 3, load }];
      await store.addSample({ at: 2000, nodes }, 0);
      await other.addSample({ at: 2000, nodes: [] }, 0);
      await other.addSample({ at: 1000, nodes: [] }, 0);
      assert.deepEqual(await store.samples(0), [{ at: 1000, nodes: [] }, { at: 2000, nodes }]);
      assert.deepEqual(await store.samples(1001), [{ at: 2000, nodes }]);
      await store.addSample({ at: 3000, nodes: [] }, 2000);
      assert.deepEqual((await other.samples(0)).map(({ at }) => at), [2000, 3000]);
    },
  },
  {
    name: "bans hold for every stat until they are over or lifted",
    run: async (open) => {
      await using test = await open();
      const { store, other } = test;
      await store.setBan({ kind: "user", id: "5", reason: "old", until: 3000 });
      await store.setBan({ kind: "user", id: "5", reason: "spam", until: 5000 });
      await store.setBan({ kind: "group", id: "5", reason: "", until: 2000 });
      assert.deepEqual(await other.bans(1000), [
        { kind: "group", id: "5", reason: "", until: 2000 },
        { kind: "user", id: "5", reason: "spam", until: 5000 },
      ]);
      assert.deepEqual((await store.bans(2000)).map(({ kind }) => kind), ["user"]);
      assert.equal(await store.liftBan("group", "5"), false);
      assert.equal(await other.liftBan("user", "5"), true);
      assert.deepEqual(await store.bans(0), []);
    },
  },
  { name: "any history gives the same answers as a naive model", run: checkHistories },
];
