import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { type WrongKeys, WrongKeysCount } from "./wrong_keys.ts";

Deno.test("wrong keys are noted once for each address and period, with their count", async () => {
  const noted: WrongKeys[] = [];
  const note = async (wrong: WrongKeys) => void noted.push(wrong);
  await using count = new WrongKeysCount({ note, periodMs: 20 });
  const firsts = [1, 2, 3].map(() => count.add("192.0.2.1"));
  assert.deepEqual(firsts, [true, false, false]);
  count.add("192.0.2.2", "ann");
  assert.deepEqual(noted, []);
  await waitFor(() => noted.length === 2);
  assert.deepEqual(noted, [
    { address: "192.0.2.1", who: "unknown", count: 3 },
    { address: "192.0.2.2", who: "ann", count: 1 },
  ]);
  assert.ok(count.add("192.0.2.1"), "another period");
  await waitFor(() => noted.length === 3);
});

Deno.test("wrong keys of any number of addresses make few notes, lose no count, and are noted at the end", async () => {
  const noted: WrongKeys[] = [];
  const note = async (wrong: WrongKeys) => void noted.push(wrong);
  {
    await using count = new WrongKeysCount({ note, now: () => 0 });
    for (let i = 0; i < 5000; i++) count.add(`2001:db8::${i.toString(16)}`);
    count.add("2001:db8::1");
    assert.equal(noted.length, 0);
  }
  assert.equal(noted.length, 61);
  assert.deepEqual(noted[0]?.count, 2, "those who came most often first");
  assert.equal(noted.at(-1)?.address, "several");
  assert.equal(noted.reduce((sum, { count }) => sum + count, 0), 5001);
});
