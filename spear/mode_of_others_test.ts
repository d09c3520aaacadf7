import assert from "node:assert/strict";
import type { Logger } from "@gru/shared/log";
import { warnOfOldSpears } from "./mode_of_others.ts";

Deno.test("of a spear that announces no mode the log warns once, and of no other", () => {
  const told: { readonly text: string }[] = [];
  const log = {
    warn: (text: string, values: object) => void told.push({ text, ...values }),
  } as unknown as Logger;
  const look = warnOfOldSpears("rocketmq", log);
  const old = { name: "spear1", meta: { weight: 1, capacity: 100, load: 3 } };
  const mixed = { name: "spear2", meta: { ...old.meta, mode: "redis", session: "a" } };
  const own = { name: "spear3", meta: { ...old.meta, mode: "rocketmq", session: "b" } };
  look([mixed, own]);
  assert.deepEqual(told, []);
  look([old, mixed, own]);
  look([{ ...old, meta: { ...old.meta, load: 4 } }, mixed, own]);
  assert.equal(told.length, 1);
  const { text = "", ...values } = told[0] ?? {};
  assert.deepEqual(values, { name: "spear1", mode: "rocketmq" });
  assert.match(text, /Update \{name\} before any spear changes its mode/);
});
