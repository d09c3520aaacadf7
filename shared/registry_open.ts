/** From the profile's key `registry` to an engine. */
import { z } from "zod";
import { secret } from "./config.ts";
import type { Logger } from "./log.ts";
import type { Registry } from "./registry.ts";
import { MemoryRegistry } from "./registry_memory.ts";
import { connectZookeeper } from "./registry_zookeeper.ts";

// A part of the root is not made of dots only.
const addressPattern =
  /^(memory:|zookeeper:\/\/[^/,:]+:\d+(,[^/,:]+:\d+)*(\/(?!\.+(\/|$))[\w.-]+)+)$/;

export const registryShape = {
  registry: z.string().regex(addressPattern, {
    error: "expected memory: or zookeeper://host:port[,host:port]/root",
  }).describe("who is alive: memory: or zookeeper://host:port[,host:port]/root"),
  zookeeper: z.strictObject({
    sessionMs: z.number().int().min(1000).max(60_000)
      .describe("a program that died is gone from the cluster after this long"),
    acl: z.enum(["open", "digest"])
      .describe("digest: only holders of the same credentials may read or write our nodes"),
    credentials: secret("GRU_ZOOKEEPER_CREDENTIALS").describe("user:password for acl digest"),
  }).refine((at) => at.acl === "open" || at.credentials?.includes(":"), {
    path: ["credentials"],
    error: "acl digest wants user:password",
  }),
};

const registrySchema = z.strictObject(registryShape);
export type RegistryConfig = z.output<typeof registrySchema>;

/** @throws RegistryUnavailableError when no server can be reached in time. */
export async function openRegistry(config: RegistryConfig, log: Logger): Promise<Registry> {
  if (config.registry === "memory:") return new MemoryRegistry();
  const [hosts, ...root] = config.registry.slice("zookeeper://".length).split("/");
  return await connectZookeeper({
    servers: (hosts ?? "").split(","),
    root: `/${root.join("/")}`,
    sessionMs: config.zookeeper.sessionMs,
    ...(config.zookeeper.acl === "digest" && config.zookeeper.credentials !== undefined
      ? { credentials: config.zookeeper.credentials }
      : {}),
    log,
  });
}
