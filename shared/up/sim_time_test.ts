import assert from "node:assert/strict";
import process from "node:process";
import { VirtualTime } from "./sim_time.ts";

const endless = {
  "sets one timer after the other": () =>
    void setTimeout(endless["sets one timer after the other"], 0),
  "asks for one tick after the other": () =>
    process.nextTick(endless["asks for one tick after the other"]),
};

for (const [what, run] of Object.entries(endless)) {
  Deno.test(`a simulated cluster that ${what} without end comes to a finding`, async () => {
    using time = new VirtualTime("1");
    await time.as(time.current, run);
    await time.advance(100);
    assert.match(String(time.uncaught), /it never comes to its end: after \d+ (turns|ticks)/);
    assert.equal(time.now, 100);
  });
}
