/** Random histories of a cluster's reports, checked against a naive model. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Report } from "./contract.ts";
import type { StatStore } from "./store.ts";

/** Fresh data; removed when disposed. */
export interface StoreUnderTest extends AsyncDisposable {
  readonly store: StatStore;
  /** The same data through another stat; the same object if there can be only one. */
  readonly other: StatStore;
  /** Removes all data, as a restart without persistence does. Absent: cannot happen separately. */
  readonly loseData?: () => Promise<void>;
}

/** Longer than any test. */
const ttlMs = 600_000;

const nodes = ["spear1", "spear2"] as const;
const userIds = ["1", "2", "3"] as const;
const groupIds = ["10", "11", "a_b"] as const;

/** A spear's state for reports: its users, what it has reported, and what it must report. */
interface Spear {
  alive: boolean;
  session: number;
  version: number;
  mustBeFull: boolean;
  /** `group user`, and `user` alone for the users of the node. */
  now: Set<string>;
  reported: Set<string>;
}

const node = fc.constantFrom(...nodes);

const change = fc.record({
  kind: fc.constant("change" as const),
  node,
  groupId: fc.option(fc.constantFrom(...groupIds)),
  userId: fc.constantFrom(...userIds),
  // The user that leaves is chosen among the present ones; undefined: a user joins.
  leaver: fc.oneof(fc.constant(undefined), fc.constant(undefined), fc.nat(20)),
});

const report = fc.record({
  kind: fc.constant("report" as const),
  node,
  full: fc.nat(7).map((n) => n === 0),
  fate: fc.oneof(
    { weight: 6, arbitrary: fc.constant("arrives" as const) },
    fc.constantFrom("arrives twice" as const, "answer is lost" as const),
    // The spear may not notice the loss and continue with changes only.
    fc.constantFrom("is lost" as const, "is lost unnoticed" as const),
  ),
  by: fc.constantFrom("store" as const, "other" as const),
});

type ArbitraryOf<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Delivery = ArbitraryOf<typeof report>;

const action = fc.oneof(
  { weight: 12, arbitrary: change },
  { weight: 12, arbitrary: report },
  fc.record({ kind: fc.constant("die" as const), node }),
  fc.record({ kind: fc.constant("restart" as const), node }),
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("remove" as const), node }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("sweep" as const) }) },
  fc.record({ kind: fc.constant("lose data" as const) }),
);

type Action = ArbitraryOf<typeof action>;

/**
 * Any sequence of joins, leaves, full and delta reports (which arrive, are lost or arrive twice), deaths and restarts
 * of nodes, sweeps and losses of all data gives the same answers as a naive model after each step.
 */
export async function checkHistories(open: () => Promise<StoreUnderTest>): Promise<void> {
  const history = fc.array(action, { minLength: 1, maxLength: 60, size: "max" });
  await fc.assert(
    fc.asyncProperty(history, async (actions) => {
      await using test = await open();
      const spears = new Map<string, Spear>(nodes.map((node) => [node, newSpear(1)]));
      // The content of the newest applied report of each node.
      const model = new Map<string, Set<string>>();
      /** The nodes that have reported since the data were lost; undefined: the data are complete. */
      let reportedAgain: Set<string> | undefined = new Set<string>();
      /** A sweep removes everything of these nodes. */
      const removed = new Set<string>();
      for (const next of actions) {
        const isLoss = next.kind === "lose data" && test.loseData !== undefined;
        if (isLoss) reportedAgain = new Set();
        for (const node of await step(test, next, spears, model)) {
          reportedAgain?.add(node);
          removed.delete(node);
        }
        if (next.kind === "remove") removed.add(next.node);
        if (next.kind === "sweep") reportedAgain = reportedAgain?.difference(removed);
        const live = liveOf(spears);
        const waiting: string[] = reportedAgain === undefined
          ? []
          : [...live.difference(reportedAgain)].sort();
        if (waiting.length > 0) {
          await assert.rejects(test.other.counts(live), { code: "unavailable" });
          const [userId, groupId] = [userIds[0], groupIds[0]];
          await assert.rejects(test.store.nodesOfUser(userId, live), { code: "unavailable" });
          await assert.rejects(test.store.usersOfGroup(groupId, live), { code: "unavailable" });
        } else await compare(test.store, spears, model);
        if (next.kind === "sweep") {
          assert.deepEqual(await test.store.settle(live), waiting);
          if (waiting.length === 0) reportedAgain = undefined;
        }
      }
    }),
    { numRuns: 150 },
  );
}

