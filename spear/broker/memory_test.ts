import assert from "node:assert/strict";
import { brokerCases } from "./conformance.ts";
import { MemoryBus } from "./memory.ts";
import { defaults, newTarget, TestNode } from "./testing.ts";

for (const { name, needs, run } of brokerCases) {
  // Data in this memory is lost together with the listeners.
  if (needs !== undefined) continue;
  Deno.test(`MemoryBus: ${name}`, async () => {
    let bus: MemoryBus | undefined;
    await run({
      open: async (sink, { history, historyOf }) =>
        (bus ??= new MemoryBus(history, Date.now, historyOf)).connect(sink),
      [Symbol.asyncDispose]: async () => {},
    });
  });
}

Deno.test("MemoryBus removes a target without listeners that was unused for as long as history is kept", async () => {
  let now = 0;
  const bus = new MemoryBus({ ...defaults.history, ageMs: 20_000 }, () => now);
  await using node = await TestNode.open(async (sink) => bus.connect(sink));
  const [idle, heard] = [newTarget(), newTarget()];
  await node.member(heard);
  const first = [await node.publish(idle, "1", "key"), await node.publish(heard, "1", "key")];
  now += 10_000;
  assert.deepEqual(await node.publish(idle, "2", "key"), first[0]);
  now += 30_000;
  const second = [await node.publish(idle, "3", "key"), await node.publish(heard, "3", "key")];
  assert.equal(second[0]?.seq, 1);
  assert.notEqual(second[0]?.epoch, first[0]?.epoch);
  assert.deepEqual(second[1], { id: "3", epoch: first[1]?.epoch, seq: 2 });
});
