import assert from "node:assert/strict";
import fc from "fast-check";
import { KeyedRateLimit, RateLimit } from "./rate_limit.ts";

Deno.test("KeyedRateLimit allows a burst and then the rate, for each key separately", () => {
  const limit = new KeyedRateLimit({ perSecond: 2, burst: 3, maxKeys: 10 });
  const taken = (key: string, nowMs: number) => limit.take(key, nowMs) === 0;
  assert.deepEqual([1, 2, 3, 4].map(() => taken("a", 1000)), [true, true, true, false]);
  assert.equal(limit.take("a", 1000), 500);
  assert.equal(taken("b", 1000), true);
  assert.deepEqual([1, 2].map(() => taken("a", 1500)), [true, false]);
  assert.deepEqual([1, 2, 3, 4].map(() => taken("a", 9000)), [true, true, true, false]);
});

Deno.test("KeyedRateLimit never allows more than the burst and the rate, whatever the order of calls", () => {
  const gaps = fc.array(fc.nat(400), { maxLength: 200 });
  fc.assert(fc.property(gaps, fc.integer({ min: 1, max: 20 }), (list, perSecond) => {
    const burst = 5;
    const limit = new KeyedRateLimit({ perSecond, burst, maxKeys: 10 });
    let nowMs = 0;
    let taken = 0;
    for (const gapMs of list) {
      nowMs += gapMs;
      if (limit.take("a", nowMs) === 0) taken++;
    }
    assert.ok(taken <= burst + perSecond * nowMs / 1000 + 1e-3);
  }));
});

Deno.test("KeyedRateLimit forgets the oldest key rather than grow", () => {
  const limit = new KeyedRateLimit({ perSecond: 0.001, burst: 1, maxKeys: 2 });
  for (const key of ["a", "b", "c"]) assert.equal(limit.take(key, 0), 0);
  assert.notEqual(limit.take("c", 0), 0);
  assert.notEqual(limit.take("b", 0), 0);
  assert.equal(limit.take("a", 0), 0);
});

Deno.test("RateLimit starts with a full bucket, whatever the clock says", () => {
  for (const nowMs of [0, 0.5, 1e12]) {
    const limit = new RateLimit({ perSecond: 5, burst: 5 });
    const waits = Array.from({ length: 7 }, () => limit.take(nowMs));
    assert.deepEqual(waits.map((waitMs) => waitMs === 0), [
      true,
      true,
      true,
      true,
      true,
      false,
      false,
    ]);
  }
});