/** @returns the nodes that have reported with it */
async function step(
  test: StoreUnderTest,
  next: Action,
  spears: Map<string, Spear>,
  model: Map<string, Set<string>>,
): Promise<string[]> {
  if (next.kind === "sweep") {
    while ((await test.other.sweep()).more);
    return [];
  }
  if (next.kind === "lose data") {
    if (test.loseData === undefined) return [];
    await test.loseData();
    model.clear();
    return [];
  }
  const spear = spears.get(next.node);
  assert.ok(spear);
  if (next.kind === "change") {
    const name = next.groupId === null ? next.userId : `${next.groupId} ${next.userId}`;
    const there = [...spear.now];
    if (next.leaver === undefined) spear.now.add(name);
    else spear.now.delete(there[next.leaver % there.length] ?? "");
  } else if (next.kind === "die") {
    spear.alive = false;
  } else if (next.kind === "restart") {
    spears.set(next.node, newSpear(spear.session + 1));
  } else if (next.kind === "remove") {
    await test.store.removeNode(next.node);
    model.delete(next.node);
  } else if (spear.alive) {
    return await deliver(test, next, spear, model) ? [next.node] : [];
  }
  return [];
}

function newSpear(session: number): Spear {
  const reported = new Set<string>();
  return { alive: true, session, version: 0, mustBeFull: true, now: new Set(), reported };
}

async function deliver(
  test: StoreUnderTest,
  how: Delivery,
  spear: Spear,
  model: Map<string, Set<string>>,
): Promise<boolean> {
  // If a full report is due, a delta report must be answered with resync.
  const isFull = how.full || (spear.mustBeFull && spear.version > 0);
  const joined = isFull ? spear.now : spear.now.difference(spear.reported);
  const left = isFull ? new Set<string>() : spear.reported.difference(spear.now);
  const reported: Report = {
    ...{ node: how.node, session: `${spear.session}`, version: ++spear.version, full: isFull },
    connections: spear.now.size,
    load: { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 },
    users: { joined: only(joined, undefined), left: only(left, undefined) },
    groups: groupIds.map((groupId) => (
      { groupId, joined: only(joined, groupId), left: only(left, groupId) }
    )),
  };
  spear.reported = new Set(spear.now);
  if (how.fate === "is lost" || how.fate === "is lost unnoticed") {
    spear.mustBeFull = how.fate === "is lost";
    return false;
  }
  const { resync } = await test[how.by].apply(reported, ttlMs);
  if (how.fate === "arrives twice") {
    assert.deepEqual(await test.store.apply(reported, ttlMs), { resync });
  }
  if (!resync) model.set(how.node, new Set(spear.now));
  assert.ok(!(isFull && resync), "a full report is always enough");
  spear.mustBeFull = resync || how.fate === "answer is lost";
  return !resync;
}

function only(names: ReadonlySet<string>, groupId: string | undefined): string[] {
  return [...names].map((name) => name.split(" ")).flatMap(([first = "", user]) =>
    user === undefined ? (groupId === undefined ? [first] : []) : first === groupId ? [user] : []
  );
}

function liveOf(spears: ReadonlyMap<string, Spear>): ReadonlySet<string> {
  return new Set([...spears].filter(([, { alive }]) => alive).map(([node]) => node));
}

async function compare(
  store: StatStore,
  spears: ReadonlyMap<string, Spear>,
  model: ReadonlyMap<string, ReadonlySet<string>>,
): Promise<void> {
  const live = liveOf(spears);
  const known = [...model].filter(([node]) => live.has(node)).sort();
  for (const groupId of groupIds) {
    const users = new Set(known.flatMap(([, names]) => only(names, groupId)));
    assert.deepEqual(
      (await store.usersOfGroup(groupId, live)).sort(),
      [...users].sort(),
      `group ${groupId}`,
    );
  }
  for (const userId of userIds) {
    const on = known.filter(([, names]) => names.has(userId)).map(([node]) => node);
    assert.deepEqual(await store.nodesOfUser(userId, live), on, `user ${userId}`);
  }
  const counts = known.map(([node, names]) => ({
    node,
    users: only(names, undefined).length,
    groups: groupIds.filter((groupId) => only(names, groupId).length > 0).length,
  }));
  const counted = await store.counts(live);
  assert.deepEqual(counted.map(({ node, users, groups }) => ({ node, users, groups })), counts);
}
