/** What the cases of `store_conformance.ts` are made of. */
import assert from "node:assert/strict";
import type { Report } from "./contract.ts";
import type { StatStore } from "./store.ts";
import type { StoreUnderTest } from "./store_histories.ts";

export interface StoreCase {
  readonly name: string;
  readonly run: (open: () => Promise<StoreUnderTest>) => Promise<void>;
}

/** Longer than any test. */
export const ttlMs = 600_000;

export const load = { acceptedPerSecond: 1.5, deliveredPerSecond: 20, memoryBytes: 3_000_000 };

type Members = readonly (readonly [group: string, ...users: string[]])[];

export function full(node: string, session: string, version: number, groups: Members): Report {
  const users = [...new Set(groups.flatMap(([, ...users]) => users))];
  return {
    ...{ node, session, version, full: true, connections: users.length, load },
    users: { joined: users, left: [] },
    groups: groups.map(([groupId, ...joined]) => ({ groupId, joined, left: [] })),
  };
}

export function changes(
  report: Partial<Report> & Pick<Report, "node" | "session" | "version">,
): Report {
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
export async function opened(open: () => Promise<StoreUnderTest>): Promise<StoreUnderTest> {
  const test = await open();
  assert.deepEqual(await test.store.settle(new Set()), []);
  return test;
}

export async function group(
  store: StatStore,
  groupId: string,
  ...live: string[]
): Promise<string[]> {
  return (await store.usersOfGroup(groupId, new Set(live))).sort();
}
