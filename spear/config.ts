/** spear's profile. */
import { z } from "zod";
import { isWildcard, parseHostAndPort, reachableUrlSchema } from "@gru/shared/address";
import { secret } from "@gru/shared/config";
import { guarded } from "@gru/shared/http/exposure";
import { nodeShape } from "@gru/shared/node";
import { expectedRedis, expectedShards, parseRedisAddress } from "@gru/shared/redis/address";
import { spearAuth } from "@gru/ticket/contract";
import { historyBytes } from "./broker/broker.ts";
import { decisionsSchema } from "./decisions_config.ts";
import { groupsSchema, historyShape } from "./groups_config.ts";

export const spearSchema = z.strictObject({
  mode: z.enum(["single", "redis", "rocketmq"]).default("redis")
    .describe("what carries messages between the nodes; single: nothing, this node is alone"),
  ...nodeShape(31_001),
  advertise: reachableUrlSchema().optional()
    .describe("the address that clients connect to, http://host:port")
    .meta({ whenMissing: "http://host:port" }),
  monitorPort: z.int().min(0).max(65_535).optional()
    .describe("the port of RPC, health and metrics; 0: any free one")
    .meta({ whenMissing: "port + 1" }),
  redis: z.string().superRefine((address, context) => {
    try {
      parseRedisAddress(address);
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message });
    }
  }).default("redis://127.0.0.1:6379").describe(
    `${expectedRedis}, or for mode redis ${expectedShards}`,
  ),
  rocketmq: z.string().refine(
    (text) => text.split(",").every((proxy) => parseHostAndPort(proxy.trim()) !== undefined),
    { error: "expected host:port, several separated by commas, an IPv6 address in brackets" },
  ).default("127.0.0.1:8081").describe(
    "mode rocketmq: the gRPC proxies of RocketMQ, host:port, several separated by commas; one at a time is used",
  ),
  rocketmqTopic: z.string().regex(/^[\w-]{1,100}$/, {
    error: "expected 1 to 100 letters, digits, _ and -",
  }).default("gru").describe(
    "mode rocketmq: the topic, of type FIFO, which the clusters on one RocketMQ may share",
  ),
  rocketmqNamespace: z.string().regex(/^[\w-]{1,100}$/, {
    error: "expected 1 to 100 letters, digits, _ and -",
  }).optional().describe("mode rocketmq: the namespace of the topic and the consumer groups")
    .meta({ whenMissing: "none" }),
  rocketmqTls: z.boolean().default(false).describe("mode rocketmq: TLS to the proxies"),
  rocketmqCaFile: z.string().min(1).optional().describe(
    "mode rocketmq: file with the PEM authorities of the proxies' certificates; it turns TLS on",
  ).meta({ whenMissing: "the authorities that the runtime trusts" }),
  rocketmqAccessKey: secret("GRU_ROCKETMQ_ACCESS_KEY").describe(
    "mode rocketmq: the user, where RocketMQ asks for credentials",
  ),
  rocketmqSecretKey: secret("GRU_ROCKETMQ_SECRET_KEY").describe("mode rocketmq: its password"),
  redisPassword: secret("GRU_REDIS_PASSWORD").describe("the password of Redis"),
  auth: spearAuth,
  origins: z.array(
    z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, {
      error: "expected *, or http(s)://host[:port] without a path",
    }),
  ).min(1).default(["*"]).describe("the sites whose pages may connect; *: all sites"),
  weight: z.number().min(0).max(100).default(1)
    .describe("this node's share of the users, relative to the other nodes; 0: no new users"),
  history: z.strictObject({
    size: historyShape.size.default(1000)
      .describe("messages kept for each group and each user; 0: none"),
    bytes: historyShape.bytes.default(historyBytes).describe(
      "bytes of messages kept for each group and each user; the newest message is always kept",
    ),
    ageMs: historyShape.ageMs.default(300_000)
      .describe("milliseconds for which a message is kept"),
  }).prefault({}),
  groups: groupsSchema,
  decisions: decisionsSchema,
  limits: z.strictObject({
    payloadBytes: z.int().min(1024).max(100_000_000).default(100_000)
      .describe("bytes of the largest packet that a client may send"),
    groupsPerConnection: z.int().min(1).default(1000)
      .describe("groups that one connection may join"),
    authMs: z.int().min(100).default(10_000)
      .describe("milliseconds within which a new connection must authenticate"),
    connections: z.int().min(1).default(18_000).describe("connections that this node holds"),
    connectionsPerUser: z.int().min(1).default(100)
      .describe("connections that one user may have to this node"),
    messagesPerSecond: z.int().min(1).default(1000)
      .describe("messages that one connection may send each second, on average and in one burst"),
    workPerSecond: z.number().min(1).default(500).describe(
      "units of work that one connection may cause each second on average; joining a group is 1, auth 10",
    ),
    workAtOnce: z.int().min(100).default(2500)
      .describe("units of work that one connection may cause in one burst after a quiet time"),
    nodeWorkPerSecond: z.number().min(100).default(8000).describe(
      "units of work that all clients together may cause each second; beyond it the node serves light users first",
    ),
    userFactor: z.number().min(1).default(4).describe(
      "how many times the work and messages of one connection all connections of a user to this node may cause",
    ),
    waitingBytes: z.int().min(10_000).default(4_000_000).describe(
      "bytes that may wait for a client that does not read; 65 536 before it has authenticated",
    ),
  }).prefault({}),
  slowConsumer: z.enum(["disconnect", "skip"]).default("disconnect").describe(
    "beyond limits.waitingBytes: close the connection, or skip to the newest messages and say what is missing",
  ),
  batchDelayMs: z.number().min(0).max(100).default(25).describe(
    "milliseconds that a message waits at most, while the node is busy, to leave in one write with others",
  ).meta({ formerly: ["gatherMs"] }),
  durability: z.enum(["one", "replica"]).default("one")
    .describe("a message is accepted when Redis has it, or when a replica of Redis has it, too"),
  publishMs: z.int().min(100).default(15_000)
    .describe("milliseconds within which a message is accepted or refused"),
  pingInterval: z.int().min(100).max(300_000).default(25_000).describe(
    "milliseconds after which a quiet connection is pinged; clients learn both values when they connect",
  ),
  pingTimeout: z.int().min(100).max(300_000).default(20_000).describe(
    "milliseconds that an answer to a ping may take; after pingInterval + pingTimeout a client leaves a node that is frozen",
  ),
  drainMs: z.int().min(0).max(3_600_000).default(10_000)
    .describe("milliseconds over which a stopping node moves its clients to other nodes"),
  rebalance: z.strictObject({
    automatic: z.boolean().default(false).describe(
      "move clients to nodes that have too few, e.g. after a restart, without a command (POST /rebalance of stat)",
    ),
    perSecond: z.int().min(1).max(100_000).default(50).describe(
      "clients that all nodes together ask to move each second, at most",
    ),
  }).prefault({}),
  trailMessages: z.int().min(0).max(10_000_000).default(100_000).describe(
    "messages whose way through this node can be asked for later, about 100 bytes each; 0: none",
  ),
  messageSpans: z.number().min(0).max(1).default(0).describe(
    "share of the messages whose way becomes spans of OpenTelemetry, with OTEL_DENO=true; 1: all; the same on all spears",
  ),
  canaryMs: z.int().min(0).max(3_600_000).default(5000).describe(
    "milliseconds between the small messages by which the nodes test the way to each other; 0: none",
  ),
  reportMs: z.int().min(50).default(1000)
    .describe("milliseconds between this node's reports to stat of its users"),
}).superRefine(guarded()).superRefine(
  (
    { advertise, host, mode, redis, redisPassword, rocketmqAccessKey, rocketmqSecretKey },
    context,
  ) => {
    const complain = (key: string, message: string) =>
      context.addIssue({ code: "custom", path: [key], message });
    if (advertise === undefined && isWildcard(host)) {
      complain("advertise", `needed with host ${host}, which means all addresses of the machine`);
    }
    if (mode === "rocketmq" && redis.startsWith("shards:")) {
      complain("redis", `mode rocketmq takes ${expectedRedis}, and no shards, got ${redis}`);
    }
    if (mode !== "single" && redisPassword === undefined && hasUser(redis)) {
      complain("redisPassword", "redis names a user, which needs a password");
    }
    if ((rocketmqAccessKey === undefined) !== (rocketmqSecretKey === undefined)) {
      complain("rocketmqSecretKey", "set both the access key and the secret key, or neither");
    }
  },
);

function hasUser(redis: string): boolean {
  try {
    return parseRedisAddress(redis).username !== undefined;
  } catch {
    return false;
  }
}

export type SpearConfig = z.output<typeof spearSchema>;

/** Where RPC, health and metrics listen. */
export function monitorPortOf({ port, monitorPort }: SpearConfig): number {
  return monitorPort ?? (port === 0 ? 0 : port + 1);
}
