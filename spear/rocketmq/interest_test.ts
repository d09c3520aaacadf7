import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { newTarget } from "../broker/testing.ts";
import { RedisStore } from "../redis/store.ts";
import { RocketmqInterest } from "./interest.ts";
import type { Target } from "../wire.ts";

/** Shifts this process's clock until it is disposed. */
function clockOffBy(ms: number): Disposable {
  const { now } = Date;
  Date.now = () => now() + ms;
  return { [Symbol.dispose]: () => void (Date.now = now) };
}

serverTest({
  name: "a node finds the other nodes that listen, and they find it, however wrong its clock is",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    const closing = new AbortController();
    await using stack = new AsyncDisposableStack();
    const open = (tag: string) => {
      const store = stack.use(
        new RedisStore({
          ...{ url: server.url, node: tag, publishMs: 3000, log: logger("test") },
          history: { size: 10, ageMs: 60_000 },
        }, { onChange: () => {}, seen: () => [], overRedis: () => [] }),
      );
      const interest = new RocketmqInterest({
        store,
        tag: () => tag,
        missed: () => {},
        closing: closing.signal,
      });
      const others = async (target: Target) => {
        const id = crypto.randomUUID();
        const { toCarry } = await store.publish({ target, id, body: "{}" });
        return interest.others(target, toCarry);
      };
      return {
        enter: (target: Target) => interest.enter(target),
        leave: (target: Target) => interest.leave(target),
        others,
      };
    };
    const [right, wrong] = [open("right"), open("wrong")];
    const target = newTarget();
    const found = async () => [await right.others(target), await wrong.others(target)];
    await right.enter(target);
    for (const hours of [2, -24]) {
      {
        using _off = clockOffBy(hours * 3_600_000);
        await wrong.enter(target);
        assert.deepEqual(await wrong.others(target), ["right"]);
      }
      assert.deepEqual(await found(), [["wrong"], ["right"]], `${hours} h`);
      await wrong.leave(target);
      assert.deepEqual(await found(), [[], ["right"]]);
    }

    // A node that does not renew its entry is not found for ever.
    await withRedis(server.port, (redis) => redis.hset(`gru:{${target}}:nodes`, "gone", 1));
    assert.deepEqual(await wrong.others(target), ["right"]);
    await waitFor(() =>
      withRedis(server.port, async (redis) => await redis.hlen(`gru:{${target}}:nodes`) === 1)
    );
  },
});
