import { Buffer } from "node:buffer";
import assert from "node:assert/strict";
import fc from "fast-check";
import { HistoryRing } from "./history_ring.ts";

interface Kept {
  readonly seq: number;
  readonly body: string;
  readonly keptUntil: number;
}

/** Bodies shorter and longer than the first segment, with characters of one to four bytes. */
const body = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.integer({ min: 100, max: 2000 }).map((length) => "é".repeat(length)),
);

function bytesOf(list: readonly { readonly body: string }[]): number {
  return list.reduce((sum, { body }) => sum + Buffer.byteLength(body), 0);
}

Deno.test("a history ring returns what a plain list of the newest messages would return", () => {
  fc.assert(
    fc.property(
      fc.record({
        size: fc.integer({ min: 1, max: 8 }),
        bytes: fc.integer({ min: 1, max: 4000 }),
        page: fc.record({ count: fc.integer({ min: 1, max: 5 }), bytes: fc.nat(3000) }),
        first: fc.integer({ min: 1, max: 1000 }),
        ageMs: fc.integer({ min: 1, max: 10 }),
        steps: fc.array(fc.oneof({ weight: 4, arbitrary: body }, fc.constant(undefined)), {
          maxLength: 60,
        }),
      }),
      ({ size, bytes, page, first, ageMs, steps }) => {
        const ring = new HistoryRing({ size, bytes }, first);
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
            while (list.length > 1 && bytesOf(list) > bytes) list.shift();
          }
          for (const from of [0, seq - 2, seq, seq + 5]) {
            const left = list.filter((kept) => kept.seq > from && kept.keptUntil > now);
            const read = [];
            for (let after = from; after < seq;) {
              const { found, reached } = ring.page(after, now, page);
              assert.ok(found.length <= page.count);
              assert.ok(found.length === 1 || bytesOf(found) <= page.bytes);
              assert.ok(reached > after);
              read.push(...found);
              after = reached;
            }
            assert.deepEqual(read, left.map(({ seq, body }) => ({ seq, body })));
          }
        }
      },
    ),
    { numRuns: 500 },
  );
});
