import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { ActiveTargets } from "./active_targets.ts";

const position = () => Promise.resolve({ epoch: "e", seq: 7 });
const log = logger("spear");

Deno.test("a publication waits until stat has its target, the next ones to it do not", async () => {
  const noted: string[] = [];
  await using active = new ActiveTargets({
    note: async (targets) => {
      noted.push(...targets.map(({ target, position: { seq } }) => `${target} ${seq}`));
      return true;
    },
    position,
    log,
  });
  await active.before("g:10");
  assert.deepEqual(noted, ["g:10 7"]);
  assert.equal(active.before("g:10"), undefined);
  await active.before("u:10");
  assert.deepEqual(noted, ["g:10 7", "u:10 7"]);
});

Deno.test("nothing is noted, and nothing waits, when no hook wants messages", async () => {
  let calls = 0;
  await using active = new ActiveTargets({
    note: async (targets) => {
      assert.equal(targets.length, 0);
      calls++;
      return false;
    },
    position: () => Promise.reject(new Error("nobody needs it")),
    log,
  });
  await active.before("g:10");
  assert.equal(active.before("g:10"), undefined);
  assert.equal(calls, 1);
});

Deno.test("while stat is away publications go on in their order, and it is noted when stat is back", async () => {
  let isAway = false;
  const noted: string[] = [];
  await using active = new ActiveTargets({
    note: async (targets) => {
      await Promise.resolve();
      if (isAway) throw new Error("away");
      noted.push(...targets.map(({ target }) => target));
      return true;
    },
    position,
    log,
  });
  await active.before("g:1");
  isAway = true;
  const order: number[] = [];
  const publish = async (n: number) => {
    const wait = active.before("g:2");
    if (wait !== undefined) await wait;
    order.push(n);
  };
  await Promise.all([publish(1), publish(2), Promise.resolve().then(() => publish(3))]);
  await publish(4);
  assert.deepEqual(order, [1, 2, 3, 4]);
  isAway = false;
  await waitFor(() => noted.includes("g:2"));
});
