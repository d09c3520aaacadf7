/** The shapes of the HTTP API, with the names and descriptions for its OpenAPI document. */
import { z } from "@hono/zod-openapi";
import {
  banSchema,
  groupIdSchema,
  messageSchema,
  senderIdSchema,
  userIdSchema,
} from "@gru/spear/contract";
import { nameSchema } from "./contract.ts";
import { type EventKind, eventKinds } from "./hooks/event.ts";

// Cloned: a zod schema has the method `openapi` only if it was created after the extension was loaded.
export const userId = userIdSchema.clone()
  .openapi({ description: "The user's id", example: "5" });
export const groupId = groupIdSchema.clone()
  .openapi({ description: "The group's id; write / as %2F", example: "10" });
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
  users: count.openapi({ description: "Distinct users of the node" }),
  groups: count.openapi({ description: "Groups with a user on the node" }),
  acceptedPerSecond: perSecond.openapi({
    description: "Messages accepted, average of the last 10 s",
  }),
  deliveredPerSecond: perSecond.openapi({
    description: "Messages delivered to connections, average of the last 10 s",
  }),
  memoryBytes: count.openapi({ description: "Resident" }),
};

export const nodeInfo = z.object({
  node,
  address: z.string().nullable().openapi({
    description: "The address for clients; null: the node accepts none",
  }),
  version: z.string(),
  startedAt: time,
  uptimeMs: z.number(),
  draining: z.boolean(),
  reporting: z.boolean().openapi({ description: "The node's counts are known" }),
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
  search: z.string().max(256).default("").openapi({ description: "The beginning of the ids" }),
  cursor: z.string().max(256).default("").openapi({ description: "`next` of the previous page" }),
  limit: z.coerce.number().int().min(1).max(1000).default(100).openapi({ type: "integer" }),
});

export const groupPlace = z.object({ groupId: z.string(), nodes: z.array(usersOnNode) })
  .openapi("GroupPlace");

const failedNode = z.object({ node: z.string(), code: z.string(), message: z.string() });
const failed = z.array(failedNode)
  .openapi({ description: "Nodes that did not answer: their part is missing" });

