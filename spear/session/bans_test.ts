import assert from "node:assert/strict";
import fc from "fast-check";
import { FollowedClock } from "@gru/shared/clock";
import { Bans } from "./bans.ts";
import type { BanRecord } from "../contract.ts";
import { EventError } from "../wire.ts";

const until = Date.now() + 600_000;

function record(id: string, version: number, changes: Partial<BanRecord> = {}): BanRecord {
  return { kind: "user", id, reason: "", until, version, keptUntil: until, ...changes };
}

function isBanned(bans: Bans, id: string): boolean {
  try {
    bans.checkUser(id);
    return false;
  } catch {
    return true;
  }
}

Deno.test("Bans keep a user or a group out with time and reason, and nobody else", () => {
  const bans = new Bans(new FollowedClock());
  bans.add({ kind: "user", id: "5", reason: "spam", until });
  assert.throws(
    () => bans.checkUser("5"),
    (error) =>
      error instanceof EventError && error.ends?.comesBack === false &&
      error.message === `auth: user 5 is banned until ${new Date(until).toISOString()}: spam`,
  );
  bans.checkGroup("5");
  bans.checkUser("50");
  bans.add({ kind: "group", id: "10", reason: "", until: Date.now() - 1 });
  bans.checkGroup("10");
});

Deno.test("Bans hold by the store's clock, whatever this machine's says", () => {
  const clock = new FollowedClock();
  const bans = new Bans(clock);
  const storeNow = Date.now() - 86_400_000;
  bans.add({ kind: "user", id: "5", reason: "", until: storeNow + 60_000 });
  bans.add({ kind: "user", id: "6", reason: "", until: storeNow - 1 });
  assert.equal(isBanned(bans, "5"), false);
  clock.learn(storeNow, performance.now());
  assert.equal(isBanned(bans, "5"), true);
  assert.equal(isBanned(bans, "6"), false);
});

Deno.test("Bans without versions are replaced by the cluster's, save those that came after it was asked", () => {
  const bans = new Bans(new FollowedClock());
  bans.add({ kind: "user", id: "1", reason: "", until });
  const askedAt = performance.now() + 1;
  assert.deepEqual(bans.merge([record("2", 0)], askedAt), []);
  assert.deepEqual(["1", "2"].map((id) => isBanned(bans, id)), [false, true]);
  bans.add({ kind: "group", id: "3", reason: "", until });
  bans.merge([], 0);
  assert.throws(() => bans.checkGroup("3"));
});

Deno.test("Bans give back what the store has lost, and not what it has not had yet", () => {
  const bans = new Bans(new FollowedClock());
  let askedAt = performance.now();
  const lifted = record("1", 20, { until: 0 });
  const stored = [lifted, record("2", 10), record("3", 10)];
  assert.deepEqual(bans.merge(stored, askedAt), []);
  // An older copy: user 1 is banned in it.
  assert.deepEqual(bans.merge([record("1", 10), record("3", 10)], ++askedAt), [
    lifted,
    record("2", 10),
  ]);
  assert.deepEqual(["1", "2"].map((id) => isBanned(bans, id)), [false, true]);
  bans.add({ kind: "user", id: "4", reason: "", until, version: 30 });
  assert.deepEqual(bans.merge(stored, performance.now() - 1000), []);
  assert.equal(isBanned(bans, "4"), true);
  assert.deepEqual(bans.merge(stored, performance.now() + 1000).map(({ id }) => id), ["4"]);
  assert.deepEqual([...bans.holding()].map(({ id }) => id), ["2", "3", "4"]);
});

Deno.test("whatever a store loses, nodes that merge and give back agree on the latest version of each ban", () => {
  const step = fc.record({
    kind: fc.constantFrom("ban" as const, "lift" as const, "restart" as const, "backup" as const),
    id: fc.constantFrom("1", "2", "3"),
    backup: fc.nat(20),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
    const nodes = [new Bans(new FollowedClock()), new Bans(new FollowedClock())];
    let stored = new Map<string, BanRecord>();
    const backups = [stored];
    const right = new Map<string, BanRecord>();
    let askedAt = 0;
    const sync = () => {
      askedAt++;
      for (const node of nodes) {
        for (const lost of node.merge([...stored.values()], askedAt)) stored.set(lost.id, lost);
      }
    };
    for (const [i, { kind, id, backup }] of steps.entries()) {
      const before = stored.get(id);
      const version = i + 1;
      if (kind === "ban") right.set(id, record(id, version));
      else if (kind === "lift" && before !== undefined) {
        right.set(id, { ...before, version, until: 0 });
      }
      if (kind === "ban" || (kind === "lift" && before !== undefined)) {
        stored.set(id, right.get(id) ?? before ?? record(id, version));
      } else if (kind === "restart") nodes[i % 2] = new Bans(new FollowedClock());
      else if (kind === "backup") stored = new Map(backups[backup % backups.length]);
      sync();
      backups.push(new Map(stored));
    }
    sync();
    const shown = (records: Iterable<BanRecord>) =>
      [...records].filter((one) => one.until > 0).map((one) => one.id).sort();
    assert.deepEqual(shown(stored.values()), shown(right.values()));
    for (const node of nodes) assert.deepEqual(shown(node.holding()), shown(right.values()));
  }));
});
