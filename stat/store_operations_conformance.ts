/** What a store keeps for operators: the audit log, samples, bans, mutes and kicks. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import type { MuteRecord } from "@gru/spear/contract";
import type { Restrictions } from "./store.ts";
import { load, opened, type StoreCase } from "./store_scene.ts";

export const operationCases: readonly StoreCase[] = [
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
];
