/** What the other programs know of spear: how it appears in the registry, and what it does when told to. */
import { z } from "zod";
import type { Instance } from "@gru/shared/registry/registry";
import { defineContract } from "@gru/shared/rpc/contract";
import { expectedGroupId, expectedUserId, groupIdPattern, userIdPattern } from "./identifiers.ts";

/** The service under which spears register. */
export const spearService = "spear";

/** The kind of address that clients are told; the others are for the inside. */
export const clientAddress = "client";

export interface SpearNode {
  /** `spear1` */
  readonly name: string;
  /** Where clients find it: `http://host:port`. */
  readonly addr: string;
  /** Its share of the users beside the others'; 0: it takes no new ones. Missing: 1. */
  readonly weight?: number;
  /** Connections, as of about a second ago. */
  readonly load?: number;
  /** Connections that it takes. */
  readonly capacity?: number;
}

/** What a spear tells of itself in its `meta`. */
const told = ["weight", "load", "capacity"] as const;

/**
 * The spears that take clients. One that is being emptied, or is not ready, is alive but has no address for them.
 * @param accepts whether the caller's tokens would be accepted there
 */
export function spearNodes(
  instances: readonly Instance[],
  accepts: (meta: Instance["meta"]) => boolean = () => true,
): SpearNode[] {
  return instances.flatMap(({ name, addresses, meta }) => {
    const addr = addresses[clientAddress];
    if (addr === undefined || !accepts(meta)) return [];
    const numbers = told.flatMap((key) => {
      const value = meta[key];
      return typeof value === "number" && value >= 0 ? [[key, value]] : [];
    });
    return [{ name, addr, ...Object.fromEntries(numbers) }];
  });
}

export const userIdSchema = z.string().regex(userIdPattern, {
  error: `expected ${expectedUserId}`,
});
export const groupIdSchema = z.string().regex(groupIdPattern, {
  error: `expected ${expectedGroupId}`,
});

/** Text that Redis keeps or compares: there all lone surrogates become one and the same character. */
export const wellFormed = z.string().refine((text) => text.isWellFormed(), {
  error: "expected well-formed Unicode",
});

/** Who a message is from when no client has sent it. */
export const senderIdSchema = z.string().refine((id) => id === "0" || userIdPattern.test(id), {
  error: `expected 0 (the system) or ${expectedUserId}`,
});

/** Whoever messages can be sent to. */
export const targetSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("group"), id: groupIdSchema }),
  z.strictObject({ kind: z.literal("user"), id: userIdSchema }),
]);

export type TargetOfCommand = z.output<typeof targetSchema>;

/** What becomes of whom: the longest text that a client is told as a reason. */
const reason = z.string().max(256);

/** Unix milliseconds, on the clock of stat's store, until which the one who is kicked may not come back. */
const until = z.int().positive();
const version = z.int().nonnegative();

const connections = z.object({ connections: z.int().nonnegative() });

export const banSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("group"), id: groupIdSchema, reason, until }),
  z.strictObject({ kind: z.literal("user"), id: userIdSchema, reason, until }),
]);

/** Nobody may join the group, or the user may not authenticate. */
export type Ban = z.output<typeof banSchema>;

/**
 * A ban as stat and spears remember it, so that either can bring it back to the other. Of two of the same user or group the
 * one with the higher version is right. A ban that was lifted or replaced by a shorter one is remembered as long as it would
 * have held: an older copy of the data does not bring it back.
 */
export const banRecordSchema = z.object({
  kind: z.enum(["user", "group"]),
  id: z.string().min(1).max(256),
  reason,
  /** It holds as long as this is later than now, on the clock of stat's store. 0: it was lifted. */
  until: z.int().nonnegative(),
  /** The moment when it was set or lifted, or later; 0: not known. */
  version,
  /** Forgotten from then on. */
  keptUntil: z.int().nonnegative(),
});

export type BanRecord = z.output<typeof banRecordSchema>;

/**
 * Who may send no messages: a user anywhere, everybody to a group, or one user to one group (`member`, with the id that
 * {@linkcode memberId} gives). Business systems may. Remembered as bans are.
 */
export const muteRecordSchema = banRecordSchema.extend({
  kind: z.enum(["user", "group", "member"]),
});

export type MuteRecord = z.output<typeof muteRecordSchema>;

/** No id contains a space. */
export function memberId(groupId: string, userId: string): string {
  return `${groupId} ${userId}`;
}

/** Whom a mute is of: a user anywhere, everybody in a group, or with both a user in a group. */
export function idsOfMute(
  { kind, id }: Pick<MuteRecord, "kind" | "id">,
): { readonly userId?: string; readonly groupId?: string } {
  if (kind === "user") return { userId: id };
  const [groupId = "", userId] = id.split(" ");
  return userId === undefined ? { groupId } : { userId, groupId };
}

