import assert from "node:assert/strict";
import { brokerCases } from "./broker_conformance.ts";
import { MemoryBus } from "./broker_memory.ts";
import { newTarget, TestNode } from "./broker_testing.ts";

for (const { name, needs, run } of brokerCases) {
  // What is in this memory is lost with the listeners.
  if (needs !== undefined) continue;
  Deno.test(`MemoryBus: ${name}`, async () => {
    let bus: MemoryBus | undefined;
    await run({
      open: async (sink, { history }) => (bus ??= new MemoryBus(history)).connect(sink),
      [Symbol.asyncDispose]: async () => {},
    });
  });
}

Deno.test("MemoryBus forgets what nobody listens to and nobody has used for as long as history is kept", async () => {
  let now = 0;
  const bus = new MemoryBus({ size: 10, ageMs: 20_000 }, () => now);
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
