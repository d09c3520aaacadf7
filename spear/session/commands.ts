/** What stat has this node do on behalf of operators and business systems. */
import type { FollowedClock } from "@gru/shared/clock";
import type { Rebalance } from "./rebalance.ts";
import { eventLoopLagSeconds } from "@gru/shared/loop_lag";
import { pause } from "@gru/shared/pause";
import { RpcError } from "@gru/shared/rpc/contract";
import type { Handlers } from "@gru/shared/rpc/contract";
import type { Bans } from "./bans.ts";
import { type Intake, overloadedCall } from "./intake.ts";
import type { Mutes } from "./mutes.ts";
import { type Broker, InDoubtError, NotAcceptedError } from "../broker/broker.ts";
import {
  groupsShown,
  idsOfMute,
  missedAtMost,
  type SpearContract,
  type TargetOfCommand,
} from "../contract.ts";
import { readNewest } from "../hub/history_read.ts";
import type { Hub } from "../hub/hub.ts";
import type { IdSource } from "../ids.ts";
import type { Listeners } from "../hub/listeners.ts";
import type { HeardNode } from "../hub/canary.ts";
import type { Trail } from "../hub/trail.ts";
import type { Minute } from "../last_minute.ts";
import type { Session } from "./session.ts";
import type { Submit } from "./submit.ts";
import { broadcastMessage, EventError, groupTarget, type Target, userTarget } from "../wire.ts";

export interface CommandsOptions {
  readonly node: string;
  readonly hub: Hub<Session>;
  readonly sessions: ReadonlySet<Session>;
  readonly broker: Pick<Broker, "history" | "clear">;
  readonly submit: Submit;
  readonly intake: Pick<Intake, "takeReading">;
  /** For broadcasts. */
  readonly ids: IdSource;
  readonly bans: Bans;
  readonly mutes: Mutes;
  /** Of stat's store. */
  readonly clock: FollowedClock;
  /** Unix milliseconds that people see. */
  readonly now: () => number;
  readonly listeners: Listeners<Session>;
  readonly trail: Trail;
  readonly lastMinute: () => Minute;
  readonly canary: () => { readonly periodMs: number; readonly heard: HeardNode[] };
  /** The largest content that a client could have sent. */
  readonly payloadBytes: number;
  /** Empties this node; the number of connections it begins with. */
  readonly rebalance: Pick<Rebalance, "begin" | "status">;
  readonly drain: (overMs: number | undefined) => Promise<{ connections: number; overMs: number }>;
  readonly undrain: () => Promise<void>;
}

/** Connections told in one turn: others get theirs in between. */
const perTurn = 500;

