/** The contract of stat: which users are online on which nodes. */
import { z } from "zod";
import { defineContract } from "@gru/shared/rpc/contract";
import {
  banRecordSchema,
  banSchema,
  groupIdSchema,
  muteRecordSchema,
  targetSchema,
  userIdSchema,
} from "@gru/spear/contract";

/**
 * The name of a node, session, group or user, as a spear reports it. Not limited to valid ids: a spear of another
 * version may have other ids, and its whole report is worth more than one of them. Text that UTF-8 cannot hold would
 * come back changed.
 */
export const nameSchema = z.string().min(1).max(256).refine((name) => name.isWellFormed(), {
  error: "expected well-formed Unicode",
});
const name = nameSchema;

/** The console sends who its user is: `ann 10.0.0.7`, the name as in a URL. */
export const operatorHeader = "gru-operator";

/** The largest body of the HTTP API's publishing routes, bytes. */
export const publishBodyBytes = 4_100_000;
const members = z.strictObject({
  groupId: name,
  joined: z.array(name),
  left: z.array(name),
});

/** The load of a node: averages of the last ten seconds. */
export const loadSchema = z.strictObject({
  /** Messages that clients and business systems sent through this node. */
  acceptedPerSecond: z.number().min(0),
  /** Messages delivered to connections, one for each connection. */
  deliveredPerSecond: z.number().min(0),
  /** Resident memory. */
  memoryBytes: z.number().int().min(0),
});

export type Load = z.output<typeof loadSchema>;

/**
 * The changes on one spear since its last report. `session` is new at every start of a spear; `version` increases by
 * one with every report of a session. A report with `full` contains everything (all of it in `joined`) and replaces
 * what was known of the node. The same version always means the same report, also when it is sent again.
 *
 * A large report is sent in parts with one version: part 0 first, then the others in any order. The last part (without
 * `more`) is sent when stat has all others, and the report takes effect with it.
 */
export const reportSchema = z.strictObject({
  node: name,
  session: name,
  version: z.number().int().min(1),
  full: z.boolean(),
  connections: z.number().int().min(0),
  load: loadSchema,
  /** Users whose first connection to this node was opened, or whose last one was closed. */
  users: z.strictObject({ joined: z.array(name), left: z.array(name) }),
  groups: z.array(members),
  /** Counted from 0. Missing: the report has one part. */
  part: z.number().int().min(0).optional(),
  /** Further parts of this version follow. */
  more: z.literal(true).optional(),
  /** The spear has claimed the node's place for its session: reports of any other session are rejected. */
  claimed: z.literal(true).optional(),
});

export type Report = z.output<typeof reportSchema>;

/** Tokens issued to the user before this time (Unix milliseconds, on the store's clock) are invalid. */
const kick = z.object({ userId: name, at: z.number() });

export type Kick = z.output<typeof kick>;

/** The most records in one call of `restoreBans`, `restoreMutes` or `restoreKicks`. */
export const restoredAtOnce = 5000;

export const statContract = defineContract("stat", {
  /**
   * Sent about once a second, also without changes: it keeps the node's state alive for `ttlMs`.
   *
   * `resync: true`: this stat does not have the previous version; send a full report next.
   *
   * `refused: true`: nothing was applied, because the report's session does not hold the node's place. Another process
   * has claimed it, or no process has since the data were lost. Find out which process has the name, and `claim` the
   * place if it is this one.
   */
  report: {
    input: z.strictObject({ report: reportSchema, ttlMs: z.number().int().min(1) }),
    output: z.object({ resync: z.boolean(), refused: z.boolean().optional() }),
    // A repeated version changes nothing.
    idempotent: true,
  },
  /**
   * From now on only reports of this session are accepted for the node. With `takeOver` also if another session has the
   * place: only for a spear that has just seen in the registry that the name is its own.
   */
  claim: {
    input: z.strictObject({ node: name, session: name, takeOver: z.boolean() }),
    output: z.object({ claimed: z.boolean() }),
    idempotent: true,
  },
  /** The users of a group on all live nodes, each once. */
  usersOfGroup: {
    input: z.strictObject({ groupId: groupIdSchema }),
    output: z.object({ userIds: z.array(name) }),
    idempotent: true,
  },
  /** The live nodes that a user is connected to. */
  nodesOfUser: {
    input: z.strictObject({ userId: userIdSchema }),
    output: z.object({ nodes: z.array(name) }),
    idempotent: true,
  },
  /** The present bans. */
  bans: {
    input: z.strictObject({}),
    output: z.object({ bans: z.array(banSchema) }),
    idempotent: true,
  },
  /**
   * Everything stored about bans, including bans that were lifted before their end, and the present time on the store's
   * clock. A spear remembers them too, and restores what is missing or older here (`restoreBans`).
   */
  banRecords: {
    input: z.strictObject({}),
    output: z.object({ records: z.array(banRecordSchema), now: z.number() }),
    idempotent: true,
  },
  restoreBans: {
    input: z.strictObject({ records: z.array(banRecordSchema).max(restoredAtOnce) }),
    output: z.object({}),
    // Repeated versions change nothing.
    idempotent: true,
  },
  /** As `banRecords`. */
  muteRecords: {
    input: z.strictObject({}),
    output: z.object({ records: z.array(muteRecordSchema), now: z.number() }),
    idempotent: true,
  },
  /** As `restoreBans`. */
  restoreMutes: {
    input: z.strictObject({ records: z.array(muteRecordSchema).max(restoredAtOnce) }),
    output: z.object({}),
    idempotent: true,
  },
  /**
   * Tokens issued to these users before these times are invalid. Returns the kicks from `since` on (Unix milliseconds),
   * page by page.
   */
  kicks: {
    input: z.strictObject({ since: z.number() }),
    output: z.object({
      kicks: z.array(kick),
      /** The present time on the clock of the kicks. */
      now: z.number(),
      /** Ask again from the last time on. */
      more: z.boolean(),
      /** How many kicks there are from the time `from` on: a spear that knows more restores them (`restoreKicks`). */
      count: z.number().optional(),
      from: z.number().optional(),
    }),
    idempotent: true,
  },
  restoreKicks: {
    input: z.strictObject({ kicks: z.array(kick).max(restoredAtOnce) }),
    output: z.object({}),
    idempotent: true,
  },
  /**
   * A spear is about to publish to these targets, whose logs are at these positions. Without targets: only asks whether
   * a hook wants messages.
   */
  active: {
    input: z.strictObject({
      targets: z.array(z.strictObject({
        target: targetSchema,
        epoch: z.string(),
        seq: z.number(),
      })).max(1000),
    }),
    /** False: no hook wants messages, and nothing was noted. */
    output: z.object({ wanted: z.boolean() }),
    idempotent: true,
  },
  /** Tried at a console: for the audit log. */
  wrongPasswords: {
    input: z.strictObject({
      address: z.string().max(100),
      who: z.string().max(100),
      count: z.int().min(1),
    }),
    output: z.object({}),
    idempotent: false,
  },
  getServiceVersion: {
    input: z.strictObject({}),
    output: z.object({ version: z.string() }),
    idempotent: true,
  },
});

export type StatContract = typeof statContract;
