/** Brokers over a real RocketMQ and a real Redis, for tests. */
import { logger } from "@gru/shared/log";
import { waitFor } from "@gru/shared/testing/harness";
import { RocketmqBroker } from "./broker.ts";
import type { RocketmqAccess } from "./client.ts";
import type { BrokerCluster } from "../broker/testing.ts";
import { CountingProxy } from "../redis/testing.ts";

export interface Place {
  readonly redisPort: number;
  /** The port of the proxy. */
  readonly rocketmqPort: number;
  /** Of Redis; default 0. */
  readonly database?: number;
  /** Default {@linkcode clusterId}. */
  readonly identity?: string;
  /** True: do not wait until messages arrive through RocketMQ. */
  readonly impatient?: boolean;
  /** Default: without credentials and TLS. */
  readonly access?: RocketmqAccess;
}

export const topic = "gru";
/** The identity of the cluster. */
export const clusterId = "test";

/** The nodes of a broker on this Redis and this RocketMQ. */
export function brokersOver(place: Place): BrokerCluster {
  const { redisPort, rocketmqPort, impatient = false, database = 0, identity = clusterId } = place;
  const stack = new AsyncDisposableStack();
  const received = new Map<unknown, () => number>();
  let opened = 0;
  return {
    open: async (sink, settings) => {
      const way = stack.use(new CountingProxy(redisPort));
      const broker = new RocketmqBroker({
        ...{ url: `redis://127.0.0.1:${way.port}/${database}`, topic },
        proxies: [`127.0.0.1:${rocketmqPort}`],
        ...place.access,
        cluster: Promise.resolve(identity),
        ...{ node: `spear${++opened}`, log: logger("spear"), ...settings },
      }, sink);
      // RocketMQ's client does not stay on a way through a proxy: it connects to where the server says it is.
      received.set(broker, () => way.received + broker.received);
      await waitFor(() => broker.connected && (impatient || broker.direct), {
        what: "a broker that is connected",
      }).catch((error) => {
        throw new Error(`${error.message}; ${broker.carrier.trouble}`);
      });
      return broker;
    },
    received: (broker) => received.get(broker)?.() ?? NaN,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}