/** As the `msg` event brought it to the members; with its position. */
export const messageSchema = z.object({
  id: z.string(),
  /** Unix milliseconds. */
  createTime: z.number(),
  /** As on the wire to clients: a number where a JSON number can hold it. */
  fromId: z.union([z.number(), z.string()]),
  msgType: z.number(),
  target: z.object({ id: z.union([z.number(), z.string()]), type: z.number() }),
  content: z.string(),
  expireTime: z.number(),
  epoch: z.string(),
  seq: z.number(),
});

/** Where a message stands among those of its target. */
export const placeSchema = z.object({ target: targetSchema, epoch: z.string(), seq: z.number() });
export type Place = z.output<typeof placeSchema>;

/** Of a connection. */
export const groupsShown = 100;

/** Of each node: who was told that the message does not come. */
export const missedAtMost = 100;

const rebalanceStatus = z.object({
  running: z.boolean(),
  /** Clients that were asked to move, in this run or the last one. */
  asked: z.int().nonnegative(),
  /** Of these, those that are gone from this node. */
  moved: z.int().nonnegative(),
  /** Connections here now. */
  connections: z.int().nonnegative(),
});

export const spearContract = defineContract(spearService, {
  /** Counted, kept and sent out as a client's message is; any node will do. */
  publish: {
    input: z.strictObject({
      target: targetSchema,
      content: z.string(),
      /** Shown as the sender; 0: the system. */
      fromId: senderIdSchema,
      /** The same key again gives the first one's answer, whichever node is asked. */
      idempotencyKey: wellFormed.min(1).max(256).optional(),
    }),
    output: z.object({ id: z.string(), epoch: z.string(), seq: z.number() }),
    idempotent: false,
  },
  /** To every authenticated connection of this node, now: not kept, not counted in any target. */
  broadcast: {
    input: z.strictObject({
      id: z.string(),
      createTime: z.int(),
      content: z.string(),
      fromId: senderIdSchema,
    }),
    output: connections,
    idempotent: false,
  },
  /** An id for a broadcast. */
  nextId: { input: z.strictObject({}), output: z.object({ id: z.string() }), idempotent: true },
  /** What a user has open on this node. */
  connectionsOfUser: {
    input: z.strictObject({ userId: userIdSchema }),
    output: z.object({
      connections: z.array(z.object({
        connectionId: z.string(),
        /** Unix milliseconds. */
        since: z.number(),
        groups: z.number(),
        // Missing: a node of an earlier version does not say it.
        /** The first ones, {@linkcode groupsShown} at most. */
        groupIds: z.array(z.string()).optional(),
        name: z.string().optional(),
        app: z.string().optional(),
        affinity: z.string().optional(),
        transport: z.enum(["polling", "websocket"]).optional(),
        /** The other end of the TCP connection: a proxy's, behind one. */
        address: z.string().optional(),
      })),
    }),
    idempotent: true,
  },
  /** Removes the messages that are kept of the target; any node will do. */
  clearHistory: {
    input: z.strictObject({ target: targetSchema }),
    output: z.object({}),
    idempotent: true,
  },
  /** Connections of this node that are in the group. */
  connectionsOfGroup: {
    input: z.strictObject({ groupId: groupIdSchema }),
    output: connections,
    idempotent: true,
  },
  /** Tells the user's connections why, and closes them. What was issued to the user before is void. */
  kickUser: {
    input: z.strictObject({
      userId: userIdSchema,
      reason,
      until: until.optional(),
      /** Of the ban; see {@linkcode banRecordSchema}. */
      version: version.optional(),
      /** Unix milliseconds, on the clock of stat's store; default: now. */
      notBefore: z.int().positive().optional(),
    }),
    output: connections,
    idempotent: true,
  },
  /** All connections of the user become members of the group, whatever their rights are. */
  putUser: {
    input: z.strictObject({ userId: userIdSchema, groupId: groupIdSchema }),
    output: connections,
    idempotent: true,
  },
  takeUser: {
    input: z.strictObject({ userId: userIdSchema, groupId: groupIdSchema }),
    output: connections,
    idempotent: true,
  },
  /** From now on, or no longer with an `until` of 0. Counted are the connections that it concerns. */
  mute: {
    input: muteRecordSchema.omit({ keptUntil: true }).strict(),
    output: connections,
    idempotent: true,
  },
  /** Tells the connection why, and closes it; its `resume` is void. 0 connections when it is gone or another node's. */
  kickConnection: {
    input: z.strictObject({ connectionId: z.string().max(256), reason }),
    output: connections,
    idempotent: true,
  },
  /** Takes all members, or one user, out of the group and tells them why; they stay connected. */
  kickGroup: {
    input: z.strictObject({
      groupId: groupIdSchema,
      userId: userIdSchema.optional(),
      reason,
      until: until.optional(),
      version: version.optional(),
    }),
    output: connections,
    idempotent: true,
  },
  /** From now on ticket names this node to nobody; its clients are asked to move over `overMs`. */
  drain: {
    input: z.strictObject({ overMs: z.int().min(0).max(3_600_000).optional() }),
    output: z.object({ connections: z.int().nonnegative(), overMs: z.number() }),
    idempotent: true,
  },
  /** Ends a drain, or does nothing without one: the node takes clients again. Rejects when the node is stopping. */
  undrain: { input: z.strictObject({}), output: z.object({}), idempotent: true },
  /** This node's clients begin to move to nodes that have too few, until the loads fit. Called again: only the rate changes. */
  rebalance: {
    input: z.strictObject({ perSecond: z.int().min(1).max(100_000).optional() }),
    output: rebalanceStatus,
    idempotent: true,
  },
  rebalancing: { input: z.strictObject({}), output: rebalanceStatus, idempotent: true },
  /**
   * The newest kept messages before `before` of the present epoch (before the end when left out), ascending: `limit`, or
   * fewer where they are large (4 MB together), and `more` then says that there are older ones.
   */
  history: {
    input: z.strictObject({
      target: targetSchema,
      limit: z.int().min(1).max(1000),
      before: z.int().positive().optional(),
    }),
    output: z.object({
      epoch: z.string(),
      /** Of the newest message there ever was in this epoch. */
      seq: z.number(),
      messages: z.array(messageSchema),
      /** There are older ones. */
      more: z.boolean(),
    }),
    idempotent: true,
  },
  /**
   * Of each target's log the messages behind a position, ascending, up to 64 KB of them; any node reads the same.
   */
  readLogs: {
    input: z.strictObject({
      positions: z.array(z.strictObject({
        target: targetSchema,
        /** "": from the beginning. */
        epoch: z.string(),
        seq: z.number(),
      })).min(1).max(100),
    }),
    output: z.object({
      logs: z.array(z.object({
        /** Up to where was read. */
        epoch: z.string(),
        seq: z.number(),
        /** Nothing between the positions is missing. */
        complete: z.boolean(),
        /** There are messages behind that. */
        more: z.boolean(),
        messages: z.array(messageSchema),
      })),
    }),
    idempotent: true,
  },
  /** What this node hears of the small messages that each node sends to all nodes; itself included. */
  canary: {
    input: z.strictObject({}),
    output: z.object({
      /** 0: this node takes no part. */
      periodMs: z.number(),
      heard: z.array(z.object({
        node: z.string(),
        latencyMs: z.number().nullable(),
        received: z.number(),
        lost: z.number(),
        silentMs: z.number(),
      })),
    }),
    idempotent: true,
  },
  /** How this node did in the last minute, or since its start. */
  vitals: {
    input: z.strictObject({}),
    output: z.object({
      /**
       * Milliseconds from when a message was accepted, on any node, to when it was given to the members here. Null: none was
       * given.
       */
      delivery: z.object({ p50: z.number(), p99: z.number() }).nullable(),
      /** Messages of clients and of the API that were not accepted. */
      refusedPerSecond: z.number(),
      /** Events of clients that were answered with an error, refused messages included. */
      errorsPerSecond: z.number(),
      /** Clients that were disconnected because they did not read. */
      cutOff: z.int(),
      /** Messages that clients were told they do not get, one for each connection. */
      missed: z.int(),
      /** Milliseconds by which a timer was late just now. */
      loopLagMs: z.number(),
    }),
    idempotent: true,
  },
  /**
   * What this node remembers of a message: of the newest ones only, see `trailMessages`. Only the node that accepted it
   * knows its id; the others know its position.
   */
  trail: {
    input: z.strictObject({ id: z.string().min(1).max(64), position: placeSchema.optional() }),
    output: z.object({
      accepted: placeSchema.extend({ at: z.number(), fromId: z.string() }).optional(),
      received: z.object({ at: z.number(), connections: z.int() }).optional(),
      /** The newest ones, {@linkcode missedAtMost} at most. */
      missed: z.array(z.object({ at: z.number(), userId: z.string() })),
    }),
    idempotent: true,
  },
  /**
   * What the members of these targets have been sent since the last call with this `listenerId`, which begins with its
   * first call and is forgotten when it is not called for half a minute. Answers as soon as there is something, or after
   * `waitMs`. When there is more than `limit`, the newest are given and `seen` says how many there were.
   */
  listen: {
    input: z.strictObject({
      listenerId: z.string().min(1).max(64),
      targets: z.array(targetSchema).min(1).max(100),
      limit: z.int().min(1).max(500),
      waitMs: z.int().min(0).max(10_000),
    }),
    output: z.object({
      seen: z.number(),
      messages: z.array(z.object({ target: targetSchema, message: messageSchema })),
    }),
    idempotent: false,
    waits: true,
  },
});

export type SpearContract = typeof spearContract;
