/** The behaviour that every store engine must have. An engine's test registers each case under its own name. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing/harness";
import type { Report } from "./contract.ts";
import type { MuteRecord } from "@gru/spear/contract";
import type { Listing, LiveNodes, Restrictions, StatStore } from "./store.ts";
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

/** Opens a store whose data count as complete, so that a node without a report has no users. */
async function opened(open: () => Promise<StoreUnderTest>): Promise<StoreUnderTest> {
  const test = await open();
  assert.deepEqual(await test.store.settle(new Set()), []);
  return test;
}

async function group(store: StatStore, groupId: string, ...live: string[]): Promise<string[]> {
  return (await store.usersOfGroup(groupId, new Set(live))).sort();
}

export const storeCases: readonly StoreCase[] = [
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
  {
    name: "page returns names in the order of their code points, each once, with its nodes",
    run: async (open) => {
      await using test = await opened(open);
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
    name: "pages of any names, with any prefix and size, together equal a naive search",
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
            await using test = await opened(open);
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
    name: "the audit log keeps commands for a time, and so many of them, the newest first",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const entry = (target: string) => ({
        ...{
          via: "console",
          who: "ann",
          address: "192.0.2.1",
          details: "{}",
          result: "ok",
        } as const,
        ...{ command: "POST /users/:userId/kick", target },
      });
      const keep = { keepMs: 60_000, most: 3 };
      for (const target of ["1", "2", "3", "4"]) {
        await store.audit(entry(target), keep);
        // Each in a millisecond of its own.
        const { now } = await store.samples(0);
        await waitFor(async () => (await store.samples(0)).now > now);
      }
      const found = await other.audits(10);
      assert.deepEqual(found.map(({ target }) => target), ["4", "3", "2"]);
      const { at, ...first } = found[0] ?? { at: 0 };
      assert.deepEqual(first, entry("4"));
      assert.deepEqual((await other.audits(1, at)).map(({ target }) => target), ["3"]);
      await store.audit(entry("5"), { keepMs: 0, most: 3 });
      assert.deepEqual((await store.audits(10)).map(({ target }) => target), ["5"]);
      for (const who of [store, other, store]) {
        await who.audit(entry("6"), { ...keep, once: "6 joined" });
        await who.audit(entry("7"), { ...keep, once: "7 joined" });
      }
      const targets = (await store.audits(10)).map(({ target }) => target);
      assert.deepEqual(targets.sort(), ["5", "6", "7"]);
    },
  },
  {
    name: "samples are stored once for each step of the store's clock, for the time requested",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const nodes = [{ node: "spear1", connections: 1, users: 2, groups: 3, load }];
      const step = { stepMs: 3_600_000, keepMs: 3_600_000 };
      const before = (await store.samples(0)).now;
      const nextMs = await store.addSample({ nodes }, step);
      await other.addSample({ nodes: [] }, step);
      const { samples, now } = await store.samples(3_600_000);
      const [first] = samples;
      // Except when an hour has just ended.
      if ((first?.at ?? 0) + 3_600_000 > now) assert.equal(samples.length, 1);
      assert.deepEqual(first?.nodes, nodes);
      assert.equal(first?.at, before - before % 3_600_000);
      assert.ok(nextMs > 0 && nextMs <= 3_600_000);
      assert.ok(now >= before && now - before < 60_000);

      const short = { stepMs: 1, keepMs: 60_000 };
      await waitFor(async () => (await other.samples(0)).now > now);
      await other.addSample({ nodes: [] }, short);
      const later = (await store.samples(60_000)).now;
      assert.deepEqual((await store.samples(60_000)).samples.at(-1)?.nodes, []);
      await waitFor(async () => (await other.samples(0)).now > later + 5);
      assert.deepEqual((await store.samples(0)).samples, []);
      // All others are older than this.
      await store.addSample({ nodes }, { stepMs: 1, keepMs: 1 });
      assert.equal((await other.samples(7_200_000)).samples.length, 1);
    },
  },
  ...(["bans", "mutes"] as const).flatMap((what): StoreCase[] => [
    {
      name:
        `${what} are in force for every stat until they end by the store's clock, or are lifted`,
      run: async (open) => {
        await using test = await opened(open);
        const { store, other } = test;
        const hour = 3_600_000;
        const { now } = await store[what].all();
        await store[what].set({ kind: "user", id: "5", reason: "old", ms: 2 * hour });
        const spam = await other[what].set({ kind: "user", id: "5", reason: "spam", ms: hour });
        await store[what].set({ kind: "group", id: "5", reason: "", ms: 1 });
        assert.ok(spam.until >= now + hour && spam.until < now + 2 * hour);
        await waitFor(async () => (await other[what].all()).records.length === 1);
        assert.deepEqual((await other[what].all()).records, [spam]);
        // An older copy of the data has the longer one.
        assert.ok(spam.keptUntil >= now + 2 * hour);
        assert.equal(await store[what].lift("group", "5"), undefined);
        const answer = await other[what].lift("user", "5");
        assert.equal(await store[what].lift("user", "5"), undefined);
        const [lifted] = (await store[what].all()).records;
        assert.deepEqual([lifted?.until, lifted?.keptUntil], [0, spam.keptUntil]);
        assert.deepEqual(answer, lifted);
        assert.ok(lifted !== undefined && lifted.version > spam.version);
        const again = await store[what].set({ kind: "user", id: "5", reason: "again", ms: hour });
        assert.ok(again.version > lifted.version);
      },
    },
    {
      name: `of restored ${what} the latest version wins, in any order`,
      run: async (open) => {
        await using test = await opened(open);
        const { store, other } = test;
        const first = await store[what].set({ kind: "user", id: "5", reason: "a", ms: 600_000 });
        await store[what].lift("user", "5");
        const group = await store[what].set({ kind: "group", id: "5", reason: "我", ms: 600_000 });
        const { records, now } = await store[what].all();
        const over = { ...first, id: "6", keptUntil: now - 1 };
        // Older data: they contain the ban, but not that it was lifted.
        if (test.loseData !== undefined) {
          await test.loseData();
          await (other[what] as Restrictions<MuteRecord>).restore([first]);
          assert.deepEqual((await store[what].all()).records, [first]);
        }
        for (const some of [records, [first, over], [group], []]) {
          await (other[what] as Restrictions<MuteRecord>).restore(some);
        }
        const byKind = (some: readonly { kind: string }[]) =>
          [...some].sort((a, b) => a.kind < b.kind ? -1 : 1);
        assert.deepEqual(byKind((await store[what].all()).records), byKind(records));
      },
    },
  ]),
  {
    name: "restored kicks are kept, the latest of each user, and are counted",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const at = await store.kick("5");
      await other.kick("6");
      const before = await store.kicks(0);
      assert.equal(before.count, 2);
      assert.ok(before.from < at);
      await test.loseData?.();
      await other.restoreKicks([...before.kicks, { userId: "5", at: at - 1000 }]);
      await other.restoreKicks([]);
      assert.deepEqual((await store.kicks(0)).kicks, before.kicks);
      await store.restoreKicks([{ userId: "7", at: before.from - 10_000 }]);
      assert.equal((await other.kicks(0)).count, 2);
    },
  },
  {
    name: "kicks are stored for every stat in order of time, the latest of each user",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other } = test;
      const empty = await store.kicks(0);
      assert.deepEqual([empty.kicks, empty.more], [[], false]);
      const first = await store.kick("5");
      assert.ok(first >= empty.now);
      const second = await other.kick("6");
      await waitFor(async () => (await store.kicks(0)).now > second);
      const again = await store.kick("5");
      assert.ok(again > second);
      const { kicks, now, more } = await other.kicks(0);
      assert.deepEqual(kicks, [{ userId: "6", at: second }, { userId: "5", at: again }]);
      assert.ok(now >= again);
      assert.equal(more, false);
      assert.deepEqual((await store.kicks(again)).kicks, [{ userId: "5", at: again }]);
      assert.deepEqual((await store.kicks(now + 1)).kicks, []);
    },
  },
  {
    name: "no read is answered before each of its nodes has reported, or the data are settled",
    run: async (open) => {
      await using test = await open();
      const { store, other } = test;
      const live = new Set(["spear1", "spear2"]);
      const away = { name: "RpcError", code: "unavailable" };
      const reads = (live: LiveNodes): (() => Promise<unknown>)[] => [
        () => store.counts(live),
        () => store.usersOfGroup("10", live),
        () => store.nodesOfUser("1", live),
        () => store.nodesOfGroup("10", live),
        ...(["users", "groups"] as const).map((of) => () =>
          store.page({ of }, live, { prefix: "", after: "", limit: 1 })
        ),
        () =>
          store.page({ of: "users of a group", groupId: "10" }, live, {
            ...{ prefix: "", after: "", limit: 1 },
          }),
      ];
      const refuses = async (live: LiveNodes) => {
        for (const read of reads(live)) await assert.rejects(read, away);
      };
      await refuses(live);
      assert.deepEqual(await other.settle(live), ["spear1", "spear2"]);
      await store.apply({ ...full("spear1", "a", 1, [["10", "1"]]), more: true }, ttlMs);
      await refuses(new Set(["spear1"]));
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), ttlMs);
      await refuses(live);
      for (const read of reads(new Set(["spear1"]))) await read();
      assert.deepEqual(await group(store, "10", "spear1"), ["1"]);
      assert.deepEqual(await other.settle(live), ["spear2"]);
      await other.apply(full("spear2", "b", 1, [["10", "2"]]), ttlMs);
      assert.deepEqual(await group(store, "10", ...live), ["1", "2"]);
      assert.deepEqual(await store.settle(live), []);
      assert.deepEqual(await group(other, "10", ...live, "spear3"), ["1", "2"]);
    },
  },
  {
    name: "a node that does not report is waited for only for a limited time",
    run: async (open) => {
      await using test = await open();
      const { store, other } = test;
      const live = new Set(["spear1", "spear2"]);
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), ttlMs);
      assert.deepEqual(await store.settle(live, 600_000), ["spear2"]);
      await assert.rejects(store.usersOfGroup("10", live), { code: "unavailable" });
      await waitFor(async () => (await other.settle(live, 50)).length === 0);
      assert.deepEqual(await group(store, "10", ...live), ["1"]);
    },
  },
  {
    name: "after a loss of data reads fail until all nodes have reported again",
    run: async (open) => {
      await using test = await opened(open);
      const { store, other, loseData } = test;
      if (loseData === undefined) return;
      const live = new Set(["spear1", "spear2"]);
      await store.apply(full("spear1", "a", 1, [["10", "1"]]), ttlMs);
      await store.apply(full("spear2", "b", 1, [["10", "2"]]), ttlMs);
      assert.deepEqual(await group(store, "10", ...live), ["1", "2"]);
      await loseData();
      await assert.rejects(other.usersOfGroup("10", live), { code: "unavailable" });
      assert.deepEqual(await other.settle(live), ["spear1", "spear2"]);
      const next = changes({ node: "spear1", session: "a", version: 2 });
      assert.deepEqual(await store.apply(next, ttlMs), { resync: true });
      await store.apply(full("spear1", "a", 3, [["10", "1", "3"]]), ttlMs);
      await assert.rejects(store.counts(live), { code: "unavailable" });
      await store.apply(full("spear2", "b", 2, [["10", "2"]]), ttlMs);
      assert.deepEqual(await group(store, "10", ...live), ["1", "2", "3"]);
      assert.deepEqual(await store.settle(live), []);
    },
  },
  {
    name: "after any history of reports the answers equal those of a naive model",
    run: checkHistories,
  },
];
