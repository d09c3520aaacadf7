/** A spear: holds the connections of clients and carries messages between them. */
import { type IdgenContract, idgenContract } from "@gru/idgen/contract";
import { type Node, type NodeOverrides, openNode } from "@gru/shared/node";
import type { Registration } from "@gru/shared/registry";
import { MemoryRegistry } from "@gru/shared/registry_memory";
import type { RpcClient } from "@gru/shared/rpc/client";
import { serveContract } from "@gru/shared/rpc/server";
import { type StatContract, statContract } from "@gru/stat/contract";
import { Ring } from "@gru/ticket/contract";
import { door } from "@gru/ticket/token";
import { admit } from "./admission.ts";
import { Bans } from "./bans.ts";
import { followBans } from "./bans_follow.ts";
import type { Broker, BrokerSink } from "./broker.ts";
import { MemoryBus } from "./broker_memory.ts";
import { RedisBroker } from "./broker_redis.ts";
import { spearCommands } from "./commands.ts";
import type { SpearConfig } from "./config.ts";
import {
  clientAddress,
  spearContract,
  type SpearNode,
  spearNodes,
  spearService,
} from "./contract.ts";
import { drain } from "./drain.ts";
import { startExpiry } from "./expiry.ts";
import { FanOut } from "./fanout.ts";
import { Gateway } from "./gateway.ts";
import { Hub } from "./hub.ts";
import { idgenIds, type IdSource, localIds } from "./ids.ts";
import { Listeners } from "./listeners.ts";
import { Meter } from "./load_meter.ts";
import { type SpearMeta, startLoadTelling } from "./load_telling.ts";
import { Presence } from "./presence.ts";
import { startReporter } from "./reporter.ts";
import { type Delta, Roster } from "./roster.ts";
import type { Session } from "./session.ts";
import { MemoryUsedTokens, RedisUsedTokens } from "./used_tokens.ts";
import { groupTarget } from "./wire.ts";

/** What a spear is given in place of what its mode would have it open. */
export interface SpearOverrides extends NodeOverrides {
  readonly idgen?: RpcClient<IdgenContract>;
  readonly stat?: RpcClient<StatContract>;
  readonly bus?: MemoryBus;
}

export interface Spear extends AsyncDisposable {
  /** Where clients connect. */
  readonly address: string;
  /** Health, metrics and RPC. */
  readonly monitorAddress: string;
}