export const userPlace = z.object({
  userId: z.string(),
  online: z.boolean(),
  nodes: z.array(z.object({
    node: z.string(),
    connections: z.array(z.object({
      connectionId: z.string(),
      since: time,
      groups: count,
      groupIds: z.array(z.string()).optional().openapi({ description: "The first 100" }),
      name: z.string().optional(),
      app: z.string().optional(),
      affinity: z.string().optional(),
      transport: z.enum(["polling", "websocket"]).optional(),
      address: z.string().optional().openapi({
        description: "The other end of the TCP connection; a proxy's, behind one",
      }),
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
    .openapi({ type: "integer", description: "Only messages with a lower seq" }),
});

export const history = z.object({
  epoch: z.string(),
  seq: count.openapi({ description: "The seq of the newest message" }),
  messages: z.array(messageSchema.clone().openapi("Message"))
    .openapi({ description: "The newest stored messages, ascending" }),
  more: z.boolean(),
}).openapi("History");

export const trailQuery = z.object({
  group: groupId.optional(),
  user: userId.optional(),
}).refine(({ group, user }) => group === undefined || user === undefined, {
  path: ["group"],
  error: "must not be set together with user",
}).openapi({
  description:
    "The message's target: needed only for a message whose node has forgotten it or is gone",
});

export const trail = z.object({
  id: z.string(),
  target: z.object({ kind: z.enum(["group", "user"]), id: z.string() }),
  epoch: z.string(),
  seq: count,
  createTime: time.nullable().openapi({
    description:
      "When the sender's node made the message, Unix milliseconds; null: history has lost it",
  }),
  accepted: z.object({ node, at: time, fromId: z.string() }).nullable()
    .openapi({ description: "Where and when it was accepted; null: no node remembers that" }),
  nodes: z.array(z.object({
    node,
    receivedAt: time.nullable().openapi({
      description: "null: the node had no members of the target then, or has forgotten it",
    }),
    connections: count.openapi({ description: "Connections that it was written to" }),
    missed: z.array(z.object({ userId: z.string(), at: time })).openapi({
      description: "Users who were told that they missed it, 100 at most",
    }),
  })),
  failed,
}).openapi("Trail", { description: "The way of a message through the nodes" });

export const canary = z.object({
  nodes: z.array(z.object({
    node,
    periodMs: z.number().openapi({
      description: "Each node sends so often; 0: this node takes no part",
    }),
    heard: z.array(z.object({
      node,
      latencyMs: z.number().nullable().openapi({
        description: "One way, half of the time there and back; null: not known yet",
      }),
      received: count,
      lost: count,
      silentMs: z.number().openapi({
        description: "Since the last message; more than three periods mean that something is wrong",
      }),
    })),
  })),
  failed,
}).openapi("Canary", { description: "Who hears whom, since the younger of the two started" });

export const outgoing = z.strictObject({
  content: z.string().min(1).max(1_000_000),
  fromId: senderIdSchema.clone().default("0")
    .openapi({ description: "Shown as the sender; 0: the system" }),
}).openapi("OutgoingMessage");

export const idempotencyHeader = z.object({
  "idempotency-key": z.string().min(1).max(200).optional()
    .openapi({ description: "A repeated key returns the first result and sends nothing" }),
});

export const position = z.object({ id: z.string(), epoch: z.string(), seq: count })
  .openapi("Position");

const targetsAtMost = 1000;
const ids = <T extends z.ZodType>(id: T) => z.array(id).max(targetsAtMost).default([]);

export const outgoingToMany = outgoing.extend({ groupIds: ids(groupId), userIds: ids(userId) })
  .refine(({ groupIds, userIds }) => {
    const { length } = [...groupIds, ...userIds];
    return length >= 1 && length <= targetsAtMost;
  }, {
    path: ["groupIds"],
    error: `expected 1 to ${targetsAtMost} targets in groupIds and userIds together`,
  }).openapi("OutgoingToMany");

export const resultsOfMany = z.object({
  results: z.array(
    position.partial().extend({
      groupId: z.string().optional(),
      userId: z.string().optional(),
      error: z.object({ code: z.string(), message: z.string() }).optional(),
    }),
  ).openapi({
    description: "Groups first, in the order of the request; with error: not sent, or unknown",
  }),
}).openapi("ResultsOfMany");

export const presenceRequest = z.strictObject({ userIds: z.array(userId).min(1).max(1000) })
  .openapi("PresenceRequest");
export const presenceOfMany = z.object({
  users: z.array(
    z.object({ userId: z.string(), online: z.boolean(), nodes: z.array(z.string()) }),
  ).openapi({ description: "In the order of the request, as last reported" }),
}).openapi("PresenceOfMany");

const reason = z.string().max(256).default("").openapi({ description: "Sent to the client" });
const longestMs = 10 * 365 * 86_400_000;
const banMs = z.int().min(1).max(longestMs).optional()
  .openapi({ description: "How long the user is kept out. Missing: no ban" });

export const kick = z.strictObject({ reason }).openapi("Kick");
export const kickWithBan = z.strictObject({ reason, banMs }).openapi("KickWithBan");
export const kickFromGroup = z.strictObject({
  reason,
  banMs,
  userId: userId.optional().openapi({ description: "Only this user; without a ban" }),
}).refine(({ banMs, userId }) => banMs === undefined || userId === undefined, {
  path: ["banMs"],
  error: "must not be set together with userId: a ban closes the whole group",
}).openapi("KickFromGroup");

export const touched = z.object({
  connections: count.openapi({ description: "Affected connections, on all nodes" }),
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
  connections: count.openapi({ description: "Connections that will move" }),
  overMs: z.number(),
}).openapi("DrainResult");

export const undrained = z.object({ node: z.string(), draining: z.literal(false) })
  .openapi("Undrained");

export const rebalanceRequest = z.strictObject({
  perSecond: z.int().min(1).max(100_000).optional().openapi({
    description:
      "The most clients that are asked each second; default: the spears' rebalance.perSecond",
  }),
}).openapi("RebalanceRequest");

const rebalanced = {
  running: z.boolean(),
  asked: count.openapi({ description: "Clients asked to move, in this run or the last one" }),
  moved: count.openapi({ description: "Of these, those that are gone from their node" }),
};

export const rebalanceStatus = z.object({
  ...rebalanced,
  nodes: z.array(z.object({ node, ...rebalanced, connections: count })),
  failed,
}).openapi("RebalanceStatus");

export const mute = z.strictObject({
  reason,
  muteMs: z.int().min(1).max(longestMs).openapi({ description: "For how long" }),
}).openapi("Mute");
export const muted = touched.extend({
  until: z.number().openapi({ description: "Unix milliseconds" }),
}).openapi("Muted");
export const muteList = z.object({
  mutes: z.array(
    z.object({
      userId: z.string().optional(),
      groupId: z.string().optional(),
      reason: z.string(),
      until: z.number().openapi({ description: "Unix milliseconds" }),
    }).openapi({
      description: "A user anywhere, everybody in a group, or with both ids a user in a group",
    }),
  ),
}).openapi("Mutes");

export const cleared = z.object({ cleared: z.literal(true) }).openapi("Cleared");

export const banKind = z.enum(["user", "group"]);
export const banList = z.object({ bans: z.array(banSchema.clone().openapi("Ban")) }).openapi(
  "Bans",
);

export const auditQuery = z.object({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  before: z.coerce.number().optional().openapi({
    description: "Unix milliseconds: only earlier ones, for the next page",
  }),
});
export const auditLog = z.object({
  entries: z.array(
    z.object({
      at: time,
      via: z.enum(["api", "console", "cluster"])
        .openapi({ description: "cluster: nobody commanded it; it happened to a program" }),
      who: z.string().openapi({
        description:
          "The console's user, or the name of the key; unknown: of a wrong key or password",
      }),
      address: z.string(),
      command: z.string().openapi({
        description:
          "The route; or what happened: joined, draining, undrained, left, died, wrong key, wrong password",
        example: "POST /users/:userId/kick",
      }),
      target: z.string().openapi({ description: "The ids in the path; or the program" }),
      details: z.string().openapi({ description: "The arguments, without contents of messages" }),
      result: z.string().openapi({ description: "ok, or the status of the refusal" }),
    }).openapi("AuditEntry"),
  ),
}).openapi("AuditLog");

const hookEndpoint = z.object({
  name: z.string(),
  url: z.string(),
  events: z.array(z.enum(eventKinds as [EventKind, ...EventKind[]])),
  state: z.enum(["delivering", "failing", "resting", "gone", "new"]).openapi({
    description:
      "resting: it failed often, and is tried now and then; gone: it answered 410, and is not tried until a stat is restarted; new: nothing was sent yet",
  }),
  position: z.string().openapi({ description: "Everything up to this event has been delivered" }),
  delivered: z.number().openapi({ description: "Events" }),
  failed: z.number().openapi({ description: "Requests" }),
  waiting: z.number().openapi({ description: "Events on their way, or to be sent again" }),
  lagMs: z.number().openapi({ description: "Age of the oldest of them" }),
  lastError: z.object({ atMs: z.number(), message: z.string() }).optional(),
}).openapi("HookEndpoint");

export const hookList = z.object({
  enabled: z.boolean(),
  sender: z.boolean().openapi({ description: "A stat is sending" }),
  endpoints: z.array(hookEndpoint),
}).openapi("Hooks");

export const totals = z.object({
  at: time,
  nodes: count,
  ...counts,
  users: count.openapi({ description: "Each user once, on however many nodes" }),
  groups: count.openapi({ description: "Each group once, on however many nodes" }),
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
}).openapi("Rates", { description: "One value for each time; null: no data" });

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
