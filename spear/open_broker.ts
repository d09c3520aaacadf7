/** Opens what carries messages between the nodes, as the profile says. */
import type { Node } from "@gru/shared/node";
import type { RedisDriver } from "@gru/shared/redis/link";
import { readPem } from "@gru/shared/pem";
import type { Broker, BrokerSink, HistoryOf, ServedBroker } from "./broker/broker.ts";
import { MemoryBus } from "./broker/memory.ts";
import type { SpearConfig } from "./config.ts";
import { spearService } from "./contract.ts";
import { RedisBroker } from "./redis/broker.ts";
import { warnOfOldSpears } from "./mode_of_others.ts";
import { ClusterIdentity } from "./redis/identity.ts";

export interface OpenBrokerOptions {
  readonly bus?: MemoryBus | undefined;
  readonly redisDriver?: RedisDriver | undefined;
  readonly node: Node;
  /** Default: as the profile's `history`. */
  readonly historyOf?: HistoryOf | undefined;
  /** What the registry shows of this start of the node, as `meta.session`. */
  readonly session: string;
  /** Found after the start, because Redis was out of reach then: it belongs to another cluster. */
  readonly onForeign: (error: Error) => void;
}

/** The stack closes it. @throws {ConfigError} Redis belongs to another cluster, or a file cannot be read. */
export async function openBroker(
  config: SpearConfig,
  options: OpenBrokerOptions,
  sink: BrokerSink,
  stack: AsyncDisposableStack,
): Promise<Broker | ServedBroker> {
  const { history, publishMs, durability, mode, redis, redisPassword } = config;
  const { bus, redisDriver, node, historyOf } = options;
  if (mode === "single") {
    const own = bus ?? new MemoryBus(history, Date.now, historyOf);
    return stack.use(own.connect(sink));
  }
  const common = {
    ...{ url: redis, password: redisPassword, driver: redisDriver, history, publishMs },
    historyOf,
    ...{ durability, node: node.name, log: node.log },
  };
  // A simulation has one cluster only.
  const cluster = redisDriver === undefined
    ? await identify(config, options, stack)
    : { found: Promise.resolve("simulated") };
  if (mode === "redis") return stack.use(new RedisBroker(common, sink));
  const { rocketmqCaFile, rocketmqNamespace } = config;
  const inNamespace = (name: string) =>
    rocketmqNamespace === undefined ? name : `${rocketmqNamespace}%${name}`;
  const ca = rocketmqCaFile === undefined ? undefined : readPem("rocketmqCaFile", rocketmqCaFile);
  // Loaded only where it is used: its client is large.
  const { RocketmqBroker } = await import("./rocketmq/broker.ts");
  return stack.use(
    new RocketmqBroker({
      ...common,
      cluster: cluster.found,
      proxies: proxiesOf(config.rocketmq),
      topic: inNamespace(config.rocketmqTopic),
      accessKey: config.rocketmqAccessKey,
      secretKey: config.rocketmqSecretKey,
      tls: config.rocketmqTls || ca !== undefined,
      ca,
    }, sink),
  );
}

/** `host:port`, several separated by commas. */
export function proxiesOf(rocketmq: string): string[] {
  return rocketmq.split(",").map((proxy) => proxy.trim());
}

/** Waits a while for the identity, which may be found later. */
async function identify(
  { redis, redisPassword, mode }: SpearConfig,
  { node, session, onForeign }: OpenBrokerOptions,
  stack: AsyncDisposableStack,
): Promise<Pick<ClusterIdentity, "found">> {
  let known: ReadonlySet<string> = new Set();
  const look = warnOfOldSpears(mode, node.log);
  stack.use(
    await node.registry.watch(spearService, ({ instances }) => {
      look(instances);
      known = new Set(instances.map(({ meta }) => String(meta["session"])));
    }),
  );
  const identity = stack.use(
    new ClusterIdentity({
      ...{ url: redis, password: redisPassword, node: node.name, session, log: node.log },
      known: () => known,
    }),
  );
  const found = await identity.atStart();
  if (found === undefined) identity.found.catch(onForeign);
  return identity;
}