/** @throws {ConfigError} {@linkcode Error} when a port is taken or the registry out of reach. */
export async function startSpear(
  config: SpearConfig,
  overrides: SpearOverrides = {},
): Promise<Spear> {
  await using stack = new AsyncDisposableStack();
  const alone = config.mode === "single" && overrides.stat === undefined;
  const node = stack.use(
    await openNode("spear", config, {
      ...overrides,
      ...(config.mode === "single" ? { registry: overrides.registry ?? new MemoryRegistry() } : {}),
    }),
  );
  const { log } = node;

  const ids = await idSource(config, overrides, node, stack);
  const stat = alone ? undefined : overrides.stat ?? stack.use(await node.connect(statContract));

  const [accepted, delivered] = [new Meter(), new Meter()];
  const hub = new Hub<Session>({
    fanOut: (frame, members) => {
      delivered.add(members.size);
      for (const member of members) member.send(frame);
    },
  });
  stack.defer(() => hub.close());
  const broker = stack.use(await openBroker(config, overrides, node, hub));
  hub.connect(broker);
  const publisher: Pick<Broker, "publish"> = {
    publish: async (publication) => {
      const position = await broker.publish(publication);
      accepted.add(1);
      return position;
    },
  };
  const bans = new Bans();
  const listeners = stack.use(new Listeners(hub));

  const usersOfGroup = async (groupId: string) =>
    stat === undefined
      ? usersHere(hub, groupId)
      : (await stat.any.usersOfGroup({ groupId })).userIds;
  const presence = stack.use(new Presence({ usersOfGroup, periodMs: config.reportMs / 2, log }));
  const roster = stat === undefined ? undefined : new Roster();
  const admission = {
    door: door(config.auth, node.name),
    used: stack.use(openUsedTokens(config, node)),
  };
  const fanOut = stack.use(new FanOut({ windowMs: config.gatherMs }));
  const gateway = stack.use(
    await Gateway.open({
      host: config.host,
      port: config.port,
      payloadBytes: config.limits.payloadBytes,
      authMs: config.limits.authMs,
      connections: config.limits.connections,
      origins: config.origins,
      slow: { waitingBytes: config.limits.waitingBytes, policy: config.slowConsumer },
      fanOut,
      session: {
        hub,
        broker: publisher,
        bans,
        ids,
        roster,
        usersOfGroup,
        presence,
        authenticate: (claims) => admit(admission, claims),
        limits: config.limits,
        historyMs: config.history.size === 0 ? 0 : config.history.ageMs,
        log,
      },
    }),
  );
  if (config.auth.scheme === "jwt") {
    stack.use(startExpiry({ sessions: gateway.sessions, refreshMs: config.auth.refreshMs }));
  }
  if (stat !== undefined && roster !== undefined) {
    stack.use(startReporter({
      node: node.name,
      stat,
      roster,
      everyone: () => everyone(gateway.sessions),
      connections: () => gateway.sessions.size,
      load: () => ({
        acceptedPerSecond: accepted.perSecond,
        deliveredPerSecond: delivered.perSecond,
        memoryBytes: Deno.memoryUsage().rss,
      }),
      reportMs: config.reportMs,
      log,
    }));
  }

  const monitorPort = config.monitorPort ?? (config.port === 0 ? 0 : config.port + 1);
  const others = await watchOthers(node, stack);
  const announced = Promise.withResolvers<Registration>();
  let meta: SpearMeta = { weight: config.weight, capacity: config.limits.connections };
  const empty = async (overMs = config.drainMs) => {
    gateway.refuse("this node is being emptied");
    meta = { ...meta, draining: true };
    await (await announced.promise).update({ addresses: { rpc: monitor.address }, meta });
    const connections = gateway.sessions.size;
    void drain({ sessions: gateway.sessions, placesOf: others, drainMs: overMs });
    return { connections, overMs };
  };
  const commands = spearCommands({
    node: node.name,
    hub,
    sessions: gateway.sessions,
    broker: { publish: publisher.publish, history: (...query) => broker.history(...query) },
    ids,
    bans,
    listeners,
    historyMs: config.history.size === 0 ? 0 : config.history.ageMs,
    payloadBytes: config.limits.payloadBytes,
    drain: empty,
  });
  const monitor = stack.use(
    await node.serve({
      port: monitorPort,
      services: [serveContract(spearContract, commands)],
      ready: () => ({ broker: broker.connected }),
    }),
  );
  const address = config.advertise ?? `http://${config.host}:${gateway.port}`;
  stack.defer(() => {
    gateway.refuse("this node is stopping");
    return drain({ sessions: gateway.sessions, placesOf: others, drainMs: config.drainMs });
  });
  // Registered last and taken back first: who finds this node can connect to it.
  const registration = stack.use(
    await node.announce({ [clientAddress]: address, rpc: monitor.address }, { ...meta, load: 0 }),
  );
  announced.resolve(registration);
  stack.use(
    startLoadTelling({ registration, meta: () => meta, load: () => gateway.sessions.size, log }),
  );
  // Begun when commands reach this node: what it is told from then on, it need not read.
  if (stat !== undefined) {
    stack.use(followBans({ stat, bans, hub, periodMs: 5 * config.reportMs, log }));
  }

  const running = stack.move();
  return {
    address,
    monitorAddress: monitor.address,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

async function idSource(
  config: SpearConfig,
  overrides: SpearOverrides,
  node: Node,
  stack: AsyncDisposableStack,
): Promise<IdSource> {
  if (overrides.idgen !== undefined) return idgenIds(overrides.idgen);
  if (config.mode === "single") return localIds();
  return idgenIds(stack.use(await node.connect(idgenContract)));
}

async function openBroker(
  config: SpearConfig,
  overrides: SpearOverrides,
  node: Node,
  sink: BrokerSink,
): Promise<Broker> {
  const { history, publishMs, mode, redis, redisPassword, rocketmq } = config;
  if (mode === "single") return (overrides.bus ?? new MemoryBus(history)).connect(sink);
  const options = {
    ...{ url: redis, password: redisPassword, history, publishMs },
    node: node.name,
    log: node.log,
  };
  if (mode === "redis") return new RedisBroker(options, sink);
  // Loaded only where it is used: its client is large.
  const { RocketmqBroker } = await import("./broker_rocketmq.ts");
  return new RocketmqBroker({ ...options, rocketmq }, sink);
}

/** Where a user belongs when this node is gone. */
async function watchOthers(node: Node, stack: AsyncDisposableStack) {
  let others: readonly SpearNode[] = [];
  let ring: Ring<SpearNode> | undefined;
  stack.use(
    await node.registry.watch(spearService, ({ instances }) => {
      others = spearNodes(instances).filter(({ name }) => name !== node.name);
      // Nodes tell their load every second; who belongs where is asked once in a lifetime.
      ring = undefined;
    }),
  );
  return (userId: string) => (ring ??= new Ring(others)).order(userId);
}

/** Only scheme jwt has tokens that can be used up. */
function openUsedTokens({ auth, mode, redis, redisPassword }: SpearConfig, node: Node) {
  return auth.scheme !== "jwt" || mode === "single"
    ? new MemoryUsedTokens()
    : new RedisUsedTokens({ url: redis, password: redisPassword, node: node.name, log: node.log });
}

function usersHere(hub: Hub<Session>, groupId: string): string[] {
  const users = new Set<string>();
  for (const { userId } of hub.members(groupTarget(groupId))) {
    if (userId !== undefined) users.add(userId);
  }
  return [...users];
}

function everyone(sessions: ReadonlySet<Session>): Delta {
  const users = new Set<string>();
  const groups = new Map<string, Set<string>>();
  for (const session of sessions) {
    const { userId } = session;
    if (userId === undefined) continue;
    users.add(userId);
    for (const group of session.groups) {
      groups.getOrInsertComputed(group, () => new Set()).add(userId);
    }
  }
  return {
    users: { joined: [...users], left: [] },
    groups: [...groups].map(([groupId, members]) => ({ groupId, joined: [...members], left: [] })),
  };
}
