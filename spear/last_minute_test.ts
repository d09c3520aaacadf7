import assert from "node:assert/strict";
import { LastMinute } from "./last_minute.ts";

const none = { refused: 0, errors: 0, cutOff: 0, missed: 0 };

Deno.test("LastMinute has the percentiles and counts of the last minute, and forgets older ones", () => {
  let now = 1_000_000;
  const minute = new LastMinute(() => now);
  assert.deepEqual(minute.read(), { delivery: null, counts: none, seconds: 1 });
  for (let ms = 1; ms <= 100; ms++) minute.delivered(ms);
  minute.add("refused");
  minute.add("missed", 7);
  now += 30_000;
  const { delivery, counts, seconds } = minute.read();
  assert.ok(delivery !== null && delivery.p50 >= 45 && delivery.p50 <= 50, `${delivery?.p50}`);
  assert.ok(delivery.p99 >= 90 && delivery.p99 <= 99, `${delivery.p99}`);
  assert.deepEqual([counts, seconds], [{ ...none, refused: 1, missed: 7 }, 30]);
  now += 36_000;
  minute.add("cutOff");
  assert.deepEqual(minute.read().counts, { ...none, cutOff: 1 });
  assert.equal(minute.read().delivery, null);
  now += 3_600_000;
  assert.deepEqual(minute.read().counts, none);
});

Deno.test("LastMinute tells milliseconds apart where they matter, and takes any latency", () => {
  for (const ms of [0, 0.4, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) {
    const minute = new LastMinute(() => 0);
    minute.delivered(ms);
    assert.equal(minute.read().delivery?.p99, Math.floor(ms), `${ms}`);
  }
  const minute = new LastMinute(() => 0);
  for (const ms of [Infinity, 1e9]) minute.delivered(ms);
  const { p50 = 0 } = minute.read().delivery ?? {};
  assert.ok(p50 > 110_000, `${p50}`);
});
