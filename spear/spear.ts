/** A spear: holds the connections of clients and carries messages between them. */
import { type IdgenContract, idgenContract } from "@gru/idgen/contract";
import { FollowedClock } from "@gru/shared/clock";
import type { ReadonlyCompactSet } from "@gru/shared/compact";
import { agrees, publishedClaim } from "@gru/shared/agreement";
import { type Node, type NodeOverrides, openNode } from "@gru/shared/node";
import type { Readiness } from "@gru/shared/readiness";
import { originOf } from "@gru/shared/http/serve";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import type { RpcClient } from "@gru/shared/rpc/client";
import { RpcError } from "@gru/shared/rpc/contract";
import { serveContract } from "@gru/shared/rpc/server";
import { within } from "@gru/shared/within";
import { restoredAtOnce, type StatContract, statContract } from "@gru/stat/contract";
import { Ring, tokensClaim, tokensKey } from "@gru/ticket/contract";
import { DecisionWatch } from "@gru/shared/webhooks/metrics";
import { pooledPost } from "@gru/shared/webhooks/post";
import { hasSignedToken2, verifier } from "@gru/ticket/token";
import { admit, Entering } from "./session/admission.ts";
import { Bans } from "./session/bans.ts";
import type { HistoryLimits } from "./broker/broker.ts";
import { followRestrictions } from "./session/restrictions_follow.ts";
import { Mutes } from "./session/mutes.ts";
import type { MemoryBus } from "./broker/memory.ts";
import { openBroker } from "./open_broker.ts";
import { Rebalance } from "./session/rebalance.ts";
import { RedisUsedTokens } from "./redis/used_tokens.ts";
import { fromTarget, spearCommands } from "./session/commands.ts";
import { monitorPortOf, type SpearConfig } from "./config.ts";
import { SpearMetrics } from "./metrics.ts";
import { Refusals } from "./refusals.ts";
import {
  clientAddress,
  spearContract,
  type SpearNode,
  spearNodes,
  spearService,
} from "./contract.ts";
import { drain } from "./session/drain.ts";
import { Echoes } from "./session/echoes.ts";
import { startExpiry } from "./session/expiry.ts";
import { GroupRules } from "./session/group_rules.ts";
import { WriteScheduler } from "./socket/write_scheduler.ts";
import { Gateway, type GatewayOptions } from "./socket/gateway.ts";
import { GroupPlaces } from "./presence/group_places.ts";
import { GroupUsers } from "./presence/group_users.ts";
import { groupKinds } from "./groups_config.ts";
import { Hub } from "./hub/hub.ts";
import { idgenIds, type IdSource, localIds } from "./ids.ts";
import { Intake, takenOn } from "./session/intake.ts";
import { KeptRoom } from "./session/kept.ts";
import { KicksFollower } from "./session/kicks.ts";
import { Listeners } from "./hub/listeners.ts";
import { Canary } from "./hub/canary.ts";
import { Trail } from "./hub/trail.ts";
import { Frame, passedFrame } from "./packets.ts";
import { Meter } from "./presence/load_meter.ts";
import { type SpearMeta, startLoadAnnouncement } from "./presence/load_announcement.ts";
import { guardName } from "./presence/name_guard.ts";
import { Presence } from "./presence/presence.ts";
import type { RedisDriver } from "@gru/shared/redis/link";
import type { Repeated } from "@gru/shared/repeat";
import { startReporter } from "./presence/reporter.ts";
import { type Change, Roster } from "./presence/roster.ts";
import type { Session } from "./session/session.ts";
import { needRedis, needService } from "./needs.ts";
import { withinRates } from "./session/rates.ts";
import { openSubmit } from "./session/submit.ts";
import { MemoryUsedTokens } from "./session/used_tokens.ts";
import { MessageTracing } from "./tracing.ts";
import { ActiveTargets } from "./presence/active_targets.ts";
import { groupTarget, userTarget } from "./wire.ts";
import { Decisions, type DecisionsOptions } from "./session/decisions.ts";
import { Work } from "./session/work.ts";

/** An answer to `online` is given to others for so long. */
const maxOnlineAgeMs = 300;

