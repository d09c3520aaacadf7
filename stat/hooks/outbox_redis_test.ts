import { Redis } from "ioredis";
import { logger } from "@gru/shared/log";
import { serverTest } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { RedisCalls } from "../redis_calls.ts";
import { fieldsOf } from "./event.ts";
import { outboxCases } from "./outbox_conformance.ts";
import { RedisOutbox } from "./outbox_redis.ts";
import { RedisTelling } from "./telling_redis.ts";

for (const { name, run } of outboxCases) {
  serverTest({
    name: `RedisOutbox: ${name}`,
    needs: "redis",
    fn: async () => {
      await using stack = new AsyncDisposableStack();
      const server = stack.use(await startRedis());
      const open = async (node: string) => {
        const options = { url: server.url, node, log: logger("stat"), timeoutMs: 2000 };
        const calls = stack.use(new RedisCalls(options));
        await calls.opened();
        return calls;
      };
      const [calls, others] = [await open("stat1"), await open("stat2")];
      const [outbox, other] = [new RedisOutbox(calls), new RedisOutbox(others)];
      // The book must be there before there are gaps to tell.
      const telling = new RedisTelling(calls);
      const token = await outbox.lease(undefined, 60_000) ?? "";
      await telling.reset(token, { graceMs: 0, caller: "test" });
      await outbox.release(token);
      const redis = new Redis({ port: server.port, lazyConnect: true });
      await redis.connect();
      await redis.xtrim("gru_stat_events", "MAXLEN", 0);
      await redis.del("gru_stat_events");
      try {
        await run({
          ...{ outbox, other },
          add: async (kind, subject, data) => {
            const event = { kind, subject, timeMs: Date.now(), data: data as never };
            await redis.xadd("gru_stat_events", "*", ...fieldsOf(event));
          },
          [Symbol.asyncDispose]: async () => {},
        });
      } finally {
        const ended = new Promise((resolve) => redis.once("end", resolve));
        redis.disconnect();
        await ended;
      }
    },
  });
}
