/** What every engine of {@linkcode Telling} does. An engine's test registers each case under its own name. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import type { Report } from "../contract.ts";
import type { HookEvent } from "./event.ts";
import { Teller } from "./teller.ts";
import { checkTelling, type TellingUnderTest } from "./telling_histories.ts";

const ttlMs = 600_000;
const load = { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 };
const hourMs = 3_600_000;

type Changes = { readonly joined?: readonly string[]; readonly left?: readonly string[] };

/** Of users who are all in group 10. */
export function reportOf(
  node: string,
  version: number,
  { joined = [], left = [] }: Changes,
  full = version === 1,
): Report {
  const users = { joined: [...joined], left: [...left] };
  return {
    ...{ node, session: "s", version, full, connections: 0, load, users },
    groups: [{ groupId: "10", ...users }],
  };
}

/** Each as `kind id…`. */
export function lines(events: readonly HookEvent[]): string[] {
  return events.map(({ kind, data }) => {
    const { groupId, userId, node } = data as Record<string, string | undefined>;
    return [kind, groupId, userId, node].filter((part) => part !== undefined).join(" ");
  });
}

/** Holds the lease. */
export async function holding(test: TellingUnderTest, graceMs: number) {
  await test.lease("1");
  const [store] = test.stores;
  await store.settle(new Set());
  const teller = new Teller(store.telling, { graceMs });
  let read = 0;
  const settled = async () => {
    while ((await teller.step("1")).nextMs === 0);
    const events = await test.events();
    const added = events.slice(read);
    read = events.length;
    teller.saw(added);
    return lines(added);
  };
  await settled();
  return { store, other: test.stores[1], teller, settled };
}

export interface TellingCase {
  readonly name: string;
  readonly run: (open: () => Promise<TellingUnderTest>) => Promise<void>;
}

