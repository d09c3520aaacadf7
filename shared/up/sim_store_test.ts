import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { brokerCases } from "../../spear/broker/conformance.ts";
import { RedisBroker } from "../../spear/redis/broker.ts";
import { Way } from "./sim_network.ts";
import { SimRedis } from "./sim_redis.ts";
import { SimRedisEndpoint } from "./sim_store.ts";
import { VirtualTime } from "./sim_time.ts";

for (const { name, needs, run } of brokerCases) {
  // No bytes are counted.
  if (needs === "received") continue;
  Deno.test(`RedisBroker over the simulated Redis: ${name}`, async () => {
    using time = new VirtualTime(name);
    const place = new SimRedisEndpoint(time, new SimRedis({ identity: "aof" }));
    let opened = 0;
    let outcome: unknown = "still running";
    run({
      open: async (sink, options) => {
        const node = `spear${++opened}`;
        const broker = new RedisBroker({
          ...{ url: "redis://simulated:6379", node, log: logger("spear") },
          driver: place.driverOf(time.current, new Way(`${name} ${node}`, 3)),
          ...options,
        }, sink);
        await waitFor(() => broker.connected, { what: "a broker that is connected" });
        return broker;
      },
      loseData: async () => void place.server.loseSince(0),
      [Symbol.asyncDispose]: async () => {},
    }).then(() => outcome = undefined, (error) => outcome = error);
    await time.until(() => outcome !== "still running", 120_000);
    assert.ifError(outcome);
    assert.deepEqual(time.uncaught, []);
  });
}