/** What a spear is given in place of what its mode would have it open. */
export interface SpearOverrides extends NodeOverrides {
  readonly idgen?: RpcClient<IdgenContract>;
  readonly stat?: RpcClient<StatContract>;
  readonly bus?: MemoryBus;
  readonly redisDriver?: RedisDriver;
  /** How late the node is, in parts of how late it may be, in place of what is measured. */
  readonly late?: () => number;
  /** Where clients come in, in place of socket.io. */
  readonly openGateway?: (
    options: GatewayOptions,
  ) => Promise<Pick<Gateway, "port" | "sessions" | "refuse"> & AsyncDisposable>;
}

export interface Spear extends AsyncDisposable {
  /** Where clients connect. */
  readonly address: string;
  /** Health, metrics and RPC. */
  readonly monitorAddress: string;
  readonly readiness: Readiness;
}

/** Nobody gets it: it finds out how long others wait to be written. */
const probe = new Frame("g:", "", 0, "");
const emptied = "this node is being emptied";
const foreignTokens = "this node has another secret for tokens than the cluster";
/** A start whose needs are met within this time is ready when it resolves. */
const usualStartMs = 1000;
/** Over this time the clients of a node that has lost its name are sent away. */
const nameLostDrainMs = 1000;
/** A stop does not wait longer for a registry that is out of reach: the session there ends by itself. */
const registryMs = 500;

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
  const { log, readiness } = node;
  const session = overrides.redisDriver ? node.name : crypto.randomUUID().slice(0, 13);
  const tokens = tokensClaim(config.auth);
  if (!alone) {
    stack.use(await node.agreeOnClusterKey());
    stack.use(
      await node.agree({
        claim: tokens,
        services: ["ticket", spearService],
        secret: `the scheme or secret of token2 (auth.scheme, ${
          config.auth.scheme === "gru" ? "GRU_SALT_TOSPEAR" : "GRU_TOKEN2_SECRET"
        })`,
      }),
    );
  }
  let meta: SpearMeta = {
    ...{ weight: config.weight, capacity: config.limits.connections },
    ...{ mode: config.mode, session },
  };
  // Before anything is done under this name, and without addresses: nobody is sent here yet.
  const registration = stack.use(await node.announce({}, { ...meta, load: 0 }));

  const ids = await idSource(config, overrides, node, stack);
  const stat = alone ? undefined : overrides.stat ?? stack.use(await node.connect(statContract));

  const [accepted, delivered] = [new Meter(), new Meter()];
  const counts = new SpearMetrics(node.clock.now, stack.use(new Refusals(log)));
  const trail = new Trail({ size: config.trailMessages, now: node.clock.now });
  const tracing = config.messageSpans === 0
    ? undefined
    : new MessageTracing(config.messageSpans, node.name);
  const kinds = groupKinds(config);
  const echoes = kinds && new Echoes<Session>();
  const hub = new Hub<Session>({
    fanOut: (frame, members) => {
      delivered.add(members.size);
      counts.fannedOut(frame, members.size);
      const startedAt = tracing === undefined ? 0 : performance.now();
      give(frame, members, echoes?.senderOf(frame));
      if (frame.seq > 0) {
        tracing?.given(frame, startedAt, members.size, (done) => scheduler.behind(frame, done));
      }
    },
    onDeliver: (target, epoch, seq, members) => trail.received(target, epoch, seq, members),
    onGap: () => counts.repaired(),
  });
  stack.defer(() => hub.close());
  let foreign = "";
  let refuseClients = () => {};
  const onForeign = (error: Error) => {
    foreign = error.message;
    readiness.need("cluster", foreign).miss(foreign, { atOnce: true });
    log.error("this node takes no clients: {reason}", { reason: foreign });
    refuseClients();
  };
  const { bus, redisDriver } = overrides;
  const brokerOptions = {
    ...{ bus, redisDriver, node, session, onForeign },
    historyOf: kinds?.historyOf,
  };
  const broker = await openBroker(config, brokerOptions, hub, stack);
  hub.connect(broker);
  if ("proveWritable" in broker) stack.use(needRedis(readiness, broker));
  const active = stat === undefined ? undefined : stack.use(
    new ActiveTargets({
      note: async (targets, signal) => {
        const noted = targets.map(({ target, position }) => ({
          target: fromTarget(target),
          ...{ epoch: position.epoch, seq: position.seq },
        }));
        return (await stat.any.active({ targets: noted }, { signal })).wanted;
      },
      position: async (target) => (await broker.history(target, { epoch: "", seq: 0 }, 1)).head,
      log,
    }),
  );
  const historyMs = keptMs(config.history);
  const submitAll = openSubmit({
    ids,
    broker,
    kinds,
    before: active && ((target) => active.before(target)),
    now: node.clock.now,
    historyMs: kinds === undefined ? () => historyMs : (target) => keptMs(kinds.historyOf(target)),
    onAccepted: ({ id, epoch, seq }, target, fromId, times) => {
      accepted.add(1);
      intake.accepted(target, performance.now() - times.askedAt);
      // Where it was is asked by its place, which an ephemeral one has not.
      if (seq === 0) return;
      trail.accepted({ id, epoch, seq, target, fromId });
      tracing?.accepted({ target, epoch, seq }, times, id, fromId);
    },
  });
  const submitRated = kinds === undefined ? submitAll : withinRates(submitAll, kinds);
  const submit = counts.counting(submitRated);
  const storeClock = new FollowedClock();
  const bans = new Bans(storeClock);
  const mutes = new Mutes(storeClock);
  const followMs = 5 * config.reportMs;
  const kicksFollower = stat === undefined ? undefined : stack.use(
    new KicksFollower({
      kicks: bans.kicks,
      read: (since, signal) => stat.any.kicks({ since }, { signal }),
      restore: async (kicks, signal) => {
        for (let at = 0; at < kicks.length; at += restoredAtOnce) {
          const some = kicks.slice(at, at + restoredAtOnce);
          await stat.any.restoreKicks({ kicks: some }, { signal });
        }
      },
      clock: storeClock,
      periodMs: followMs,
      onMissed: ({ userId }) => endKicked(userId, bans, hub),
      log,
    }),
  );
  let follower: Repeated | undefined;
  const listeners = stack.use(new Listeners(hub));

  const groupUsers = new GroupUsers({
    read: async (groupId) =>
      stat === undefined
        ? usersHere(hub, groupId)
        : (await stat.any.usersOfGroup({ groupId })).userIds,
    // What stat says is as old as the nodes' reports are; a node that is alone knows at once.
    keepMs: stat === undefined ? 0 : Math.min(maxOnlineAgeMs, config.reportMs / 2),
  });
  const presence = stack.use(
    new Presence({
      usersOfGroup: (groupId) => groupUsers.fresh(groupId),
      periodMs: config.reportMs / 2,
      log,
    }),
  );
  const roster = stat === undefined ? undefined : new Roster();
  const admission = {
    verifier: verifier(config.auth, node.name),
    used: stack.use(openUsedTokens(config, node)),
    requireNotKicked: (userId: string, issuedAt: number) =>
      kicksFollower === undefined
        ? bans.kicks.check(userId, issuedAt)
        : kicksFollower.require(userId, issuedAt),
  };
  const decisions = openDecisions(config, node, stack, async (target) => {
    const [id, [position = { epoch: "", seq: 0 }]] = await Promise.all([
      ids.next(),
      // As one who knows nothing: a target that nobody has used yet begins here.
      broker.positions([{ target, epoch: "", seq: 0 }]),
    ]);
    return { id, ...position };
  });
  const scheduler = stack.use(
    new WriteScheduler({
      windowMs: config.batchDelayMs,
      onWaited: (ms) => counts.waited(ms / 1000),
    }),
  );
  const intake = stack.use(
    new Intake({
      behindWrites: (callback) => scheduler.behind(probe, callback),
      windowMs: config.batchDelayMs,
      members: (target) => hub.members(target).size,
      onRefused: (asked, cause) => counts.overloaded(asked, cause),
      late: overrides.late,
    }),
  );
  const gateway = stack.use(
    await (overrides.openGateway ?? Gateway.open)({
      host: config.host,
      port: config.port,
      payloadBytes: config.limits.payloadBytes,
      keepAliveMs: config.keepAliveMs,
      authMs: config.limits.authMs,
      pingMs: config.pingInterval,
      pingTimeoutMs: config.pingTimeout,
      connections: config.limits.connections,
      origins: config.origins,
      slow: { waitingBytes: config.limits.waitingBytes, policy: config.slowConsumer },
      scheduler,
      session: {
        hub,
        submit,
        decisions,
        groupRules: kinds && echoes && new GroupRules({
          ...{ kinds, echoes, hub, submit },
          places: new GroupPlaces({
            usersHere: (groupId) => usersHere(hub, groupId),
            connectionsHere: (groupId) => hub.members(groupTarget(groupId)).size,
            usersOfGroup: (groupId) => groupUsers.recent(groupId),
          }),
        }),
        bans,
        mutes,
        roster,
        groupUsers,
        presence,
        authenticate: (claims, before) => admit(admission, claims, before),
        limits: config.limits,
        entering: new Entering(),
        keptRoom: new KeptRoom(),
        intake,
        work: new Work(config.limits),
        trail,
        counts,
        log,
      },
    }),
  );
  if (hasSignedToken2(config.auth.scheme)) {
    stack.use(startExpiry({ sessions: gateway.sessions, refreshMs: config.auth.refreshMs }));
  }
  refuseClients = () => gateway.refuse("this node belongs to another cluster");
  if (foreign !== "") refuseClients();
  const address = config.advertise ?? originOf("http", config.host, gateway.port);
  const spears = await watchSpears(node, address, publishedClaim(tokens), stack);
  const { canaryMs } = config;
  const canary = alone || canaryMs === 0 ? undefined : stack.use(
    new Canary({ node: node.name, hub, broker, periodMs: canaryMs, live: spears.live, log }),
  );
  const stopped = new AbortController();
  let undrained = new AbortController();
  const empty = async (drainMs: number, until = stopped.signal) => {
    const connections = gateway.sessions.size;
    if (connections > 0) log.info("{connections} clients are asked to move", { connections });
    const { moved, cutOff, seconds } = await drain({
      sessions: gateway.sessions,
      placesOf: spears.placesOf,
      drainMs,
      stopped: until,
    });
    if (moved + cutOff === 0) return;
    log.info("drained: {moved} clients have moved, {cutOff} were cut off, in {seconds} s", {
      ...{ moved, cutOff, seconds },
    });
  };
  const named = readiness.need("name", "not registered yet");
  named.met();
  const guard = stack.use(guardName({
    node: node.name,
    registration,
    onLost: () => {
      const why = "another process runs under this node's name";
      named.miss(`${why} (the key id)`, { atOnce: true });
      gateway.refuse(why);
      return empty(nameLostDrainMs);
    },
    onRegained: () => {
      named.met();
      gateway.refuse(meta.draining ? emptied : undefined);
    },
    log,
  }));
  if (stat !== undefined && roster !== undefined) {
    stack.use(startReporter({
      node: node.name,
      stat,
      roster,
      everyone: () => everyone(gateway.sessions, hub),
      connections: () => gateway.sessions.size,
      load: () => ({
        acceptedPerSecond: accepted.perSecond,
        deliveredPerSecond: delivered.perSecond,
        memoryBytes: Deno.memoryUsage().rss,
      }),
      reportMs: config.reportMs,
      holdsName: () => guard.holds(),
      onForgotten: () => {
        follower?.hurry();
        kicksFollower?.hurry();
      },
      log,
    }));
  }

  /** From now on nobody is sent here; who is here stays a member of everything until the connection ends. */
  const takeNobody = async (reason: string) => {
    gateway.refuse(reason);
    meta = { ...meta, draining: true };
    await registration.update({ addresses: { rpc: monitor.address }, meta });
  };
  /** Who finds this node can connect to it. */
  const announceDoor = () =>
    registration.update({
      addresses: { [clientAddress]: address, rpc: monitor.address },
      meta: { ...meta, load: gateway.sessions.size },
    });
  let isStopping = false;
  counts.open(node.metrics, {
    sessions: gateway.sessions,
    connectionsLimit: config.limits.connections,
    hub,
    broker,
    canary,
    isDraining: () => meta.draining === true,
  });
  const rebalance = stack.use(
    new Rebalance({
      node: node.name,
      sessions: gateway.sessions,
      nodes: spears.loads,
      isDraining: () => meta.draining === true || !guard.holds(),
      ...config.rebalance,
      log,
    }),
  );
  const commands = spearCommands({
    rebalance,
    node: node.name,
    hub,
    sessions: gateway.sessions,
    broker,
    submit: counts.counting(takenOn(submitRated, intake)),
    intake,
    ids,
    bans,
    mutes,
    clock: storeClock,
    now: node.clock.now,
    listeners,
    trail,
    lastMinute: () => counts.lastMinute(),
    canary: () => ({ periodMs: canary ? canaryMs : 0, heard: canary?.heard() ?? [] }),
    payloadBytes: config.limits.payloadBytes,
    drain: async (overMs = config.drainMs) => {
      await takeNobody(emptied);
      const connections = gateway.sessions.size;
      void empty(overMs, AbortSignal.any([stopped.signal, undrained.signal]));
      return { connections, overMs };
    },
    undrain: async () => {
      if (isStopping) throw new RpcError("unavailable", "this node is stopping");
      if (meta.draining !== true) return;
      undrained.abort();
      undrained = new AbortController();
      const { draining: _, ...others } = meta;
      meta = others;
      gateway.refuse(undefined);
      guardDoor();
      await announceDoor();
      log.info("the drain is undone: this node takes clients again");
    },
  });
  const monitor = stack.use(
    await node.serve({
      port: monitorPortOf(config),
      services: [serveContract(spearContract, commands)],
      ready: () => ({
        broker: broker.connected && foreign === "",
        accepting: meta.draining !== true,
      }),
      notes: () => broker.carrier?.trouble ? { rocketmq: broker.carrier.trouble } : {},
    }),
  );
  if (overrides.idgen === undefined && config.mode !== "single") {
    stack.use(
      await needService({
        readiness,
        registry: node.registry,
        service: "idgen",
        ask: (options) => ids.prove(options),
      }),
    );
  }
  if (stat !== undefined && overrides.stat === undefined) {
    const ask = (options: { readonly signal: AbortSignal }) =>
      stat.any.getServiceVersion({}, options);
    stack.use(await needService({ readiness, registry: node.registry, service: "stat", ask }));
  }
  // A client whose token is refused does not come back; one that is not let in tries again.
  const guardDoor = () => {
    if (meta.draining === true || !registration.held || foreign !== "") return;
    gateway.refuse(readiness.checks[tokens.key] === false ? foreignTokens : undefined);
  };
  stack.use(readiness.listen(guardDoor));
  await announceDoor();
  readiness.start();
  guardDoor();
  await within(readiness.whenReady(), usualStartMs);
  stack.use(
    startLoadAnnouncement({
      registration,
      meta: () => broker.carrier?.trouble ? { ...meta, detour: true } : meta,
      load: () => gateway.sessions.size,
      log,
    }),
  );
  // Begun when commands reach this node: what it is told from then on, it need not read.
  if (stat !== undefined) {
    follower = stack.use(
      followRestrictions({ stat, bans, mutes, clock: storeClock, hub, periodMs: followMs, log }),
    );
    kicksFollower?.start();
  }
  // First of all that is stopped: until its connection is gone a user is online, and commands reach it.
  stack.defer(async () => {
    isStopping = true;
    const announced = within(takeNobody("this node is stopping"), registryMs);
    await Promise.all([announced, empty(config.drainMs)]);
    stopped.abort();
    await within(registration.update({ addresses: {} }), registryMs);
  });

  const running = stack.move();
  return {
    address,
    monitorAddress: monitor.address,
    readiness,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

/** Ends with the stack: what is under way then fails at once. */
function openDecisions(
  { decisions, limits }: SpearConfig,
  node: Node,
  stack: AsyncDisposableStack,
  placeOfHidden: DecisionsOptions["placeOfHidden"],
): Decisions | undefined {
  const watch = new DecisionWatch(node.metrics, node.log);
  const { subscribe, online, beforeSend } = decisions;
  const rules = [...subscribe, ...online, ...beforeSend];
  if (rules.length === 0) return undefined;
  const connections = Math.max(...rules.map(({ underWay }) => underWay));
  const { post } = stack.use(pooledPost({ connections }));
  const stopping = new AbortController();
  stack.defer(() => stopping.abort());
  return new Decisions(decisions, {
    post,
    signal: stopping.signal,
    watch,
    payloadBytes: limits.payloadBytes,
    placeOfHidden,
  });
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

/** @param address where clients find this one */
async function watchSpears(
  node: Node,
  address: string,
  tokens: string,
  stack: AsyncDisposableStack,
) {
  let live: ReadonlySet<string> = new Set();
  let others: readonly SpearNode[] = [];
  let ring: Ring<SpearNode> | undefined;
  let all: readonly SpearNode[] = [];
  let ringOfAll: Ring<SpearNode> | undefined;
  let isStale = false;
  stack.use(
    await node.registry.watch(spearService, ({ instances, stale }) => {
      live = new Set(instances.map(({ name }) => name));
      all = spearNodes(instances, (meta) => agrees(tokens, meta[tokensKey]));
      isStale = stale;
      ringOfAll = undefined;
      others = all.filter(({ addr }) => addr !== address);
      // Nodes tell their load every second; who belongs where is asked once in a lifetime.
      ring = undefined;
    }),
  );
  return {
    /** The names of all that live, this one included. */
    live: () => live,
    /** Where a client with this key belongs when this node is gone. */
    placesOf: (placeKey: string) => (ring ??= new Ring(others)).order(placeKey),
    /** All that take clients, with their loads. Undefined: the registry is away, and loads are out of date. */
    loads: () => isStale ? undefined : { all, ring: ringOfAll ??= new Ring(all) },
  };
}

/** This node was away when they were kicked: ends what came in with tokens from before. */
function endKicked(userId: string, { kicks }: Bans, hub: Hub<Session>): void {
  for (const session of [...hub.members(userTarget(userId))]) {
    if (kicks.isVoid(userId, session.admitted?.issuedAt)) session.kick({ reason: "" });
  }
}

/** Only a token2 that is signed can be used up. */
function openUsedTokens({ auth, mode, redis, redisPassword }: SpearConfig, node: Node) {
  return !hasSignedToken2(auth.scheme) || mode === "single"
    ? new MemoryUsedTokens()
    : new RedisUsedTokens({ url: redis, password: redisPassword, node: node.name, log: node.log });
}

function keptMs({ size, ageMs }: HistoryLimits): number {
  return size === 0 ? 0 : ageMs;
}

/** @param sender is told the message's place only */
function give(frame: Frame, members: ReadonlyCompactSet<Session>, sender: Session | undefined) {
  if (sender === undefined) { for (const member of members) member.send(frame); }
  else {
    for (const member of members) {
      if (member !== sender) member.send(frame);
      else if (frame.seq > 0) member.send(passedFrame(frame));
    }
  }
}

function usersHere(hub: Hub<Session>, groupId: string): string[] {
  const users = new Set<string>();
  for (const { userId } of hub.members(groupTarget(groupId))) {
    if (userId !== undefined) users.add(userId);
  }
  return [...users];
}

/** Read bit by bit, so that a node of 18 000 clients in 1000 groups each need not be copied. */
function* everyone(sessions: ReadonlySet<Session>, hub: Hub<Session>): Generator<Change> {
  const users = new Set<string>();
  for (const { userId } of sessions) if (userId !== undefined) users.add(userId);
  yield { groupId: undefined, joined: [...users], left: [] };
  for (const target of [...hub.targets()]) {
    if (!target.startsWith("g:")) continue;
    const groupId = target.slice(2);
    const joined = usersHere(hub, groupId);
    if (joined.length > 0) yield { groupId, joined, left: [] };
  }
}
