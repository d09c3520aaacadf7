import assert from "node:assert/strict";
import fc from "fast-check";
import { FollowedClock } from "./clock.ts";

Deno.test("FollowedClock shows this machine's clock until it has learned the other one, then the other one, however long ago", () => {
  assert.equal(new FollowedClock().ahead, undefined);
  const clock = new FollowedClock();
  assert.ok(Math.abs(clock.now() - Date.now()) <= 2);
  const at = performance.now();
  clock.learn(Date.now() - 7_200_000, at, at);
  assert.ok(Math.abs(clock.now() - (Date.now() - 7_200_000)) <= 5);
  assert.ok(Math.abs((clock.ahead?.ms ?? 0) - 7_200_000) <= 5);
});

Deno.test("FollowedClock stays within its stated error when answers are slow, and follows a clock that is set", () => {
  const answer = fc.record({
    pauseMs: fc.integer({ min: 0, max: 60_000 }),
    thereMs: fc.integer({ min: 0, max: 3000 }),
    backMs: fc.integer({ min: 0, max: 3000 }),
    setBy: fc.constantFrom(0, 0, 0, 7_200_000, -86_400_000),
  });
  fc.assert(fc.property(fc.array(answer, { minLength: 1, maxLength: 30 }), (answers) => {
    const clock = new FollowedClock();
    let here = performance.now() - 10_000_000;
    let offset = 1e12;
    for (const { pauseMs, thereMs, backMs, setBy } of answers) {
      offset += setBy;
      const askedAt = here += pauseMs;
      here += thereMs;
      const time = here + offset;
      here += backMs;
      clock.learn(time, askedAt, here);
      const { ms, errorMs } = clock.ahead ?? { ms: NaN, errorMs: NaN };
      const truth = Date.now() - performance.now() - offset;
      assert.ok(Math.abs(ms - truth) <= errorMs + 2, `${ms} is not ${truth} ± ${errorMs}`);
    }
  }));
});
