import assert from "node:assert/strict";
import { idgenContract } from "@gru/idgen/contract";
import { RpcError } from "@gru/shared/rpc/contract";
import { localClient } from "@gru/shared/rpc/local";
import { idgenIds, localIds } from "./ids.ts";

function countingIdgen(
  failing: (call: number) => boolean = () => false,
  order?: "strict" | "unique",
) {
  const counts: number[] = [];
  let underWay = 0;
  let last = 0;
  const client = localClient(idgenContract, {
    next: async ({ count }) => {
      counts.push(count);
      assert.equal(++underWay, 1, "one call at a time");
      await new Promise((resolve) => setTimeout(resolve, 1));
      underWay--;
      if (failing(counts.length)) throw new RpcError("conflict", "no ids now");
      const ids = Array.from({ length: count }, () => `${++last}`);
      return order === undefined ? { ids } : { ids, order };
    },
    decode: () => ({ timeMs: 0, worker: 0, sequence: 0 }),
    getMsgId: () => ({ id: "1" }),
    getServiceVersion: () => ({ version: "" }),
    status: () => ({ worker: 0, withoutRegistry: false, reservedMs: 0 }),
  });
  return { client, counts, last: () => last };
}

Deno.test("idgenIds gathers what is wanted while a call is under way into the next, in order", async () => {
  const { client, counts } = countingIdgen();
  const ids = idgenIds(client);
  const wanted = Array.from({ length: 100 }, () => ids.next());
  assert.deepEqual((await Promise.all(wanted)).map(Number), wanted.map((_, i) => i + 1));
  assert.deepEqual(counts, [1, 99]);
  assert.equal(await ids.next(), "101");
});

Deno.test("idgenIds asks for no more at once than idgen gives", async () => {
  const { client, counts } = countingIdgen();
  const ids = idgenIds(client);
  await Promise.all(Array.from({ length: 25_001 }, () => ids.next()));
  assert.deepEqual(counts, [1, 10_000, 10_000, 5000]);
});

Deno.test("idgenIds fails those of a failed call and goes on", async () => {
  const { client } = countingIdgen((call) => call === 1);
  const ids = idgenIds(client);
  const [first, second] = await Promise.allSettled([ids.next(), ids.next()]);
  assert.equal(first?.status, "rejected");
  assert.deepEqual(second, { status: "fulfilled", value: "1" });
});

for (const order of ["strict", undefined] as const) {
  Deno.test(`idgenIds keeps no ids of order ${order ?? "that is not said"}: each is asked for after it was wanted`, async () => {
    const { client, counts, last } = countingIdgen(undefined, order);
    const ids = idgenIds(client);
    for (let i = 1; i <= 20; i++) {
      assert.equal(last(), i - 1);
      assert.equal(await ids.next(), `${i}`);
    }
    assert.deepEqual(counts, Array.from({ length: 20 }, () => 1));
  });
}

Deno.test("idgenIds keeps some ids of order unique ahead, for a moment, and nobody passes those who wait", async () => {
  const { client, counts } = countingIdgen(undefined, "unique");
  let nowMs = 0;
  const ids = idgenIds(client, () => nowMs);
  const given: number[] = [];
  for (let i = 0; i < 2000; i++) {
    const wanted = Array.from({ length: i % 7 }, () => ids.next());
    // Some come while a call is under way, and some while there are ids ahead.
    if (i % 3 === 0) await Promise.all(wanted);
    wanted.forEach((id) => id.then((id) => given.push(Number(id))));
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    nowMs += i % 11;
  }
  const last = Number(await ids.next());
  given.push(last);
  assert.equal(given.length, 5995 + 1);
  assert.deepEqual(given, given.toSorted((a, b) => a - b));
  assert.equal(new Set(given).size, given.length);
  assert.ok(counts.length < 600, `${counts.length} calls for ${given.length} ids`);
  // Too old: what is kept now is not used any more.
  const made = Math.max(...given, counts.reduce((sum, count) => sum + count, 0));
  nowMs += 10_000;
  assert.ok(Number(await ids.next()) > made);
});

Deno.test("idgenIds gives what it keeps while idgen cannot answer, and then fails", async () => {
  const { client } = countingIdgen((call) => call > 2, "unique");
  let nowMs = 0;
  const ids = idgenIds(client, () => nowMs);
  assert.equal(await ids.next(), "1");
  assert.equal(await ids.next(), "2");
  for (let i = 3; i <= 10; i++) assert.equal(await ids.next(), `${i}`);
  nowMs = 10_000;
  await assert.rejects(ids.next(), /no ids now/);
});

Deno.test("localIds gives ascending ids without asking anybody", async () => {
  const ids = localIds();
  const list = await Promise.all(Array.from({ length: 10_000 }, () => ids.next()));
  assert.deepEqual(list.map(BigInt), list.map(BigInt).toSorted((a, b) => a < b ? -1 : 1));
  assert.equal(new Set(list).size, list.length);
});
