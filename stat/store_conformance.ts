/** The behaviour that every store engine must have. An engine's test registers each case under its own name. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing/harness";
import type { Listing, LiveNodes } from "./store.ts";
import { checkHistories } from "./store_histories.ts";
import { operationCases } from "./store_operations_conformance.ts";
import { reportCases } from "./store_reports_conformance.ts";
import { changes, full, group, opened, type StoreCase, ttlMs } from "./store_scene.ts";

const readCases: readonly StoreCase[] = [
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

export const storeCases: readonly StoreCase[] = [...reportCases, ...readCases, ...operationCases];
