import assert from "node:assert/strict";
import { idgenContract } from "@gru/idgen/contract";
import { RpcError } from "@gru/shared/rpc/contract";
import { localClient } from "@gru/shared/rpc/local";
import { idgenIds, localIds } from "./ids.ts";

function countingIdgen(failing: (call: number) => boolean = () => false) {
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
      return { ids: Array.from({ length: count }, () => `${++last}`) };
    },
    decode: () => ({ timeMs: 0, worker: 0, sequence: 0 }),
    getMsgId: () => ({ id: "1" }),
    getServiceVersion: () => ({ version: "" }),
    status: () => ({ worker: 0, withoutRegistry: false, reservedMs: 0 }),
  });
  return { client, counts };
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

Deno.test("localIds gives ascending ids without asking anybody", async () => {
  const ids = localIds();
  const list = await Promise.all(Array.from({ length: 10_000 }, () => ids.next()));
  assert.deepEqual(list.map(BigInt), list.map(BigInt).toSorted((a, b) => a < b ? -1 : 1));
  assert.equal(new Set(list).size, list.length);
});
