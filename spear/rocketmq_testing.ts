/** Brokers over a real RocketMQ and a real Redis, for tests. */
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing";
import { RocketmqBroker } from "./broker_rocketmq.ts";
import type { BrokerCluster } from "./broker_testing.ts";
import { CountingProxy } from "./redis_testing.ts";

export interface Place {
  readonly redisPort: number;
  /** Of the proxy. */
  readonly rocketmqPort: number;
  /** Do not wait until messages come through RocketMQ. */
  readonly impatient?: boolean;
}

export const topic = "gru";

/** The nodes of a broker over a Redis and a RocketMQ. */
export function brokersOver(place: Place): BrokerCluster {
  const { redisPort, rocketmqPort, impatient = false } = place;
  const stack = new AsyncDisposableStack();
  const received = new Map<unknown, () => number>();
  let opened = 0;
  return {
    open: async (sink, settings) => {
      const way = stack.use(new CountingProxy(redisPort));
      const broker = new RocketmqBroker({
        ...{ url: `redis://127.0.0.1:${way.port}`, rocketmq: `127.0.0.1:${rocketmqPort}`, topic },
        ...{ node: `spear${++opened}`, log: logger("spear"), ...settings },
      }, sink);
      // RocketMQ's client does not stay on a way through a proxy: it connects to where the server says it is.
      received.set(broker, () => way.received + broker.received);
      await waitFor(() => broker.connected && (impatient || broker.direct), {
        what: "a broker that is connected",
      });
      return broker;
    },
    received: (broker) => received.get(broker)?.() ?? NaN,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
