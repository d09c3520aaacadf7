import assert from "node:assert/strict";
import { watchClock } from "./clock_watch.ts";
import type { Logger } from "./log.ts";
import { Registry as MetricsRegistry } from "./metrics.ts";
import { RegistryUnavailableError } from "./registry/registry.ts";
import { waitFor } from "./testing/harness.ts";

Deno.test("a clock that is wrong by more than a second is logged once, and once more when it is right again", async () => {
  let aheadMs: number | undefined = 300;
  const lines: string[] = [];
  const log = {
    warn: (text: string) => lines.push(/ahead of|behind/.exec(text)?.[0] ?? text),
    info: (text: string) => lines.push(text.slice(-5)),
    debug: () => {},
  } as unknown as Logger;
  const metrics = new MetricsRegistry();
  let measured = 0;
  const next = async () => {
    const before = measured;
    await waitFor(() => measured > before + 1);
  };
  const offset = async () =>
    Number(/^gru_clock_offset_seconds (\S+)$/m.exec(await metrics.metrics())?.[1]);
  using clock = await watchClock({
    registry: {
      now: async () => {
        if (aheadMs === undefined) throw new RegistryUnavailableError("away");
        return Date.now() - aheadMs;
      },
    },
    ...{ metrics, log, periodMs: 1, onMeasured: () => measured++ },
  });
  assert.deepEqual([lines, clock.offsetSeconds], [[], undefined]);
  assert.ok(Math.abs(await offset() - 0.3) < 0.1);
  assert.ok(Math.abs(clock.now() - Date.now()) < 100);

  aheadMs = 7_200_000;
  await next();
  aheadMs = undefined;
  await next();
  assert.deepEqual([lines, clock.offsetSeconds], [["ahead of"], 7200]);
  assert.ok(Math.abs(await offset() - 7200) < 0.1);
  assert.ok(Math.abs(clock.now() - (Date.now() - 7_200_000)) < 1000);

  aheadMs = -86_400_000;
  await next();
  assert.equal(clock.offsetSeconds, -86_400);
  aheadMs = 0;
  await next();
  assert.deepEqual(lines, ["ahead of", "again"]);
  assert.equal(clock.offsetSeconds, undefined);
});
