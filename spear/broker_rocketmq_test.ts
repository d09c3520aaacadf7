import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing";
import { startRedis } from "@gru/shared/testing_redis";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing_rocketmq";
import { brokerCases } from "./broker_conformance.ts";
import { RocketmqBroker } from "./broker_rocketmq.ts";
import type { BrokerCluster } from "./broker_testing.ts";
import { withRedis } from "./redis_testing.ts";

/** The nodes of a broker over a Redis and a RocketMQ. */
function brokersOver(url: string, rocketmq: RocketmqServer): BrokerCluster {
  let opened = 0;
  return {
    open: async (sink, settings) => {
      const broker = new RocketmqBroker({
        ...{ url, rocketmq: rocketmq.address, topic: "gru", node: `spear${++opened}` },
        log: logger("spear"),
        ...settings,
      }, sink);
      await waitFor(() => broker.connected && broker.direct, {
        what: "a broker that is connected",
      });
      return broker;
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

rocketmqTest({
  name: "RocketmqBroker passes the conformance suite",
  needs: ["redis"],
  fn: async (t) => {
    await using rocketmq = await startRocketmq({ topics: ["gru"] });
    for (const { name, needs, run } of brokerCases) {
      if (needs === "received") continue;
      await t.step(name, async () => {
        await using redis = await startRedis();
        await using cluster = brokersOver(redis.url, rocketmq);
        const loseData = () => withRedis(redis.port, async (it) => void await it.flushall());
        await run({ ...cluster, loseData });
      });
    }
  },
});
void assert;
