import assert from "node:assert/strict";
import { Bans } from "./bans.ts";
import { EventError } from "./wire.ts";

const until = Date.now() + 600_000;

Deno.test("Bans keep a user or a group out with time and reason, and nobody else", () => {
  const bans = new Bans();
  bans.add({ kind: "user", id: "5", reason: "spam", until });
  assert.throws(
    () => bans.checkUser("5"),
    (error) =>
      error instanceof EventError && error.fatal &&
      error.message === `auth: user 5 is banned until ${new Date(until).toISOString()}: spam`,
  );
  bans.checkGroup("5");
  bans.checkUser("50");
  bans.add({ kind: "group", id: "10", reason: "", until: Date.now() - 1 });
  bans.checkGroup("10");
});

Deno.test("Bans are replaced by the cluster's, save those that came after it was asked", () => {
  const bans = new Bans();
  bans.add({ kind: "user", id: "1", reason: "", until });
  const askedAt = performance.now() + 1;
  bans.replace([{ kind: "user", id: "2", reason: "", until }], askedAt);
  bans.checkUser("1");
  assert.throws(() => bans.checkUser("2"));
  bans.add({ kind: "group", id: "3", reason: "", until });
  bans.replace([], 0);
  assert.throws(() => bans.checkGroup("3"));
});
