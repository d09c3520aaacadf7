import assert from "node:assert/strict";
import fc from "fast-check";
import type { Broker, HistoryPage } from "../broker/broker.ts";
import { MemoryBus } from "../broker/memory.ts";
import { newTarget, range } from "../broker/testing.ts";
import { readNewest, SharedReads } from "./history_read.ts";

function sink() {
  return { message: () => {}, disrupted: () => {}, seen: () => [] };
}

Deno.test("readNewest gives the newest messages before a seq, whatever pages they lie on", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        lengths: fc.array(fc.constantFrom(20, 5000, 70_000), { maxLength: 60 }),
        kept: fc.integer({ min: 1, max: 60 }),
        limit: fc.integer({ min: 1, max: 60 }),
        before: fc.oneof(fc.constant(Infinity), fc.integer({ min: 1, max: 70 })),
      }),
      async ({ lengths, kept, limit, before }) => {
        await using broker = new MemoryBus({ size: kept, ageMs: 60_000 }).connect(sink());
        const target = newTarget();
        for (const length of lengths) {
          await broker.publish({ target, id: "1", body: JSON.stringify("x".repeat(length)) });
        }
        const { head, entries, more } = await readNewest(broker, target, { limit, before });
        const all = range(lengths.length, lengths.length - Math.min(kept, lengths.length) + 1)
          .filter((seq) => seq < before);
        assert.equal(head.seq, lengths.length);
        assert.deepEqual(entries.map(({ seq }) => seq), all.slice(-limit));
        assert.equal(more, all.length > limit);
      },
    ),
    { numRuns: 200 },
  );
});

Deno.test("readNewest answers with fewer messages where they are large, and says that there are more", async () => {
  await using broker = new MemoryBus({ size: 100, bytes: 1e9, ageMs: 60_000 }).connect(sink());
  const target = newTarget();
  for (const _ of range(100)) {
    await broker.publish({ target, id: "1", body: JSON.stringify("x".repeat(99_998)) });
  }
  const newest = await readNewest(broker, target, { limit: 100, before: Infinity });
  assert.deepEqual(newest.entries.map(({ seq }) => seq), range(100, 61));
  assert.equal(newest.more, true);
  const older = await readNewest(broker, target, { limit: 100, before: 61 });
  assert.deepEqual(older.entries.map(({ seq }) => seq), range(60, 21));
});

Deno.test("SharedReads reads once for all who ask while it is being read, and again for those who ask later, or when more has come", async () => {
  const answers: ((page: HistoryPage) => void)[] = [];
  const broker: Pick<Broker, "history"> = {
    history: () => new Promise((resolve) => answers.push(resolve)),
  };
  const reads = new SharedReads();
  const target = newTarget();
  const read = (after: number, now: number) =>
    reads.read(broker, target, { epoch: "a", seq: after }, {
      bytes: 1000,
      now: { epoch: "a", seq: now },
    });
  const pages = [read(1, 5), read(1, 5), read(2, 5), read(1, 6), read(1, 6)];
  assert.equal(answers.length, 3);
  for (const [i, resolve] of answers.entries()) {
    resolve({ head: { epoch: "a", seq: i }, entries: [], next: undefined, complete: true });
  }
  assert.deepEqual((await Promise.all(pages)).map(({ head }) => head.seq), [0, 0, 1, 2, 2]);
  void read(1, 6);
  assert.equal(answers.length, 4);
});
