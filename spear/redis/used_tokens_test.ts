import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { range } from "../broker/testing.ts";
import { RedisUsedTokens } from "./used_tokens.ts";

serverTest({
  name: "RedisUsedTokens has one connection, takes each token once, and leaves none behind",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    const connections = async () =>
      String(await withRedis(server.port, (redis) => redis.call("CLIENT", "LIST")))
        .split("\n").flatMap((line) => /name=(gru-\S+)/.exec(line)?.[1] ?? []);
    {
      await using used = new RedisUsedTokens({ url: server.url, node: "spear9", log: logger("t") });
      const until = Date.now() + 60_000;
      const uses = await Promise.all(range(5).map(() => used.use("7", "token", until)));
      assert.deepEqual(uses.filter((first) => first).length, 1);
      assert.deepEqual(await connections(), ["gru-spear9-tokens-commands"]);
    }
    await waitFor(async () => (await connections()).length === 0);
  },
});

serverTest({
  name:
    "one token2 lets in once over all nodes that share a Redis, also when all are asked at once",
  needs: "redis",
  fn: async () => {
    await using redis = await startRedis();
    await using stack = new AsyncDisposableStack();
    const nodes = Array.from({ length: 4 }, (_, i) =>
      stack.use(
        new RedisUsedTokens({ url: redis.url, node: `spear${i + 1}`, log: logger("spear") }),
      ));
    for (let round = 0; round < 20; round++) {
      const id = crypto.randomUUID();
      const until = Date.now() + 60_000;
      const firsts = await Promise.all(nodes.map((node) => node.use("1", id, until)));
      assert.equal(firsts.filter(Boolean).length, 1);
    }
    const id = crypto.randomUUID();
    const [one, other] = nodes;
    if (one === undefined || other === undefined) throw new Error("no nodes");
    assert.equal(await one.use("1", id, Date.now() + 60_000), true);
    redis.freeze();
    const fresh = other.use("1", crypto.randomUUID(), Date.now() + 60_000);
    await assert.rejects(fresh, /whether a token has been used/);
    redis.thaw();
    await waitFor(() =>
      other.use("1", crypto.randomUUID(), Date.now() + 60_000).catch(() => false)
    );
    assert.equal(await other.use("1", id, Date.now() + 60_000), false);
  },
});
