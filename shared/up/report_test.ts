/** What a spear reports to stat, over real RPC: of any size, and only under a name that is its own. */
import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { connectRpc } from "@gru/shared/rpc/client";
import { waitFor } from "@gru/shared/testing/harness";
import { statContract } from "@gru/stat/contract";
import { startReporter } from "../../spear/presence/reporter.ts";
import { type Change, Roster } from "../../spear/presence/roster.ts";
import { startMemoryStat } from "./memory_stat.ts";

interface Spear {
  roster: Roster;
  users: Set<string>;
  /** Groups that each user is in. */
  groups: number;
  holds: boolean | undefined;
}

async function start() {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  stack.use(await startMemoryStat(registry));
  const client = stack.use(await connectRpc(statContract, { registry, timeoutMs: 5000 }));
  const life = { service: "spear", name: "spear1", startedAt: 1, addresses: {}, meta: {} };
  stack.use(await registry.register(life));
  const owned = stack.move();
  return {
    report: (spear: Spear) =>
      startReporter({
        ...{ node: "spear1", stat: client, roster: spear.roster, reportMs: 50 },
        everyone: () => everyone(spear),
        connections: () => spear.users.size,
        load: () => ({ acceptedPerSecond: 0, deliveredPerSecond: 0, memoryBytes: 0 }),
        holdsName: () => Promise.resolve(spear.holds),
        log: logger("test"),
      }),
    users: async () => (await client.any.usersOfGroup({ groupId: "group-0" })).userIds.sort(),
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

function spearWith(users: readonly string[], groups = 1): Spear {
  return { roster: new Roster(), users: new Set(users), groups, holds: true };
}

function* everyone({ users, groups }: Spear): Generator<Change> {
  yield { groupId: undefined, joined: [...users], left: [] };
  for (let group = 0; group < groups; group++) {
    yield { groupId: `group-${group}`, joined: [...users], left: [] };
  }
}

Deno.test("a report of 18 000 clients in 100 groups each arrives, and so do the changes behind it", async () => {
  await using gru = await start();
  const spear = spearWith(Array.from({ length: 18_000 }, (_, i) => `${1_886_029_419 + i}`), 100);
  await using _reporter = gru.report(spear);
  await waitFor(async () => (await gru.users()).length === 18_000, { timeoutMs: 60_000 });
  // Nearly all leave at once: a million changes.
  for (const user of [...spear.users].slice(10)) {
    spear.users.delete(user);
    spear.roster.userLeft(user);
    for (let group = 0; group < spear.groups; group++) {
      spear.roster.groupLeft(`group-${group}`, user);
    }
  }
  await waitFor(async () => (await gru.users()).length === 10, { timeoutMs: 60_000 });
});

Deno.test("a spear that slept while its name was taken is refused, and reports again when the name is its own", async () => {
  await using gru = await start();
  const [sleeper, twin] = [spearWith(["1", "2"]), spearWith(["3"])];
  await using _one = gru.report(sleeper);
  await waitFor(async () => (await gru.users()).length === 2);
  sleeper.holds = false;
  {
    await using _other = gru.report(twin);
    await waitFor(async () => (await gru.users()).length === 1);
    for (let looks = 0; looks < 50; looks++) assert.deepEqual(await gru.users(), ["3"]);
  }
  sleeper.holds = true;
  await waitFor(async () => (await gru.users()).length === 2);
});

Deno.test("a spear that cannot ask who has its name takes no place that is another's", async () => {
  await using gru = await start();
  const [holder, other] = [spearWith(["1"]), spearWith(["2"])];
  other.holds = undefined;
  await using _one = gru.report(holder);
  await waitFor(async () => (await gru.users()).length === 1);
  await using _two = gru.report(other);
  for (let looks = 0; looks < 50; looks++) assert.deepEqual(await gru.users(), ["1"]);
});
