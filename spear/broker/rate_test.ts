import assert from "node:assert/strict";
import fc from "fast-check";
import { OverRateError, type Priority } from "./broker.ts";
import { stepsOf, takeOne } from "./rate.ts";

const second = 1_000_000;

/** Counts what is accepted of messages that come at these moments. */
function accepted(perSecond: number, sent: readonly (readonly [at: number, Priority])[]) {
  const counts = { low: 0, normal: 0, system: 0 };
  let fullAt = 0;
  for (const [at, priority] of sent) {
    try {
      fullAt = takeOne(fullAt, at, { perSecond, priority });
      counts[priority]++;
    } catch (error) {
      assert.ok(error instanceof OverRateError);
    }
  }
  return counts;
}

Deno.test("on average no more is taken than the rate, and at once no more than in a second", () => {
  const gap = fc.integer({ min: 0, max: 200_000 });
  fc.assert(
    fc.property(fc.double({ min: 0.5, max: 500, noNaN: true }), fc.array(gap), (rate, gaps) => {
      let at = 1e15;
      const sent = gaps.map((gap) => [at += gap, "normal"] as const);
      const { step, full } = stepsOf({ perSecond: rate, priority: "normal" });
      const most = Math.floor((full + at - 1e15) / step);
      assert.ok(accepted(rate, sent).normal <= most);
    }),
  );
});

Deno.test("in a flood of low messages all normal ones below the rate are taken, and low ones fill what is left", () => {
  const sent: [number, Priority][] = [];
  for (let ms = 0; ms < 10_000; ms++) {
    sent.push([1e15 + ms * 1000, "low"]);
    if (ms % 50 === 0) sent.push([1e15 + ms * 1000, "normal"]);
  }
  const { low, normal } = accepted(40, sent);
  assert.equal(normal, 200);
  // Half a second's worth at once, and 400 in ten seconds.
  assert.ok(low + normal <= 420 && low + normal >= 418, `${low} and ${normal}`);
});

Deno.test("a message that is refused is taken when it comes again after the time that it was told", () => {
  for (const priority of ["low", "normal"] as const) {
    for (const perSecond of [0.5, 1, 3, 40, 7777]) {
      const rate = { perSecond, priority };
      let [fullAt, now] = [0, 1e15];
      for (let n = 0; n < 20; n++) {
        try {
          for (;;) fullAt = takeOne(fullAt, now, rate);
        } catch (error) {
          assert.ok(error instanceof OverRateError);
          now += error.retryAfterMs * 1000;
          fullAt = takeOne(fullAt, now, rate);
        }
      }
    }
  }
});

Deno.test("messages of the system are always taken, and when the clock goes back nobody waits for long", () => {
  const flood = Array.from({ length: 1000 }, () => [1e15, "system"] as const);
  assert.equal(accepted(10, flood).system, 1000);
  const rate = { perSecond: 10, priority: "normal" } as const;
  const after = takeOne(2e15, 1e15, { ...rate, priority: "system" });
  assert.equal(after, 1e15 + second);
  assert.throws(() => takeOne(2e15, 1e15, rate), { retryAfterMs: 100 });
});