export function spearCommands(options: CommandsOptions): Handlers<SpearContract> {
  const { hub, sessions, broker, ids, bans, mutes, clock, listeners, trail, intake } = options;
  const names = new ConnectionNames(options.node);

  /** Copied: who is kicked leaves the set. */
  function sessionsOf(userId: string): Session[] {
    return [...hub.members(userTarget(userId))];
  }

  return {
    publish: async ({ target, content, fromId, idempotencyKey }) => {
      requireSize(content, options.payloadBytes);
      return await settle(() =>
        options.submit({
          fromId,
          type: target.kind === "group" ? 1 : 0,
          targetId: target.id,
          content,
          // A name that no client's key has: theirs begin with a user id.
          idempotencyKey: idempotencyKey === undefined ? undefined : `api:${idempotencyKey}`,
        })
      );
    },

    nextId: async () => ({ id: await ids.next() }),

    broadcast: async (message) => {
      requireSize(message.content, options.payloadBytes);
      const argument = broadcastMessage(message);
      let connections = 0;
      for (const session of [...sessions]) {
        if (session.userId === undefined) continue;
        session.emit("msg", argument);
        if (++connections % perTurn === 0) await pause(0);
      }
      return { connections };
    },

    connectionsOfUser: ({ userId }) => ({
      connections: sessionsOf(userId).map((session) => ({
        connectionId: names.of(session),
        since: session.since + Math.round(options.now() - Date.now()),
        groups: session.groups.size,
        groupIds: [...Iterator.from(session.groups).take(groupsShown)],
        name: session.admitted?.userName,
        app: session.admitted?.appType,
        affinity: session.admitted?.affinity,
        ...session.connection.about,
      })),
    }),

    connectionsOfGroup: ({ groupId }) => ({ connections: hub.members(groupTarget(groupId)).size }),

    kickUser: ({ userId, reason, until, version, notBefore = clock.now() }) => {
      bans.kicks.add({ userId, at: notBefore });
      if (until !== undefined) bans.add({ kind: "user", id: userId, reason, until, version });
      const kicked = sessionsOf(userId);
      for (const session of kicked) session.kick(kickOf(reason, until));
      return { connections: kicked.length };
    },

    putUser: ({ userId, groupId }) =>
      countOf(sessionsOf(userId), (session) => session.putInto(groupId)),

    takeUser: ({ userId, groupId }) =>
      countOf(sessionsOf(userId), (session) => session.takeOut(groupId)),

    kickConnection: async ({ connectionId, reason }) => {
      const userId = names.userOf(connectionId);
      const session = sessionsOf(userId).find((session) => names.of(session) === connectionId);
      if (session === undefined) return { connections: 0 };
      session.kick({ reason });
      await session.admitted?.endResume();
      return { connections: 1 };
    },

    kickGroup: async ({ groupId, userId, reason, until, version }) => {
      if (until !== undefined && userId === undefined) {
        bans.add({ kind: "group", id: groupId, reason, until, version });
      }
      const members = [...hub.members(groupTarget(groupId))]
        .filter((session) => userId === undefined || session.userId === userId);
      for (const [i, session] of members.entries()) {
        session.kickFromGroup(groupId, kickOf(reason, until));
        if ((i + 1) % perTurn === 0) await pause(0);
      }
      return { connections: members.length };
    },

    mute: (record) => {
      mutes.add(record);
      const { userId, groupId } = idsOfMute(record);
      if (groupId === undefined) return { connections: sessionsOf(userId ?? "").length };
      const members = [...hub.members(groupTarget(groupId))];
      const concerned = members.filter((one) => userId === undefined || one.userId === userId);
      return { connections: concerned.length };
    },

    drain: ({ overMs }) => options.drain(overMs),
    undrain: async () => {
      await options.undrain();
      return {};
    },

    rebalance: ({ perSecond }) => ({
      ...options.rebalance.begin(perSecond),
      connections: sessions.size,
    }),

    rebalancing: () => ({ ...options.rebalance.status(), connections: sessions.size }),

    history: async ({ target, limit, before = Infinity }) => {
      const retryAfterMs = intake.takeReading("history", toTarget(target));
      if (retryAfterMs > 0) throw overloadedCall(retryAfterMs);
      const { head, entries, more } = await settle(() =>
        readNewest(broker, toTarget(target), { limit, before })
      );
      const messages = entries.map(({ body, ...position }) => ({
        ...JSON.parse(body),
        ...position,
      }));
      return { ...head, messages, more };
    },

    clearHistory: async ({ target }) => {
      await settle(() => broker.clear(toTarget(target)));
      return {};
    },

    readLogs: async ({ positions }) => {
      const pages = await settle(() =>
        Promise.all(
          positions.map(({ target, ...after }) => broker.history(toTarget(target), after)),
        )
      );
      const logs = pages.map(({ head, next, entries, complete }) => ({
        ...(next ?? head),
        complete,
        more: next !== undefined,
        messages: entries.map(({ body, ...position }) => ({ ...JSON.parse(body), ...position })),
      }));
      return { logs };
    },

    canary: () => options.canary(),

    vitals: async () => {
      const { delivery, counts, seconds } = options.lastMinute();
      return {
        delivery,
        refusedPerSecond: tenths(counts.refused / seconds),
        errorsPerSecond: tenths(counts.errors / seconds),
        cutOff: counts.cutOff,
        missed: counts.missed,
        loopLagMs: tenths(1000 * await eventLoopLagSeconds()),
      };
    },

    trail: ({ id, position }) => {
      const accepted = trail.acceptedWith(id);
      const place = accepted ?? (position && { ...position, target: toTarget(position.target) });
      return {
        ...(accepted && { accepted: { ...accepted, target: fromTarget(accepted.target) } }),
        received: place && trail.receivedAt(place.target, place),
        missed: place === undefined ? [] : trail.missedAt(place.target, place, missedAtMost),
      };
    },

    listen: async ({ listenerId, targets, limit, waitMs }, { signal }) => {
      const { seen, frames } = await settle(() =>
        listeners.read(listenerId, targets.map(toTarget), { limit, waitMs, signal })
      );
      const messages = frames.map(({ target, epoch, seq, text }) => ({
        target: fromTarget(target),
        message: { epoch, seq, ...JSON.parse(text.slice(text.indexOf("[")))[1] },
      }));
      return { seen, messages };
    },
  };
}

/** Connections have names for people only, hence not before one is asked for: `spear1.5.lx3k.2` is user 5's. */
class ConnectionNames {
  readonly #prefix: string;
  readonly #start = Date.now().toString(36);
  readonly #names = new WeakMap<Session, string>();
  #count = 0;

  constructor(node: string) {
    this.#prefix = node;
  }

  of(session: Session): string {
    return this.#names.getOrInsertComputed(
      session,
      () => `${this.#prefix}.${session.userId}.${this.#start}.${++this.#count}`,
    );
  }

  userOf(name: string): string {
    return name.startsWith(`${this.#prefix}.`)
      ? name.slice(this.#prefix.length + 1).split(".")[0] ?? ""
      : "";
  }
}

function tenths(number: number): number {
  return Math.round(10 * number) / 10;
}

function kickOf(reason: string, until: number | undefined) {
  return { reason, ...(until === undefined ? {} : { until }) };
}

function toTarget({ kind, id }: TargetOfCommand): Target {
  return kind === "group" ? groupTarget(id) : userTarget(id);
}

export function fromTarget(target: Target): TargetOfCommand {
  return { kind: target.startsWith("g:") ? "group" : "user", id: target.slice(2) };
}

function requireSize(content: string, limit: number): void {
  if (content.length <= limit) return;
  throw new RpcError(
    "invalid_argument",
    `content: has ${content.length} characters; expected ${limit} at most`,
  );
}

/** A broker that is out of reach is a reason to try again, not a fault of this node; doubt is said as doubt. */
async function settle<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof InDoubtError) {
      throw new RpcError("unknown", error.message, { cause: error });
    }
    if (error instanceof NotAcceptedError) {
      throw new RpcError("unavailable", `not accepted: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

/** How many of them did it. Only where none did, a refusal is that of the command. */
async function countOf(
  sessions: readonly Session[],
  act: (session: Session) => Promise<boolean>,
): Promise<{ connections: number }> {
  const outcomes = await Promise.allSettled(sessions.map(act));
  const connections = outcomes.filter((one) => one.status === "fulfilled" && one.value).length;
  const refused = outcomes.find((one) => one.status === "rejected");
  if (connections > 0 || refused === undefined) return { connections };
  const error: unknown = refused.reason;
  if (error instanceof EventError) throw new RpcError("invalid_argument", error.message);
  if (error instanceof NotAcceptedError) throw new RpcError("unavailable", error.message);
  throw error;
}
