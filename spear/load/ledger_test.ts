import assert from "node:assert/strict";
import { faultsOf, Ledger, Member, noFaults } from "./ledger.ts";

/** A member that came in at seq 0 of the epoch e, three messages that were accepted there, and what their loss is. */
function scene() {
  const ledger = new Ledger();
  const member = new Member(1, () => ledger);
  member.enter({ epoch: "e", seq: 0 });
  for (const seq of [1, 2, 3]) ledger.accept(1, `m${seq}`, { epoch: "e", seq });
  const get = (...seqs: number[]) => {
    for (const seq of seqs) member.message({ epoch: "e", seq, content: `m${seq}` });
  };
  const faults = () => faultsOf(ledger.counts([member]));
  return { ledger, member, get, faults };
}

Deno.test("what comes once and in order is no fault, nor is what was accepted before, elsewhere, or twice", () => {
  const { ledger, member, get, faults } = scene();
  get(1, 2, 3);
  ledger.accept(1, "before", { epoch: "older", seq: 9 });
  ledger.accept(2, "elsewhere", { epoch: "e", seq: 4 });
  ledger.accept(1, "m3", { epoch: "e", seq: 3 });
  assert.deepEqual(faults(), noFaults);
  member.message({ epoch: "f", seq: 1, content: "next" });
  assert.deepEqual([faults(), ledger.delivered], [noFaults, 4]);
});

Deno.test("a message that has not come is lost, also one that the member was told of", () => {
  const silent = scene();
  silent.get(1, 2);
  assert.deepEqual(silent.faults(), { ...noFaults, lost: 1 });
  const told = scene();
  told.get(1);
  told.member.missed({ epoch: "e", from: 2, to: 2 });
  told.get(3);
  assert.deepEqual(told.faults(), { ...noFaults, lost: 1 });
});

Deno.test("a gap without a word is untold, one at the beginning of an epoch also", () => {
  const { member, get, faults } = scene();
  get(1, 3);
  assert.deepEqual(faults(), { ...noFaults, lost: 1, untold: 1 });
  member.missed({ epoch: "e", from: 4, to: undefined });
  member.message({ epoch: "f", seq: 2, content: "n2" });
  assert.deepEqual(faults(), { ...noFaults, lost: 1, untold: 2 });
});

Deno.test("the same message again is doubled, whatever its seq, and an earlier one that comes later inverted", () => {
  const { member, get, faults } = scene();
  get(1, 2, 2, 3);
  member.message({ epoch: "e", seq: 4, content: "m3" });
  assert.deepEqual(faults(), { ...noFaults, doubled: 2 });
  const late = scene();
  late.get(1, 3, 2);
  assert.deepEqual(late.faults(), { ...noFaults, lost: 1, untold: 1, inverted: 1 });
});
