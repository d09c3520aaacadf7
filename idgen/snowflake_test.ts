import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeId, endMs, epochMs, Snowflake } from "./snowflake.ts";
import { slowTest } from "@gru/shared/testing/harness";

const nowMs = 1_800_000_000_000;

Deno.test("Snowflake puts time, worker and sequence into their bits", () => {
  const snowflake = new Snowflake(5);
  const ids = snowflake.next(2, epochMs + 3);
  assert.deepEqual(ids, [`${(3n << 22n) + (5n << 12n)}`, `${(3n << 22n) + (5n << 12n) + 1n}`]);
});

Deno.test("decodeId returns the time, worker and sequence of any id", () => {
  fc.assert(fc.property(
    fc.integer({ min: epochMs, max: endMs - 1 }),
    fc.nat(1023),
    fc.integer({ min: 1, max: 4096 }),
    (timeMs, worker, count) => {
      const last = new Snowflake(worker).next(count, timeMs).at(-1) ?? "";
      assert.deepEqual(decodeId(last), { timeMs, worker, sequence: count - 1 });
      assert.match(last, /^(0|[1-9]\d{0,18})$/);
      assert.ok(BigInt(last) < 2n ** 63n);
    },
  ));
});

slowTest("Snowflake ids increase whatever the clock does, and stay below the ceiling", () => {
  const call = fc.record({
    count: fc.nat(9000),
    atMs: fc.integer({ min: -20, max: 20 }),
    roomMs: fc.integer({ min: 0, max: 30 }),
  });
  fc.assert(
    fc.property(fc.array(call, { maxLength: 20 }), (calls) => {
      const snowflake = new Snowflake(1023);
      let last = -1n;
      for (const { count, atMs, roomMs } of calls) {
        const ids = snowflake.next(count, nowMs + atMs, nowMs + roomMs);
        assert.ok(ids.length <= count);
        for (const id of ids) {
          assert.ok(BigInt(id) > last);
          last = BigInt(id);
          assert.ok(decodeId(id).timeMs < nowMs + roomMs);
        }
        if (ids.length < count) assert.ok(snowflake.usedMs >= nowMs + roomMs);
      }
    }),
    { numRuns: 50 },
  );
});

Deno.test("Snowflake continues in the next millisecond when a sequence is used up", () => {
  const ids = new Snowflake(0).next(4097, nowMs);
  assert.deepEqual(decodeId(ids[4095] ?? ""), { timeMs: nowMs, worker: 0, sequence: 4095 });
  assert.deepEqual(decodeId(ids[4096] ?? ""), { timeMs: nowMs + 1, worker: 0, sequence: 0 });
});

Deno.test("Snowflake continues from the last id when the clock goes back", () => {
  const snowflake = new Snowflake(0);
  snowflake.next(1, nowMs);
  const [id = ""] = snowflake.next(1, nowMs - 3_600_000);
  assert.deepEqual(decodeId(id), { timeMs: nowMs, worker: 0, sequence: 1 });
});

Deno.test("Snowflake rounds a fraction of a millisecond down", () => {
  const snowflake = new Snowflake(0);
  const ids = [nowMs + 0.2, nowMs + 0.9, nowMs + 0.9].flatMap((ms) => snowflake.next(1, ms));
  assert.equal(new Set(ids).size, 3);
});

Deno.test("Snowflake starts at the epoch when the clock is before it, and ends before the sign bit", () => {
  assert.deepEqual(new Snowflake(0).next(1, 0), ["0"]);
  assert.deepEqual(new Snowflake(0).next(1, endMs), []);
});

Deno.test("Snowflake rejects a worker that does not fit into 10 bits", () => {
  for (const worker of [-1, 1024, 1.5, NaN]) {
    assert.throws(() => new Snowflake(worker), /worker is .*; expected 0–1023/);
  }
});
