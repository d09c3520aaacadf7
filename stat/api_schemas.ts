/** The shapes of the HTTP API, with the names and words that its OpenAPI document gives them. */
import { z } from "@hono/zod-openapi";
import { banSchema, groupIdPattern, messageSchema, userIdPattern } from "@gru/spear/contract";
import { nameSchema } from "./contract.ts";

export const userId = z.string().regex(userIdPattern, { error: "expected a positive integer" })
  .openapi({ description: "The user's id", example: "5" });
export const groupId = z.string().regex(groupIdPattern, {
  error: "expected 1 to 128 letters, digits and _ . : @ / -",
}).openapi({ description: "The group's id; / in it is written %2F", example: "10" });
// Cloned: zod gives a schema the method `openapi` only if it was made after the extension was loaded.
export const node = nameSchema.clone().openapi({
  description: "The node's name",
  example: "spear1",
});

const count = z.int().min(0);
const perSecond = z.number().min(0);
const time = z.int().openapi({ description: "Unix milliseconds" });

export const failure = z.object({
  error: z.object({
    code: z.string().openapi({ example: "invalid_argument" }),
    message: z.string().openapi({ example: "limit: expected number to be <=1000, is 5000" }),
  }),
}).openapi("Error");

const counts = {
  connections: count,
  users: count.openapi({ description: "Distinct on each node" }),
  groups: count.openapi({ description: "Groups with a user on the node" }),
  acceptedPerSecond: perSecond.openapi({ description: "Messages sent, over the last 10 s" }),
  deliveredPerSecond: perSecond.openapi({ description: "Messages to connections, likewise" }),
  memoryBytes: count.openapi({ description: "Resident" }),
};

export const nodeInfo = z.object({
  node,
  address: z.string().nullable().openapi({ description: "Told to clients; null: it takes none" }),
  version: z.string(),
  startedAt: time,
  uptimeMs: z.number(),
  draining: z.boolean(),
  reporting: z.boolean().openapi({ description: "Its counts are known" }),
  ...counts,
}).openapi("Node");

export const nodeList = z.object({ nodes: z.array(nodeInfo) }).openapi("Nodes");

const next = z.string().nullable()
  .openapi({ description: "The cursor of the next page; null: this is the last" });

export const userPage = z.object({
  users: z.array(z.object({ userId: z.string(), nodes: z.array(z.string()) })),
  next,
}).openapi("UserPage");

const usersOnNode = z.object({ node: z.string(), users: count });

export const groupPage = z.object({
  groups: z.array(z.object({ groupId: z.string(), nodes: z.array(usersOnNode) })),
  next,
}).openapi("GroupPage");

export const pageQuery = z.object({
  search: z.string().max(256).default("").openapi({ description: "Ids that begin with it" }),
  cursor: z.string().max(256).default("").openapi({ description: "`next` of the page before" }),
  limit: z.coerce.number().int().min(1).max(1000).default(100).openapi({ type: "integer" }),
});

export const groupPlace = z.object({ groupId: z.string(), nodes: z.array(usersOnNode) })
  .openapi("GroupPlace");

const failedNode = z.object({ node: z.string(), code: z.string(), message: z.string() });
const failed = z.array(failedNode)
  .openapi({ description: "Nodes that did not answer: what they have is missing here" });

export const userPlace = z.object({
  userId: z.string(),
  online: z.boolean(),
  nodes: z.array(z.object({
    node: z.string(),
    connections: z.array(z.object({
      connectionId: z.string(),
      since: time,
      groups: count,
    })),
  })),
  failed,
}).openapi("UserPlace");

export const presence = z.object({
  groupId: z.string(),
  users: count.openapi({ description: "Distinct over all nodes" }),
  connections: count,
  nodes: z.array(z.object({ node: z.string(), users: count, connections: count })),
  failed,
}).openapi("Presence");

