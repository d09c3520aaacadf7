/** What stat offers to the other programs: who is online where. */
import { z } from "zod";
import { defineContract } from "@gru/shared/rpc/contract";
import { banSchema } from "@gru/spear/contract";

/** A node, a session, a group or a user. Text that UTF-8 cannot hold would come back as other text. */
export const nameSchema = z.string().min(1).max(256).refine((name) => name.isWellFormed(), {
  error: "expected well-formed Unicode",
});
const name = nameSchema;
const members = z.strictObject({
  groupId: name,
  joined: z.array(name),
  left: z.array(name),
});

/** How busy a node is: averages over the last ten seconds. */
export const loadSchema = z.strictObject({
  /** Messages that clients and business systems sent by way of this node. */
  acceptedPerSecond: z.number().min(0),
  /** Messages to connections: one for each that was due it. */
  deliveredPerSecond: z.number().min(0),
  /** Resident. */
  memoryBytes: z.number().int().min(0),
});

export type Load = z.output<typeof loadSchema>;

/**
 * What changed on one spear since its last report. `session` is new at every start of a spear, `version` goes
 * up by one with every report of a session. A report with `full` holds everything (all of it `joined`) and
 * replaces what was known of the node. The same version is always the same report, also when it is sent again.
 */
export const reportSchema = z.strictObject({
  node: name,
  session: name,
  version: z.number().int().min(1),
  full: z.boolean(),
  connections: z.number().int().min(0),
  load: loadSchema,
  /** Users whose first connection to this node came, or whose last one went. */
  users: z.strictObject({ joined: z.array(name), left: z.array(name) }),
  groups: z.array(members),
});

export type Report = z.output<typeof reportSchema>;

export const statContract = defineContract("stat", {
  /**
   * Sent about once a second, also when nothing changed: it keeps the node's state alive for `ttlMs`.
   * `resync: true`: this stat does not hold the version before; send a full report next.
   */
  report: {
    input: z.strictObject({ report: reportSchema, ttlMs: z.number().int().min(1) }),
    output: z.object({ resync: z.boolean() }),
    // The same version again changes nothing.
    idempotent: true,
  },
  /** The users of a group over all live nodes, each once. */
  usersOfGroup: {
    input: z.strictObject({ groupId: name }),
    output: z.object({ userIds: z.array(name) }),
    idempotent: true,
  },
  /** The live nodes that a user is connected to. */
  nodesOfUser: {
    input: z.strictObject({ userId: name }),
    output: z.object({ nodes: z.array(name) }),
    idempotent: true,
  },
  /** All that hold now. */
  bans: {
    input: z.strictObject({}),
    output: z.object({ bans: z.array(banSchema) }),
    idempotent: true,
  },
  getServiceVersion: {
    input: z.strictObject({}),
    output: z.object({ version: z.string() }),
    idempotent: true,
  },
});

export type StatContract = typeof statContract;
