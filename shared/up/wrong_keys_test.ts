/** Wrong keys at stat's API and wrong passwords at the console, in the audit log of real programs over a real Redis. */
import assert from "node:assert/strict";
import { freePort, serverTest } from "@gru/shared/testing/harness";
import { newUser } from "../../minions/users.ts";
import type { Json } from "../../spear/test_client.ts";
import { TestCluster } from "./processes.ts";

serverTest({
  name:
    "guesses of keys and passwords stand in the audit log with their count, and never what was guessed",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    const key = { GRU_STAT_API_KEY: "the right key" };
    const users = await newUser("ann", "act", "a long password");
    const httpPort = freePort();
    const [stat, minions] = await Promise.all([
      cluster.add("stat", "test1", { httpPort }, key),
      cluster.add("minions", "test1", {}, { ...key, GRU_MINIONS_USERS: users }),
    ]);
    const call = (path: string, key: string) =>
      fetch(`http://127.0.0.1:${httpPort}${path}`, { headers: { authorization: `Bearer ${key}` } });
    for (let i = 0; i < 7; i++) {
      const response = await call("/nodes", "guess-of-key");
      await response.body?.cancel();
      assert.equal(response.status, 401);
    }
    for (const [name, times] of [["ann", 2], ["guess-in-the-wrong-field", 1]] as const) {
      for (let i = 0; i < times; i++) {
        const response = await fetch(`${minions.address}/sign-in`, {
          method: "POST",
          headers: { "content-type": "application/json", "x-gru": "console" },
          body: JSON.stringify({ name, password: "guess-of-password" }),
        });
        await response.body?.cancel();
        assert.equal(response.status, 401);
      }
    }
    // Who stops in order notes before the minute is over.
    await minions.process.kill("SIGTERM");
    await stat.restart({ signal: "SIGTERM" });

    const text = await (await call("/audit", "the right key")).text();
    const { entries }: Json = JSON.parse(text);
    const guesses = entries.filter(({ result }: Json) => result === "401")
      .map(({ via, who, address, command, details }: Json) =>
        [via, who, address, command, details].join(" ")
      );
    assert.deepEqual(guesses.sort(), [
      'api unknown 127.0.0.1 wrong key {"count":7}',
      'console ann 127.0.0.1 wrong password {"count":2}',
      'console unknown 127.0.0.1 wrong password {"count":1}',
    ]);
    assert.doesNotMatch(text, /guess/);
    assert.match(stat.process.output, /a wrong API key from "127\.0\.0\.1"/);
    assert.match(minions.process.output, /wrong password of "an unknown name"/);
    for (const { process } of [stat, minions]) assert.doesNotMatch(process.output, /guess/);
  },
});
