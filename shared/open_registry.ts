/** Opens the registry engine that the profile's key `registry` names. */
import { z } from "zod";
import { formatHostAndPort, type HostAndPort, parseHostAndPort } from "./address.ts";
import { ConfigError, secret } from "./config.ts";
import type { Logger } from "./log.ts";
import type { Registry } from "./registry/registry.ts";
import { MemoryRegistry } from "./registry/memory.ts";
import { connectZookeeper } from "./zookeeper/registry.ts";

interface Ensemble {
  readonly servers: readonly HostAndPort[];
  readonly root: string;
}

/** undefined: not an address of the form `zookeeper://host:port[,host:port]/root`. */
function parseEnsemble(address: string): Ensemble | undefined {
  // No part of the root consists of dots only.
  const [, list = "", root = ""] =
    /^zookeeper:\/\/([^/]+)((?:\/(?!\.+(?:\/|$))[\w.-]+)+)$/.exec(address) ?? [];
  const servers = list.split(",").map(parseHostAndPort).filter((server) => server !== undefined);
  return servers.length === list.split(",").length ? { servers, root } : undefined;
}

export const registryShape = {
  registry: z.string().refine(
    (address) => address === "memory:" || parseEnsemble(address) !== undefined,
    { error: "expected memory: or zookeeper://host:port[,host:port]/root, IPv6 in brackets" },
  ).default("zookeeper://127.0.0.1:2181/gru").describe(
    "where the programs find each other: zookeeper://host:port[,host:port]/root, or memory: for a program that is alone",
  ),
  zookeeper: z.strictObject({
    sessionMs: z.number().int().min(1000).max(60_000).default(4000)
      .describe("milliseconds after which a program that died is removed from the cluster"),
    acl: z.enum(["open", "digest"]).default("open").describe(
      "digest: only holders of the same credentials may read or write the cluster's ZooKeeper nodes",
    ),
    credentials: secret("GRU_ZOOKEEPER_CREDENTIALS").describe("user:password for acl digest"),
  }).refine((at) => at.acl === "open" || at.credentials?.includes(":"), {
    path: ["credentials"],
    error: "acl digest needs user:password",
  }).prefault({}).meta({ unknownKeys: "refuse" }),
};

const registrySchema = z.strictObject(registryShape);
export type RegistryConfig = z.output<typeof registrySchema>;

/** @throws RegistryUnavailableError when no server can be reached in time, or before `stop` is aborted. */
export async function openRegistry(
  config: RegistryConfig,
  log: Logger,
  stop?: AbortSignal,
): Promise<Registry> {
  if (config.registry === "memory:") return new MemoryRegistry();
  const ensemble = parseEnsemble(config.registry);
  if (ensemble === undefined) {
    throw new ConfigError(`registry: ${config.registry} is not an address`);
  }
  return await connectZookeeper({
    servers: ensemble.servers.map(formatHostAndPort),
    root: ensemble.root,
    sessionMs: config.zookeeper.sessionMs,
    ...(config.zookeeper.acl === "digest" && config.zookeeper.credentials !== undefined
      ? { credentials: config.zookeeper.credentials }
      : {}),
    ...(stop === undefined ? {} : { stop }),
    log,
  });
}
