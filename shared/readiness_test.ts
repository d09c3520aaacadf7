import assert from "node:assert/strict";
import { logger } from "./log.ts";
import { Readiness } from "./readiness.ts";
import { waitFor } from "./testing/harness.ts";

Deno.test("a program serves from the moment when all its needs are met", async () => {
  using readiness = new Readiness("spear1", logger("test"));
  const [redis, ids] = [readiness.need("redis", "no answer"), readiness.need("ids", "no idgen")];
  let changes = 0;
  readiness.listen(() => changes++);
  redis.met();
  ids.met();
  assert.equal(readiness.serving, false, "more needs may follow until it has started");
  ids.miss("no idgen");
  readiness.start();
  assert.equal(readiness.serving, false);
  assert.deepEqual(readiness.checks, { redis: true, ids: false });
  assert.deepEqual(readiness.missing, { ids: "no idgen" });
  ids.met();
  assert.equal(readiness.serving, true);
  await readiness.whenReady();
  assert.equal(changes, 1);
});

Deno.test("a short disturbance shows in the checks only; one that lasts, or that is final, ends the serving", async () => {
  using readiness = new Readiness("spear1", logger("test"));
  const redis = readiness.need("redis", "no answer");
  redis.met();
  readiness.start();
  redis.miss("connection lost");
  assert.deepEqual([readiness.serving, readiness.checks.redis], [true, false]);
  redis.met();
  redis.miss("connection lost");
  redis.miss("wrong password", { atOnce: true });
  assert.equal(readiness.serving, false);
  redis.met();
  assert.equal(readiness.serving, true);
  redis.miss("connection lost");
  await waitFor(() => !readiness.serving, { what: "the grace has ended" });
  redis.met();
  assert.equal(readiness.serving, true);
});

Deno.test("a program without needs serves when it has started", () => {
  using readiness = new Readiness("ticket1", logger("test"));
  readiness.start();
  assert.equal(readiness.serving, true);
});
