/** What the other programs know of spear: how it appears in the registry, and what it does when told to. */
import { z } from "zod";
import type { Instance } from "@gru/shared/registry";
import { defineContract } from "@gru/shared/rpc/contract";

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

/** The spears that take clients. One that is being emptied is alive but has no address for them. */
export function spearNodes(instances: readonly Instance[]): SpearNode[] {
  return instances.flatMap(({ name, addresses, meta }) => {
    const addr = addresses[clientAddress];
    if (addr === undefined) return [];
    const numbers = told.flatMap((key) => {
      const value = meta[key];
      return typeof value === "number" && value >= 0 ? [[key, value]] : [];
    });
    return [{ name, addr, ...Object.fromEntries(numbers) }];
  });
}

/** The forms of ids in their canonical spelling: a number as its decimal string. */
export const userIdPattern = /^[1-9]\d{0,18}$/;
export const groupIdPattern = /^[\p{L}\p{N}_.:@/-]{1,128}$/u;

export const userIdSchema = z.string().regex(userIdPattern, {
  error: "expected a user id: a positive integer",
});
export const groupIdSchema = z.string().regex(groupIdPattern, {
  error: "expected a group id: 1 to 128 letters, digits and _ . : @ / -",
});

/** Whoever messages can be sent to. */
export const targetSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("group"), id: groupIdSchema }),
  z.strictObject({ kind: z.literal("user"), id: userIdSchema }),
]);

export type TargetOfCommand = z.output<typeof targetSchema>;

/** What becomes of whom: the longest text that a client is told as a reason. */
const reason = z.string().max(256);

/** Unix milliseconds until which the one who is kicked may not come back. */
const until = z.int().positive();

const connections = z.object({ connections: z.int().nonnegative() });

export const banSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("group"), id: groupIdSchema, reason, until }),
  z.strictObject({ kind: z.literal("user"), id: userIdSchema, reason, until }),
]);

/** Nobody may join the group, or the user may not authenticate. */
export type Ban = z.output<typeof banSchema>;

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

export const spearContract = defineContract(spearService, {
  /** Counted, kept and sent out as a client's message is; any node will do. */
  publish: {
    input: z.strictObject({
      target: targetSchema,
      content: z.string(),
      /** Shown as the sender; 0: the system. */
      fromId: z.union([z.literal("0"), userIdSchema]),
      /** The same key again gives the first one's answer, whichever node is asked. */
      idempotencyKey: z.string().min(1).max(256).optional(),
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
      fromId: z.union([z.literal("0"), userIdSchema]),
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
      })),
    }),
    idempotent: true,
  },
  /** Connections of this node that are in the group. */
  connectionsOfGroup: {
    input: z.strictObject({ groupId: groupIdSchema }),
    output: connections,
    idempotent: true,
  },
  /** Tells the user's connections why, and closes them. */
  kickUser: {
    input: z.strictObject({ userId: userIdSchema, reason, until: until.optional() }),
    output: connections,
    idempotent: true,
  },
  /** Tells the connection why, and closes it; 0 connections when it is gone or another node's. */
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
  /** The newest kept messages before `before` of the present epoch (before the end when left out), ascending. */
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
  },
});

export type SpearContract = typeof spearContract;
