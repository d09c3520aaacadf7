import assert from "node:assert/strict";
import { configure, reset } from "@logtape/logtape";
import { logFormatter, logger } from "@gru/shared/log";
import { Refusals } from "./refusals.ts";

Deno.test("many refusals are one line that names the kind and the client of most; few are none", async () => {
  const lines: string[] = [];
  const format = logFormatter({ level: "info", format: "json" });
  await configure({
    reset: true,
    sinks: { list: (record) => lines.push(JSON.parse(format(record)).message) },
    loggers: [
      { category: "gru", sinks: ["list"] },
      { category: ["logtape", "meta"], sinks: ["list"], lowestLevel: "error" },
    ],
  });
  try {
    using refusals = new Refusals(logger("spear"));
    for (let i = 0; i < 911; i++) refusals.add("auth", 1003, "10.0.0.9");
    for (let i = 0; i < 20; i++) refusals.add("msg", 1002, `user ${i}`);
    refusals.report();
    refusals.add("msg", 1002, "user 7");
    refusals.report();
  } finally {
    await reset();
  }
  assert.deepEqual(lines, [
    "931 events of clients were refused in 10 s: 911 of them auth with 1003; 911 were of 10.0.0.9, 21 clients in all",
  ]);
});
