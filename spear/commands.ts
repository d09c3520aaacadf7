/** What stat has this node do on behalf of operators and business systems. */
import { RpcError } from "@gru/shared/rpc/contract";
import type { Handlers } from "@gru/shared/rpc/contract";
import type { Bans } from "./bans.ts";
import { type Broker, NotAcceptedError } from "./broker.ts";
import type { SpearContract, TargetOfCommand } from "./contract.ts";
import type { Hub } from "./hub.ts";
import type { IdSource } from "./ids.ts";
import type { Listeners } from "./listeners.ts";
import type { Session } from "./session.ts";
import {
  broadcastMessage,
  encodeMessage,
  groupTarget,
  type Message,
  type Target,
  userTarget,
} from "./wire.ts";

export interface CommandsOptions {
  readonly node: string;
  readonly hub: Hub<Session>;
  readonly sessions: ReadonlySet<Session>;
  readonly broker: Pick<Broker, "publish" | "history">;
  readonly ids: IdSource;
  readonly bans: Bans;
  readonly listeners: Listeners<Session>;
  /** How long a message can be recovered; 0: not at all. */
  readonly historyMs: number;
  /** The largest content that a client could have sent. */
  readonly payloadBytes: number;
  /** Empties this node; the number of connections it begins with. */
  readonly drain: (overMs: number | undefined) => Promise<{ connections: number; overMs: number }>;
}

/** Connections told in one turn: others get theirs in between. */
const perTurn = 500;

export function spearCommands(options: CommandsOptions): Handlers<SpearContract> {
  const { hub, sessions, broker, ids, bans, listeners } = options;
  const names = new ConnectionNames(options.node);

  /** Copied: who is kicked leaves the set. */
  function sessionsOf(userId: string): Session[] {
    return [...hub.members(userTarget(userId))];
  }

  return {
    publish: async ({ target, content, fromId, idempotencyKey }) => {
      requireSize(content, options.payloadBytes);
      const id = await ids.next();
      const createTime = Date.now();
      const message: Message = {
        id,
        createTime,
        fromId,
        type: target.kind === "group" ? 1 : 0,
        targetId: target.id,
        content,
        expireTime: options.historyMs === 0 ? 0 : createTime + options.historyMs,
      };
      return await settle(() =>
        broker.publish({
          target: toTarget(target),
          id,
          body: encodeMessage(message),
          // A name that no client's key has: theirs begin with a user id.
          ...(idempotencyKey === undefined ? {} : { idempotencyKey: `api:${idempotencyKey}` }),
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
        if (++connections % perTurn === 0) await nextTurn();
      }
      return { connections };
    },

    connectionsOfUser: ({ userId }) => ({
      connections: sessionsOf(userId).map((session) => ({
        connectionId: names.of(session),
        since: session.since,
        groups: session.groups.size,
      })),
    }),

    connectionsOfGroup: ({ groupId }) => ({ connections: hub.members(groupTarget(groupId)).size }),

    kickUser: ({ userId, reason, until }) => {
      if (until !== undefined) bans.add({ kind: "user", id: userId, reason, until });
      const kicked = sessionsOf(userId);
      for (const session of kicked) session.kick(kickOf(reason, until));
      return { connections: kicked.length };
    },

    kickConnection: ({ connectionId, reason }) => {
      const userId = names.userOf(connectionId);
      const session = sessionsOf(userId).find((session) => names.of(session) === connectionId);
      session?.kick({ reason });
      return { connections: session === undefined ? 0 : 1 };
    },

    kickGroup: async ({ groupId, userId, reason, until }) => {
      if (until !== undefined && userId === undefined) {
        bans.add({ kind: "group", id: groupId, reason, until });
      }
      const members = [...hub.members(groupTarget(groupId))]
        .filter((session) => userId === undefined || session.userId === userId);
      for (const [i, session] of members.entries()) {
        session.kickFromGroup(groupId, kickOf(reason, until));
        if ((i + 1) % perTurn === 0) await nextTurn();
      }
      return { connections: members.length };
    },

    drain: ({ overMs }) => options.drain(overMs),

    history: async ({ target, limit, before }) => {
      const upTo = before === undefined ? undefined : before - 1;
      const { head, entries } = await settle(() =>
        broker.history(toTarget(target), { epoch: "", seq: 0 }, upTo)
      );
      const current = entries.filter(({ epoch }) => epoch === head.epoch);
      return {
        epoch: head.epoch,
        seq: head.seq,
        messages: current.slice(-limit)
          .map(({ body, epoch, seq }) => ({ ...JSON.parse(body), epoch, seq })),
        more: current.length > limit,
      };
    },

    listen: async ({ listenerId, targets, limit, waitMs }, { signal }) => {
      const { seen, frames } = await settle(() =>
        listeners.read(listenerId, targets.map(toTarget), { limit, waitMs, signal })
      );
      const messages = frames.map(({ target, text }) => ({
        target: fromTarget(target),
        message: JSON.parse(text.slice(text.indexOf("[")))[1],
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

function kickOf(reason: string, until: number | undefined) {
  return { reason, ...(until === undefined ? {} : { until }) };
}

function toTarget({ kind, id }: TargetOfCommand): Target {
  return kind === "group" ? groupTarget(id) : userTarget(id);
}

function fromTarget(target: Target): TargetOfCommand {
  return { kind: target.startsWith("g:") ? "group" : "user", id: target.slice(2) };
}

function requireSize(content: string, limit: number): void {
  if (content.length <= limit) return;
  throw new RpcError(
    "invalid_argument",
    `content: has ${content.length} characters; expected ${limit} at most`,
  );
}

/** A broker that is out of reach is a reason to try again, not a fault of this node. */
async function settle<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof NotAcceptedError) {
      throw new RpcError("unavailable", `not accepted: ${error.message}`, { cause: error });
    }
    throw error;
  }
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
