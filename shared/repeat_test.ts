import assert from "node:assert/strict";
import { pause } from "./pause.ts";
import { repeat } from "./repeat.ts";
import { waitFor } from "./testing/harness.ts";
import { inTime, within } from "./within.ts";

const hour = 3_600_000;

Deno.test("repeated work begins at once, never overlaps, and is hurried out of its pause", async () => {
  let [times, underWay, most] = [0, 0, 0];
  await using repeated = repeat(async () => {
    most = Math.max(most, ++underWay);
    await pause(1);
    underWay--;
    return ++times < 5 ? 0 : hour;
  });
  assert.equal(underWay, 1);
  await waitFor(() => times === 5);
  repeated.hurry();
  await waitFor(() => times === 6);
  assert.equal(most, 1);
});

Deno.test("disposing repeated work aborts its signal, waits for what is under way, and ends it", async () => {
  let times = 0;
  let ended = false;
  const repeated = repeat(async (signal) => {
    times++;
    await pause(hour, signal);
    await pause(1);
    ended = true;
    return 0;
  });
  await repeated[Symbol.asyncDispose]();
  await repeated[Symbol.asyncDispose]();
  assert.deepEqual([times, ended], [1, true]);

  const idle = repeat(async () => hour);
  await pause(0);
  await idle[Symbol.asyncDispose]();
});

Deno.test("a pause is over when its signal is aborted, before or meanwhile", async () => {
  const over = new AbortController();
  const pausing = pause(hour, over.signal);
  over.abort();
  await pausing;
  await pause(hour, over.signal);
});

Deno.test("a bounded wait settles as its work does, or when its time is up", async () => {
  const never = new Promise<never>(() => {});
  const late = () => new Error("late");
  assert.equal(await inTime(Promise.resolve(1), hour, late), 1);
  await assert.rejects(inTime(Promise.reject(new Error("failed")), hour, late), /failed/);
  await assert.rejects(inTime(never, 1, late), /late/);
  await within(Promise.reject(new Error("failed")), hour);
  await within(never, 1);
  // What fails later fails unheard.
  await within(pause(2).then(() => Promise.reject(new Error("too late"))), 1);
  await pause(5);
});