export const tellingCases: readonly TellingCase[] = [
  {
    name: "a user on two nodes comes online once and goes offline once",
    run: async (open) => {
      await using test = await open();
      const { store, other, settled } = await holding(test, 0);
      await store.apply(reportOf("spear1", 1, { joined: ["5"] }), ttlMs);
      await other.apply(reportOf("spear2", 1, { joined: ["5"] }), ttlMs);
      assert.deepEqual((await settled()).sort(), [
        "group.occupied 10",
        "member.joined 10 5",
        "user.online 5",
      ]);
      await store.apply(reportOf("spear1", 2, { left: ["5"] }), ttlMs);
      assert.deepEqual(await settled(), []);
      await other.apply(reportOf("spear2", 2, { left: ["5"] }), ttlMs);
      assert.deepEqual((await settled()).sort(), [
        "group.vacated 10",
        "member.left 10 5",
        "user.offline 5",
      ]);
      const kinds = (await test.events()).map(({ kind }) => kind);
      assert.ok(kinds.indexOf("group.occupied") < kinds.indexOf("member.joined"));
      assert.ok(kinds.indexOf("member.left") < kinds.indexOf("group.vacated"));
    },
  },
  {
    name: "who is back within the grace makes no event, who is not makes one after it",
    run: async (open) => {
      await using test = await open();
      {
        const { store, settled } = await holding(test, hourMs);
        await store.apply(reportOf("spear1", 1, { joined: ["5", "6"] }), ttlMs);
        assert.equal((await settled()).length, 5);
        await store.apply(reportOf("spear1", 2, { left: ["5"] }), ttlMs);
        assert.deepEqual(await settled(), []);
        await store.apply(reportOf("spear2", 1, { joined: ["5"] }), ttlMs);
        assert.deepEqual(await settled(), []);
      }
      const { store, settled } = await holding(test, 100);
      await store.apply(reportOf("spear1", 3, { left: ["6"] }), ttlMs);
      const told: string[] = [];
      await waitFor(async () => told.push(...await settled()) === 2);
      assert.deepEqual(told.sort(), ["member.left 10 6", "user.offline 6"]);
    },
  },
  {
    name: "the users of a node that died leave, those who are elsewhere do not",
    run: async (open) => {
      await using test = await open();
      const { store, other, settled } = await holding(test, 0);
      await store.apply(reportOf("spear1", 1, { joined: ["5", "6"] }), ttlMs);
      await store.apply(reportOf("spear2", 1, { joined: ["6"] }), ttlMs);
      assert.equal((await settled()).length, 5);
      await other.removeNode("spear1");
      while ((await other.sweep()).more);
      assert.deepEqual((await settled()).sort(), ["member.left 10 5", "user.offline 5"]);
    },
  },
  {
    name: "whoever is present when hooks are switched on is told, behind a gap",
    run: async (open) => {
      await using test = await open();
      const [store] = test.stores;
      await store.settle(new Set());
      await store.apply(reportOf("spear1", 1, { joined: ["5"] }), ttlMs);
      await store.kick("5", "before");
      assert.deepEqual(await test.events(), []);
      const { settled } = await holding(test, 0);
      const all = lines(await test.events());
      assert.equal(all[0], "hooks.gap");
      assert.deepEqual(all.slice(1).sort(), [
        "group.occupied 10",
        "member.joined 10 5",
        "user.online 5",
      ]);
      assert.deepEqual(await settled(), []);
    },
  },
  {
    name: "kicks and bans are told in their order, with their reasons; a lifted ban is not",
    run: async (open) => {
      await using test = await open();
      const { store, other } = await holding(test, 0);
      await store.kick("5", "noisy");
      const { until } = await other.bans.set({
        kind: "user",
        id: "5",
        reason: "spam",
        ms: hourMs,
      });
      await store.bans.lift("user", "5");
      const group = await store.bans.set({ kind: "group", id: "10", reason: "", ms: hourMs });
      const events = (await test.events()).slice(1);
      assert.deepEqual(events.map(({ kind, subject, data }) => [kind, subject, data]), [
        ["user.kicked", "user:5", { userId: "5", reason: "noisy" }],
        ["user.banned", "user:5", { userId: "5", reason: "spam", untilMs: until }],
        ["user.banned", "group:10", { groupId: "10", reason: "", untilMs: group.until }],
      ]);
    },
  },
  {
    name: "each life of a program is told once, whichever stat holds the lease",
    run: async (open) => {
      await using test = await open();
      const { store, other } = await holding(test, 0);
      const none = new Map<string, "left" | "died">();
      const both = new Map([["spear1", 1_700_000_000_000], ["spear2", 1_700_000_000_001]]);
      assert.deepEqual(await store.telling.tellNodes("1", both, none), []);
      assert.deepEqual(await other.telling.tellNodes("1", both, none), []);
      assert.deepEqual(await other.telling.tellNodes("0", new Map(), none), []);
      const again = new Map([["spear1", 1_700_000_000_009]]);
      const gone = await other.telling.tellNodes("1", again, none);
      assert.deepEqual([...gone].sort((a, b) => a.startedAt - b.startedAt), [
        { name: "spear1", startedAt: 1_700_000_000_000 },
        { name: "spear2", startedAt: 1_700_000_000_001 },
      ]);
      const ends = new Map([["spear1", "left" as const], ["spear2", "died" as const]]);
      assert.deepEqual(await store.telling.tellNodes("1", again, ends), []);
      assert.deepEqual(await store.telling.tellNodes("1", again, none), []);
      const told = lines((await test.events()).slice(1));
      assert.deepEqual(told.filter((line) => line.endsWith("spear1")), [
        "node.joined spear1",
        "node.left spear1",
        "node.joined spear1",
      ]);
      assert.deepEqual(told.filter((line) => line.endsWith("spear2")), [
        "node.joined spear2",
        "node.died spear2",
      ]);
    },
  },
  {
    name: "each message is told once, in order, and as unattended if nobody is in its target",
    run: async (open) => {
      await using test = await open();
      const { store, other, teller } = await holding(test, 0);
      const target = { kind: "group", id: "10" } as const;
      const from = { target, epoch: "e", seq: 4 };
      assert.equal(await other.telling.active([from]), false, "nobody wants messages");
      assert.deepEqual(await store.telling.unread("1", 10), []);
      await store.telling.tell("1", { graceMs: 0, caller: "a", messages: true });
      assert.equal(await other.telling.active([from]), true);
      assert.equal(await other.telling.active([{ ...from, seq: 5 }]), true);
      assert.deepEqual(await store.telling.unread("1", 10), [from], "from the first one on");
      assert.deepEqual(await store.telling.unread("0", 10), []);
      const message = (seq: number) => (
        { id: `${seq}`, groupId: "10", senderId: "5", seq, epoch: "e", content: "ü" }
      );
      const to = { epoch: "e", seq: 6 };
      const read = { from, to, lost: false, more: true, messages: [message(5), message(6)] };
      await store.telling.tellMessages("0", read);
      await store.telling.tellMessages("1", read);
      await other.telling.tellMessages("1", read);
      const [next, ...none] = await store.telling.unread("1", 10);
      assert.deepEqual([next, none], [{ target, ...to }, []]);
      await store.apply(reportOf("spear1", 1, { joined: ["5"] }), ttlMs);
      const last = { from: { target, ...to }, to: { epoch: "f", seq: 1 }, more: false };
      await other.telling.tellMessages("1", {
        ...last,
        ...{ lost: true, messages: [{ ...message(1), epoch: "f" }] },
      });
      assert.deepEqual(await store.telling.unread("1", 10), [], "not again at once");
      const events = (await test.events()).slice(1);
      assert.ok(events.every(({ subject }) => subject === "group:10"));
      const told = events.map(({ kind, data }) => [kind, "seq" in data ? data.seq : undefined]);
      assert.deepEqual(told, [
        ...[["message.accepted", 5], ["message.unattended", 5]],
        ...[["message.accepted", 6], ["message.unattended", 6]],
        ["hooks.gap", undefined],
        ["message.accepted", 1],
      ]);
      assert.deepEqual(events[0]?.data, message(5));
      assert.ok((await teller.step("1")).holds);
    },
  },
  {
    name: "after any history a receiver of the events alone knows the truth",
    run: (open) => checkTelling(open),
  },
];