export const historyQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100).openapi({ type: "integer" }),
  before: z.coerce.number().int().min(1).optional()
    .openapi({ type: "integer", description: "Only messages whose seq is lower" }),
});

export const history = z.object({
  epoch: z.string(),
  seq: count.openapi({ description: "Of the newest message" }),
  messages: z.array(messageSchema.clone().openapi("Message"))
    .openapi({ description: "The newest that are kept, ascending" }),
  more: z.boolean(),
}).openapi("History");

export const outgoing = z.strictObject({
  content: z.string().min(1).max(1_000_000),
  fromId: z.union([z.literal("0"), userId]).default("0")
    .openapi({ description: "Shown as the sender; 0: the system" }),
}).openapi("OutgoingMessage");

export const idempotencyHeader = z.object({
  "idempotency-key": z.string().min(1).max(200).optional()
    .openapi({ description: "The same key again gives the first one's answer, sending nothing" }),
});

export const position = z.object({ id: z.string(), epoch: z.string(), seq: count })
  .openapi("Position");

const reason = z.string().max(256).default("").openapi({ description: "Told to the client" });
const banMs = z.int().min(1).max(10 * 365 * 86_400_000).optional()
  .openapi({ description: "For so long: no way back. Left out: at once" });

export const kick = z.strictObject({ reason }).openapi("Kick");
export const kickWithBan = z.strictObject({ reason, banMs }).openapi("KickWithBan");
export const kickFromGroup = z.strictObject({
  reason,
  banMs,
  userId: userId.optional().openapi({ description: "Only this user; without a ban" }),
}).refine(({ banMs, userId }) => banMs === undefined || userId === undefined, {
  path: ["banMs"],
  error: "expected none together with userId: a ban closes the whole group",
}).openapi("KickFromGroup");

export const touched = z.object({
  connections: count.openapi({ description: "That were touched, over all nodes" }),
  nodes: z.array(z.object({ node: z.string(), connections: count })),
  failed,
}).openapi("Touched");

export const broadcastResult = touched.extend({ id: z.string() }).openapi("BroadcastResult");

export const drainRequest = z.strictObject({
  overMs: z.int().min(0).max(3_600_000).optional()
    .openapi({ description: "The time over which clients move; default: the node's drainMs" }),
}).openapi("DrainRequest");

export const drainResult = z.object({
  node: z.string(),
  connections: count.openapi({ description: "That will move" }),
  overMs: z.number(),
}).openapi("DrainResult");

export const banKind = z.enum(["user", "group"]);
export const banList = z.object({ bans: z.array(banSchema.clone().openapi("Ban")) }).openapi(
  "Bans",
);

export const totals = z.object({
  at: time,
  nodes: count,
  ...counts,
  lastHour: z.object({
    accepted: z.number().openapi({ description: "Messages, from the samples" }),
    delivered: z.number(),
    mostConnections: count,
    samples: count,
  }),
}).openapi("Totals");

const series = z.array(z.number().nullable());

export const rates = z.object({
  stepMs: z.number(),
  at: z.array(time),
  connections: series,
  users: series,
  groups: series,
  acceptedPerSecond: series,
  deliveredPerSecond: series,
  memoryBytes: series,
}).openapi("Rates", { description: "One value for each moment; null: nobody was there" });

const several = <T extends z.ZodType<string>>(one: T) =>
  z.union([one, z.array(one).max(100)]).optional()
    .transform((given) => given === undefined ? [] : [given].flat() as z.output<T>[]);

export const listenQuery = z.object({
  group: several(groupId).openapi({ type: "array", items: { type: "string" } }),
  user: several(userId).openapi({ type: "array", items: { type: "string" } }),
}).refine(({ group, user }) => group.length + user.length > 0, {
  path: ["group"],
  error: "expected at least one group or user",
}).refine(({ group, user }) => group.length + user.length <= 100, {
  path: ["group"],
  error: "expected 100 groups and users at most",
});
