import assert from "node:assert/strict";
import { MemoryBus } from "../broker/memory.ts";
import { Hub, type Member } from "./hub.ts";
import { Listeners } from "./listeners.ts";
import { groupTarget } from "../wire.ts";

Deno.test("Listeners give the newest of a flood and how many there were, and listen to nothing when closed", async () => {
  const hub = new Hub<Member>({ fanOut: () => {} });
  const bus = new MemoryBus({ size: 10, ageMs: 60_000 });
  await using broker = bus.connect(hub);
  hub.connect(broker);
  const target = groupTarget("10");
  const options = { limit: 20, waitMs: 0, signal: new AbortController().signal };
  {
    using listeners = new Listeners(hub);
    assert.equal((await listeners.read("me", [target], options)).seen, 0);
    for (let i = 1; i <= 1000; i++) {
      await broker.publish({ target, id: `${i}`, body: `{"id":"${i}"}` });
    }
    const { seen, frames } = await listeners.read("me", [target], options);
    assert.equal(seen, 1000);
    assert.deepEqual(frames.map(({ seq }) => seq), Array.from({ length: 20 }, (_, i) => 981 + i));
    assert.equal((await listeners.read("me", [target], options)).seen, 0);
  }
  // Letting go takes a turn.
  await Promise.resolve();
  assert.deepEqual([...hub.targets()], []);
  hub.close();
});
