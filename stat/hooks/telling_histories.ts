/**
 * Random histories of reports, deaths and sweeps: what a receiver rebuilds from the events alone equals the truth once
 * all is settled.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { Report } from "../contract.ts";
import type { StatStore } from "../store.ts";
import type { EventKind, HookEvent } from "./event.ts";
import { Teller } from "./teller.ts";

/** Fresh data; removed when disposed. */
export interface TellingUnderTest extends AsyncDisposable {
  /** Two stats over the same data; the same object if there can be only one. */
  readonly stores: readonly [StatStore, StatStore];
  /** All events, ascending. */
  readonly events: () => Promise<readonly HookEvent[]>;
  /** Gives the lease to the holder of this token. */
  readonly lease: (token: string) => Promise<void>;
  /** What full reports replaced is not kept for readers any longer. */
  readonly free?: () => Promise<void>;
}

const ttlMs = 600_000;
const nodes = ["spear1", "spear2"] as const;
const groupIds = ["10", "1:0", "a_b"] as const;
const userIds = ["1", "2", "3"] as const;
const load = { acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 };

/** `user`, or `group user`. */
type Name = string;

interface Spear {
  session: number;
  version: number;
  now: Set<Name>;
  /** What stat knows of it; undefined: the next report must be full. */
  reported: Set<Name> | undefined;
}

const node = fc.constantFrom(...nodes);
const action = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant("change" as const),
      node,
      names: fc.array(
        fc.tuple(fc.option(fc.constantFrom(...groupIds)), fc.constantFrom(...userIds)),
        { minLength: 1, maxLength: 4 },
      ),
      full: fc.nat(5).map((n) => n === 0),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("restart" as const), node }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("die" as const), node }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("sweep" as const) }) },
  {
    weight: 8,
    arbitrary: fc.record({ kind: fc.constant("step" as const), most: fc.constantFrom(1, 2, 100) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("other holder" as const) }) },
);

type ArbitraryOf<A> = A extends fc.Arbitrary<infer T> ? T : never;
type Action = ArbitraryOf<typeof action>;

export interface HistoriesOptions {
  readonly runs?: number;
  readonly seed?: number;
}

export async function checkTelling(
  open: () => Promise<TellingUnderTest>,
  { runs = 100, ...options }: HistoriesOptions = {},
): Promise<void> {
  const history = fc.array(action, { minLength: 1, maxLength: 40, size: "max" });
  await fc.assert(
    fc.asyncProperty(history, async (actions) => {
      await using test = await open();
      const world = new World(test);
      await world.begin();
      for (const next of actions) await world.play(next);
      await world.settle();
      assert.deepEqual(rebuilt(await test.events()), world.truth());
    }),
    { numRuns: runs, ...options },
  );
}

class World {
  readonly #test: TellingUnderTest;
  readonly #spears = new Map<string, Spear>(nodes.map((name) => [name, newSpear(1)]));
  #token = 1;
  #teller: Teller | undefined;

  constructor(test: TellingUnderTest) {
    this.#test = test;
  }

  async begin(): Promise<void> {
    await this.#test.stores[0].settle(new Set());
    await this.#takeLease();
  }

  async play(next: Action): Promise<void> {
    const [store, other] = this.#test.stores;
    if (next.kind === "sweep") {
      await this.#test.free?.();
      return void await other.sweep();
    }
    if (next.kind === "other holder") return await this.#takeLease();
    if (next.kind === "step") return void await this.#step(next.most);
    const spear = this.#spears.get(next.node);
    assert.ok(spear);
    if (next.kind === "die") {
      await store.removeNode(next.node);
      await other.sweep();
      this.#spears.set(next.node, newSpear(spear.session + 1));
      return;
    }
    if (next.kind === "restart") {
      const again = newSpear(spear.session + 1);
      this.#spears.set(next.node, again);
      // Until it reports, its users are there.
      again.now = new Set(spear.now);
      return;
    }
    for (const [groupId, userId] of next.names) toggle(spear.now, groupId, userId);
    const report = reportOf(next.node, spear, next.full);
    assert.deepEqual(await other.apply(report, ttlMs), { resync: false });
    spear.reported = new Set(spear.now);
  }

