import assert from "node:assert/strict";
import { OverRateError, type Priority } from "../broker/broker.ts";
import { FullTargets, withinRates } from "./rates.ts";
import type { Submission } from "./submit.ts";

const message: Submission = { fromId: "1", type: 1, targetId: "1", content: "", priority: "low" };
const kind = {
  ...{ presence: true, echo: true, ephemeral: false, drop: false, messagesPerSecond: 1 },
  history: { size: 0, ageMs: 0 },
};

Deno.test("what a target refuses for a while is not carried to it, nor is what is lower; others are", () => {
  let now = 0;
  const full = new FullTargets(() => now);
  const takes = (priority: Priority, target: `g:${string}` = "g:1") => {
    try {
      full.check(target, { perSecond: 1, priority });
      return true;
    } catch (error) {
      assert.ok(error instanceof OverRateError);
      return error.retryAfterMs;
    }
  };
  full.note("g:1", "low", 100);
  assert.deepEqual([takes("low"), takes("normal"), takes("low", "g:2")], [100, true, true]);
  full.note("g:1", "normal", 50);
  assert.deepEqual([takes("low"), takes("normal"), takes("system")], [100, 50, true]);
  now = 60;
  assert.deepEqual([takes("low"), takes("normal")], [40, true]);
  now = 100;
  assert.equal(takes("low"), true);
});

Deno.test("while a group is full only those are carried on that may be repetitions", async () => {
  const carried: string[] = [];
  const submit = withinRates(async ({ content, rate }) => {
    carried.push(content);
    assert.ok(rate);
    throw new OverRateError(rate, 60_000);
  }, { ofTarget: () => kind });
  await assert.rejects(submit({ ...message, content: "first" }), OverRateError);
  await assert.rejects(submit({ ...message, content: "second" }), OverRateError);
  await assert.rejects(
    submit({ ...message, content: "third", idempotencyKey: "k" }),
    OverRateError,
  );
  await assert.rejects(
    submit({ ...message, content: "fourth", priority: "normal" }),
    OverRateError,
  );
  assert.deepEqual(carried, ["first", "third", "fourth"]);
});
