import assert from "node:assert/strict";
import fc from "fast-check";
import { HistoryRing } from "./history_ring.ts";

interface Kept {
  readonly seq: number;
  readonly body: string;
  readonly keptUntil: number;
}

/** Bodies shorter and longer than a ring begins with, of characters of one to four bytes. */
const body = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.integer({ min: 100, max: 2000 }).map((length) => "é".repeat(length)),
);

Deno.test("a history ring gives what a list would give that keeps the newest and drops the old", () => {
  fc.assert(
    fc.property(
      fc.record({
        size: fc.integer({ min: 1, max: 8 }),
        first: fc.integer({ min: 1, max: 1000 }),
        ageMs: fc.integer({ min: 1, max: 10 }),
        steps: fc.array(fc.oneof({ weight: 4, arbitrary: body }, fc.constant(undefined)), {
          maxLength: 60,
        }),
      }),
      ({ size, first, ageMs, steps }) => {
        const ring = new HistoryRing(size, first);
        let list: Kept[] = [];
        let seq = first - 1;
        for (const [now, text] of steps.entries()) {
          if (text === undefined) {
            list = list.filter(({ keptUntil }) => keptUntil > now);
            assert.equal(ring.dropBefore(now), list.length);
          } else {
            const kept = { seq: ++seq, body: text, keptUntil: now + ageMs };
            ring.add(kept.seq, kept.body, kept.keptUntil);
            list = [...list, kept].slice(-size);
          }
          for (const from of [0, seq - 2]) {
            for (const end of [seq - 1, seq]) {
              assert.deepEqual(
                ring.between(from, end, now),
                list.filter((kept) => kept.seq > from && kept.seq <= end && kept.keptUntil > now)
                  .map(({ seq, body }) => ({ seq, body })),
              );
            }
          }
        }
      },
    ),
    { numRuns: 500 },
  );
});