  async settle(): Promise<void> {
    const { stores: [store], free } = this.#test;
    for (const [name, spear] of this.#spears) {
      await store.apply(reportOf(name, spear, false), ttlMs);
    }
    await free?.();
    while ((await store.sweep()).more);
    while (await this.#step(500) === 0);
  }

  truth() {
    const names = new Set([...this.#spears.values()].flatMap(({ now }) => [...now]));
    return {
      users: [...names].filter((name) => !name.includes(" ")).sort(),
      members: [...names].filter((name) => name.includes(" ")).sort(),
      groups: [...new Set([...names].filter((name) => name.includes(" ")).map(groupOf))].sort(),
    };
  }

  /** @returns when the next step is worth it */
  async #step(most: number): Promise<number> {
    const [store] = this.#test.stores;
    await store.telling.tell(`${this.#token}`, { graceMs: 0, most, caller: "another" });
    const step = await this.#teller?.step(`${this.#token}`);
    assert.ok(step?.holds);
    const former = await store.telling.tell("1", { graceMs: 0, caller: "former" });
    assert.equal(former.state, "fenced", "a former holder adds nothing");
    return step.nextMs;
  }

  async #takeLease(): Promise<void> {
    const [store, other] = this.#test.stores;
    await this.#test.lease(`${++this.#token}`);
    const by = this.#token % 2 === 0 ? store : other;
    this.#teller = new Teller(by.telling, { graceMs: 0 });
  }
}

function newSpear(session: number): Spear {
  return { session, version: 0, now: new Set(), reported: undefined };
}

function toggle(names: Set<Name>, groupId: string | null, userId: string): void {
  const name = groupId === null ? userId : `${groupId} ${userId}`;
  if (!names.delete(name)) names.add(name);
}

function reportOf(name: string, spear: Spear, full: boolean): Report {
  const isFull = full || spear.reported === undefined;
  const before = isFull ? new Set<Name>() : spear.reported ?? new Set<Name>();
  const [joined, left] = [spear.now.difference(before), before.difference(spear.now)];
  return {
    ...{ node: name, session: `${spear.session}`, version: ++spear.version, full: isFull, load },
    connections: spear.now.size,
    users: { joined: usersIn(joined, undefined), left: usersIn(left, undefined) },
    groups: groupIds.map((groupId) => (
      { groupId, joined: usersIn(joined, groupId), left: usersIn(left, groupId) }
    )),
  };
}

function usersIn(names: ReadonlySet<Name>, groupId: string | undefined): string[] {
  return [...names].map((name) => name.split(" ")).flatMap(([first = "", user]) =>
    user === undefined ? (groupId === undefined ? [first] : []) : first === groupId ? [user] : []
  );
}

function groupOf(name: Name): string {
  return name.split(" ")[0] ?? "";
}

/**
 * What a receiver knows that has only the events.
 * @throws {AssertionError} when they contradict each other: somebody comes twice, or a group is empty with a member
 */
export function rebuilt(events: readonly HookEvent[]) {
  const sets = { users: new Set<Name>(), members: new Set<Name>(), groups: new Set<string>() };
  const enter = (set: Set<string>, name: string, { kind }: HookEvent) => {
    assert.ok(!set.has(name), `${kind} ${name} once more`);
    set.add(name);
  };
  const leave = (set: Set<string>, name: string, { kind }: HookEvent) => {
    assert.ok(set.delete(name), `${kind} ${name} without having come`);
  };
  const of: Partial<Record<EventKind, (event: HookEvent, data: Record<string, string>) => void>> = {
    "user.online": (event, { userId = "" }) => enter(sets.users, userId, event),
    "user.offline": (event, { userId = "" }) => leave(sets.users, userId, event),
    "group.occupied": (event, { groupId = "" }) => enter(sets.groups, groupId, event),
    "group.vacated": (event, { groupId = "" }) => {
      const there = [...sets.members].filter((name) => groupOf(name) === groupId);
      assert.deepEqual(there, [], `group ${groupId} is vacated`);
      leave(sets.groups, groupId, event);
    },
    "member.joined": (event, { groupId = "", userId }) => {
      assert.ok(sets.groups.has(groupId), `${userId} joins ${groupId} before it is occupied`);
      enter(sets.members, `${groupId} ${userId}`, event);
    },
    "member.left": (event, { groupId, userId }) => {
      leave(sets.members, `${groupId} ${userId}`, event);
    },
    "hooks.gap": () => Object.values(sets).forEach((set) => set.clear()),
  };
  for (const event of events) of[event.kind]?.(event, event.data as Record<string, string>);
  const sorted = (set: ReadonlySet<string>) => [...set].sort();
  return {
    users: sorted(sets.users),
    members: sorted(sets.members),
    groups: sorted(sets.groups),
  };
}
