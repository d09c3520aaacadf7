/** What every engine of the outbox must do. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { comparePositions, type EventData, type EventKind, type HookEvent } from "./event.ts";
import { beginning, type EndpointState, type Outbox } from "./outbox.ts";
import type { Wanted } from "./wanted.ts";

export interface OutboxUnderTest extends AsyncDisposable {
  readonly outbox: Outbox;
  /** As another stat sees it. */
  readonly other: Outbox;
  /** Makes an event as the store does. */
  add(kind: EventKind, subject: string, data: object): Promise<void>;
}

const state: EndpointState = {
  ...{ position: beginning, state: "delivering", delivered: 0, failed: 0, waiting: 0, lagMs: 0 },
};
const leaseMs = 60_000;

export const outboxCases: readonly {
  readonly name: string;
  readonly run: (test: OutboxUnderTest) => Promise<void>;
}[] = [
  {
    name: "one holds the lease; who lost it can keep and remove nothing",
    run: async ({ outbox, other }) => {
      const first = await outbox.lease(undefined, 50);
      assert.ok(first);
      assert.equal(await other.lease(undefined, leaseMs), undefined);
      assert.equal(await outbox.lease(first, 50), first);
      let second: string | undefined;
      await waitFor(async () => (second = await other.lease(undefined, leaseMs)) !== undefined);
      assert.notEqual(second, first);
      assert.equal(await outbox.lease(first, leaseMs), undefined);
      const trim = { keepMs: 0, maxBytes: 0, endpoints: new Map() };
      assert.equal(await outbox.keep(first, new Map([["a", state]])), undefined);
      assert.equal(await outbox.trim(first, trim), undefined);
      assert.equal((await outbox.states()).states.size, 0);
      assert.equal((await outbox.states()).sender, true);
      await outbox.release(first);
      assert.equal(await outbox.lease(undefined, leaseMs), undefined);
      await other.release(second ?? "");
      assert.ok(await outbox.lease(undefined, leaseMs));
    },
  },
  {
    name: "events are read in pages, in their order, by anybody",
    run: async ({ outbox, other, add }) => {
      assert.equal(await outbox.newest(), beginning);
      for (const userId of ["1", "2", "3"]) await add("user.online", `user:${userId}`, { userId });
      const first = await outbox.read(beginning, 2);
      const second = await other.read(first.last, 2);
      const all = [...first.events, ...second.events];
      assert.deepEqual(all.map(({ data }) => data), ["1", "2", "3"].map((userId) => ({ userId })));
      assert.ok(
        all.every(({ position }, i) =>
          i === 0 || comparePositions(position, all[i - 1]?.position ?? "") > 0
        ),
      );
      assert.equal(await other.newest(), second.last);
      assert.deepEqual(await outbox.read(second.last, 2), {
        ...{ events: [], last: second.last, removed: beginning },
      });
    },
  },
  {
    name: "states are kept, and who holds the lease is told once what is to be sent again",
    run: async ({ outbox, other }) => {
      const token = await outbox.lease(undefined, leaseMs) ?? "";
      const failing: EndpointState = {
        ...{ ...state, state: "failing", position: "7-1" },
        lastError: { atMs: 5, message: "no" },
      };
      assert.deepEqual(await outbox.keep(token, new Map([["a", failing]])), new Map());
      assert.deepEqual((await other.states()).states, new Map([["a", failing]]));
      await other.replay("a", "3-0");
      assert.deepEqual(await outbox.keep(token, new Map()), new Map([["a", "3-0"]]));
      assert.deepEqual(await outbox.keep(token, new Map()), new Map());
    },
  },
  {
    name: "old events are removed, and an endpoint that lacked some is told how many",
    run: async ({ outbox, add }) => {
      const token = await outbox.lease(undefined, leaseMs) ?? "";
      for (const userId of ["1", "2", "3"]) await add("user.online", `user:${userId}`, { userId });
      await add("user.offline", "user:1", { userId: "1" });
      const { events: [, second], last } = await outbox.read(beginning, 10);
      // It has the first two.
      const behind = { ...state, position: second?.position ?? "" };
      await outbox.keep(
        token,
        new Map([["behind", behind], ["all", { ...state, position: last }]]),
      );
      const options = {
        ...{ keepMs: 3_600_000, maxBytes: 1_000_000 },
        endpoints: new Map<string, Omit<Wanted, "endpoint">>([
          ["behind", { events: ["user.online"] }],
          ["all", { events: ["user.online", "user.offline"] }],
          ["vip", { match: ["2*", [3, 3], "10"] }],
        ]),
      };
      assert.deepEqual(await outbox.trim(token, options), { removed: 0, more: false });
      // Everything is too much; in steps.
      const small = { ...options, maxBytes: 0, most: 3 };
      assert.deepEqual(await outbox.trim(token, small), { removed: 3, more: true });
      const after = await outbox.read(beginning, 10);
      const countsIn = (events: readonly HookEvent[]) =>
        events.filter(({ kind }) => kind === "hooks.gap").map(({ data }) => {
          const { endpoint, count, reason, reset, bytes, fromMs, toMs } = data as EventData<
            "hooks.gap"
          >;
          assert.ok(!reset && Number(bytes) > 0 && Number(fromMs) <= Number(toMs), reason);
          return `${endpoint} ${count}`;
        }).sort();
      assert.equal(after.events[0]?.kind, "user.offline");
      assert.deepEqual(countsIn(after.events), ["behind 1", "vip 2"]);
      assert.ok(comparePositions(after.removed, second?.position ?? "") > 0);
      // By age: as soon as it is older than a millisecond.
      const old = { ...options, keepMs: 1 };
      await waitFor(async () =>
        await outbox.trim(token, old) !== undefined &&
        (await outbox.read(beginning, 10)).events.every(({ kind }) => kind === "hooks.gap")
      );
      // Who has not been told is told of as many as before.
      const { events } = await outbox.read(beginning, 10);
      assert.deepEqual(countsIn(events), ["behind 1", "vip 2"]);
    },
  },
];
