import assert from "node:assert/strict";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing/harness";
import { InOrder } from "./in_order.ts";

function collect(holdMs: number) {
  const got: string[] = [];
  const line = new InOrder((_target, epoch, seq) => got.push(`${epoch}${seq}`), holdMs);
  return { got, line, [Symbol.dispose]: () => line[Symbol.dispose]() };
}

Deno.test("InOrder delivers each message once and in order, whatever order they arrive in", () => {
  const shuffled = fc.uniqueArray(fc.integer({ min: 1, max: 20 }), { maxLength: 20 })
    .map((some) => [...some, ...Array.from({ length: 20 }, (_, i) => i + 1)]);
  fc.assert(fc.property(shuffled, (seqs) => {
    using test = collect(60_000);
    test.line.begin("g:1", { epoch: "a", seq: 0 });
    for (const seq of seqs) test.line.message("g:1", "a", seq, "");
    assert.deepEqual(test.got, Array.from({ length: 20 }, (_, i) => `a${i + 1}`));
  }));
});

Deno.test("InOrder continues without a message that does not arrive in time", async () => {
  using test = collect(5);
  test.line.begin("g:1", { epoch: "a", seq: 3 });
  for (const seq of [4, 7, 6]) test.line.message("g:1", "a", seq, "");
  assert.deepEqual(test.got, ["a4"]);
  await waitFor(() => test.got.length === 3);
  assert.deepEqual(test.got, ["a4", "a6", "a7"]);
  for (const seq of [5, 8]) test.line.message("g:1", "a", seq, "");
  assert.deepEqual(test.got.slice(3), ["a8"]);
});

Deno.test("InOrder delivers the messages that it holds before a new epoch", () => {
  using test = collect(60_000);
  test.line.begin("g:1", { epoch: "a", seq: 0 });
  test.line.message("g:1", "a", 2, "");
  test.line.message("g:1", "b", 1, "");
  test.line.message("g:1", "b", 3, "");
  test.line.message("g:1", "b", 2, "");
  assert.deepEqual(test.got, ["a2", "b1", "b2", "b3"]);
});

Deno.test("InOrder delivers a message at once if the target has no start position, and drops held ones at the end", () => {
  using test = collect(60_000);
  test.line.message("g:1", "a", 9, "");
  test.line.begin("g:1", { epoch: "a", seq: 9 });
  test.line.message("g:1", "a", 11, "");
  test.line.end("g:1");
  test.line.message("g:1", "a", 5, "");
  assert.deepEqual(test.got, ["a9", "a5"]);
});
