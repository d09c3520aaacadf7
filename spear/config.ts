/** spear's profile. */
import { z } from "zod";
import { secret } from "@gru/shared/config";
import { nodeShape } from "@gru/shared/node";
import { spearAuth } from "@gru/ticket/contract";
import { parseRedisAddress } from "./redis_servers.ts";

const httpUrl = z.string().regex(/^https?:\/\/[^/\s]+$/, {
  error: "expected http://host:port or https://host:port",
});

export const spearSchema = z.strictObject({
  mode: z.enum(["single", "redis", "rocketmq"])
    .describe("single: this node alone; else what carries messages between the nodes"),
  ...nodeShape,
  advertise: httpUrl.optional()
    .describe("the address clients are told; default: http://host:port"),
  monitorPort: z.int().min(0).max(65_535).optional()
    .describe("RPC, health and metrics; default: port + 1"),
  redis: z.string().superRefine((address, context) => {
    try {
      parseRedisAddress(address);
    } catch (error) {
      context.addIssue({ code: "custom", message: (error as Error).message });
    }
  }).describe(
    "redis://host:port[/database], cluster:host:port[,host:port] or sentinel:host:port[,host:port]/name",
  ),
  rocketmq: z.string().regex(/^[^\s:/]+:\d{1,5}$/, { error: "expected host:port" })
    .describe("mode rocketmq: the gRPC proxy, host:port"),
  redisPassword: secret("GRU_REDIS_PASSWORD").describe("Redis password"),
  auth: spearAuth,
  origins: z.array(
    z.string().regex(/^(\*|https?:\/\/[^/\s]+)$/, {
      error: "expected *, or http(s)://host[:port] without a path",
    }),
  ).min(1).describe("web pages that may connect; *: all"),
  weight: z.number().min(0).max(100)
    .describe("this node's share of the users beside the others'; 0: it takes no new ones"),
  history: z.strictObject({
    size: z.int().min(0).max(1_000_000).describe("messages kept per group and user; 0: none"),
    ageMs: z.int().min(1000).describe("how long a message is kept"),
  }),
  limits: z.strictObject({
    payloadBytes: z.int().min(1024).max(100_000_000).describe("the largest packet of a client"),
    groupsPerConnection: z.int().min(1).describe("groups that one connection may be in"),
    authMs: z.int().min(100).describe("time that a new connection has to authenticate"),
    connections: z.int().min(1).describe("connections that this node holds"),
    connectionsPerUser: z.int().min(1).describe("connections of one user to this node"),
    messagesPerSecond: z.int().min(1)
      .describe("messages that one connection may send in a second, on average and at once"),
    waitingBytes: z.int().min(10_000)
      .describe("bytes that may wait for one connection whose client does not read"),
  }),
  slowConsumer: z.enum(["disconnect", "skip"])
    .describe(
      "beyond waitingBytes: end the connection, or keep the newest and tell what is missing",
    ),
  gatherMs: z.number().min(0).max(100)
    .describe(
      "while the thread is busy a message waits so long at most to leave together with others",
    ),
  publishMs: z.int().min(100).describe("time within which a message is accepted or refused"),
  drainMs: z.int().min(0).max(3_600_000)
    .describe("time over which the clients of a stopping node move to others"),
  reportMs: z.int().min(50).describe("how often stat is told who is here"),
});

export type SpearConfig = z.output<typeof spearSchema>;
