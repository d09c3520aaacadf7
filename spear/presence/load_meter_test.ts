import assert from "node:assert/strict";
import { Meter } from "./load_meter.ts";

Deno.test("Meter averages over the last ten complete seconds, and forgets older ones", () => {
  let now = 500_300;
  const meter = new Meter(() => now);
  const ahead = (ms: number) => now += ms;
  assert.equal(meter.perSecond, 0);
  meter.add(50);
  assert.equal(meter.perSecond, 0, "the current second does not count yet");
  ahead(1000);
  assert.equal(meter.perSecond, 50);
  ahead(1000);
  assert.equal(meter.perSecond, 25);
  ahead(8000);
  meter.add(1000);
  assert.equal(meter.perSecond, 5);
  ahead(1000);
  assert.equal(meter.perSecond, 100);
  ahead(8999);
  assert.equal(meter.perSecond, 100);
  ahead(1000);
  assert.equal(meter.perSecond, 0);
  ahead(3_600_000);
  assert.equal(meter.perSecond, 0);
});
