import assert from "node:assert/strict";
import { FollowedClock } from "@gru/shared/clock";
import { logger } from "@gru/shared/log";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { type KickedUser, Kicks, KicksFollower } from "./kicks.ts";
import { EventError } from "../wire.ts";

const log = logger("test");

Deno.test("Kicks void what is from before the latest kick of a user, and nobody else's", () => {
  const kicks = new Kicks(new FollowedClock());
  assert.equal(kicks.add({ userId: "5", at: 100 }), true);
  assert.equal(kicks.add({ userId: "5", at: 90 }), false);
  assert.throws(() => kicks.check("5", 100), EventError);
  kicks.check("5", 100.001);
  kicks.check("6", 1);
  kicks.check("5", undefined);
});

Deno.test("KicksFollower reads page by page and says which kicks this node had not heard of", async () => {
  const all: KickedUser[] = [1, 2, 3, 4, 5].map((n) => ({ userId: `${n}`, at: 1000 * n }));
  const missed: string[] = [];
  const kicks = new Kicks(new FollowedClock());
  kicks.add({ userId: "2", at: 2000 });
  await using follower = new KicksFollower({
    kicks,
    read: async (since) => {
      const from = all.filter(({ at }) => at >= since);
      return { kicks: from.slice(0, 2), now: 100_000, more: from.length > 2 };
    },
    periodMs: 5,
    onMissed: ({ userId }) => missed.push(userId),
    restore: async () => {},
    clock: new FollowedClock(),
    log,
  });
  follower.start();
  await waitFor(() => missed.length === 4);
  assert.deepEqual(missed, ["1", "3", "4", "5"]);
  all.push({ userId: "6", at: 100_001 });
  await waitFor(() => missed.includes("6"));
  await assert.rejects(follower.require("6", 100_000), /from before the user was kicked/);
  await follower.require("6", 100_002);
});

slowTest(
  "a node that cannot ask who was kicked takes nothing that is older than what it knows",
  async () => {
    let reachable = false;
    await using follower = new KicksFollower({
      kicks: new Kicks(new FollowedClock()),
      read: async () => {
        if (!reachable) throw new Error("stat is away");
        return { kicks: [{ userId: "5", at: 50 }], now: 100, more: false };
      },
      periodMs: 60_000,
      onMissed: () => {},
      restore: async () => {},
      clock: new FollowedClock(),
      log,
    });
    const old = Date.now() - 1000;
    await assert.rejects(
      follower.require("7", old),
      (error) =>
        error instanceof EventError && error.errorCode === 1001 && error.ends?.comesBack === true,
    );
    // Issued after this node began: whoever was kicked before does not have it.
    await follower.require("7", Date.now() + 1);
    reachable = true;
    await waitFor(() => follower.require("7", old).then(() => true, () => false));
    await assert.rejects(follower.require("5", 50), /from before/);
  },
);

Deno.test("KicksFollower brings back what the store has lost, and reads what others brought back", async () => {
  let stored: KickedUser[] = [{ userId: "1", at: 1000 }, { userId: "2", at: 2000 }];
  const kicks = new Kicks(new FollowedClock());
  const now = 90_000_000;
  await using follower = new KicksFollower({
    kicks,
    read: async (since) => ({
      kicks: stored.filter(({ at }) => at >= since),
      ...{ now, more: false, count: stored.filter(({ at }) => at >= 500).length, from: 500 },
    }),
    restore: async (lost) => void (stored = [...lost]),
    periodMs: 5,
    onMissed: () => {},
    clock: new FollowedClock(),
    log,
  });
  follower.start();
  await waitFor(() => kicks.isVoid("2", 1));
  stored = [{ userId: "2", at: 2000 }];
  await waitFor(() => stored.length === 2);
  assert.deepEqual(stored, [{ userId: "1", at: 1000 }, { userId: "2", at: 2000 }]);
  stored = [{ userId: "0", at: 600 }, ...stored];
  await waitFor(() => kicks.isVoid("0", 600));
});

Deno.test("Kicks of which a command has brought word since the store was asked are not lost there", () => {
  const kicks = new Kicks(new FollowedClock());
  const askedAt = performance.now();
  kicks.add({ userId: "1", at: 1000 }, askedAt - 1);
  kicks.add({ userId: "2", at: 1000 }, askedAt + 1);
  kicks.add({ userId: "3", at: 999 }, askedAt - 1);
  assert.deepEqual(kicks.since(1000, askedAt), [{ userId: "1", at: 1000 }]);
});
