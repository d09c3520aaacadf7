/**
 * What a business system is asked to decide, and what it may answer: the bodies of the signed requests, and of their
 * answers (status 200), as values. Runs wherever JavaScript runs. Ids are decimal strings, or names of groups.
 */
import { z } from "zod";

const id = z.string().min(1);
const text = z.string();

/** The bodies of the requests. */
export const questions = z.discriminatedUnion("decision", [
  /** May this client have a ticket, and as whom? The client's own words, none of them verified. */
  z.object({
    decision: z.literal("admission"),
    token1: text,
    userId: text.optional(),
    userName: text.optional(),
    appType: text.optional(),
  }),
  /** May this user join this group? */
  z.object({ decision: z.literal("subscribe"), userId: id, groupId: id }),
  /** May this user be told who is online in this group? */
  z.object({ decision: z.literal("online"), userId: id, groupId: id }),
  /** What becomes of this message, to a group or to a user? */
  z.object({
    decision: z.literal("beforeSend"),
    userId: id,
    groupId: id.optional(),
    toUserId: id.optional(),
    content: text,
    clientMsgId: text.optional(),
  }),
]);

export type Question = z.output<typeof questions>;
export type DecisionName = Question["decision"];

/** Seconds for which the answer holds for the same question; left out: this once. */
const ttl = z.number().min(0).max(86_400).optional();
/** The client sees it. */
const reason = z.string().min(1).max(500);
const allow = z.object({ action: z.literal("allow"), ttl });
const refuse = z.object({ action: z.literal("refuse"), reason, ttl });

export const accessAnswer = z.discriminatedUnion("action", [allow, refuse]);

export const admissionAnswer = z.discriminatedUnion("action", [
  allow.extend({
    /** Whom the connection belongs to. */
    userId: z.union([z.string(), z.int()]).transform(String),
    /** Left out: what the client said. */
    userName: z.string().max(256).optional(),
    appType: z.string().max(256).optional(),
    /** The claims `groups` and `users` of a token1 of scheme jwt. */
    groups: z.unknown().optional(),
    users: z.unknown().optional(),
    /** Users with the same text, or integer, belong on the same node. */
    affinity: z.union([z.string().min(1).max(128), z.int()]).transform(String).optional(),
    /** Milliseconds for which the rights hold. Left out: as long as ticket's profile says. */
    rightsMs: z.int().min(1000).optional(),
  }),
  refuse,
]);

/** What the business system says before a message is sent. */
export const beforeSendAnswer = z.discriminatedUnion("action", [
  z.object({ action: z.literal("allow") }),
  /** The sender gets an error with this reason; nobody gets the message. */
  z.object({ action: z.literal("refuse"), reason }),
  /** This content is sent instead. */
  z.object({ action: z.literal("replace"), content: z.string() }),
  /** The sender gets a success and the message; nobody else does, and it is not kept. */
  z.object({ action: z.literal("hide") }),
]);

export type AccessAnswer = z.output<typeof accessAnswer>;
/** As it is written. */
export type AdmissionAnswer = z.input<typeof admissionAnswer>;
export type BeforeSendAnswer = z.output<typeof beforeSendAnswer>;
