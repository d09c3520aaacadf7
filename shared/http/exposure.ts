/** The protections that a program needs as soon as other machines can reach it. */
import type { z } from "zod";
import { isWildcard } from "../address.ts";

/** True when only this machine can reach the host. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d+){3}$/.test(host);
}

/** The profile keys that decide it; a program has some of them. */
export interface Exposed {
  readonly host: string;
  readonly requireSecrets: "exposed" | "always";
  readonly mode?: string;
  readonly rpc: {
    readonly clusterKey?: string | undefined;
    readonly advertise?: string | undefined;
  };
  readonly registry: string;
  readonly zookeeper: { readonly acl: string; readonly credentials?: string | undefined };
  readonly redis?: string;
  readonly redisPassword?: string | undefined;
}

export interface MissingGuard {
  readonly path: readonly string[];
  readonly message: string;
}

/**
 * All that is missing of: an address at which the others reach the program, a cluster key, digest in ZooKeeper and a password in
 * Redis, as far as the program uses them, and the program's `own` secrets. Whoever reaches the program reaches these servers,
 * too, and could take its place there.
 */
export function missingGuards(config: Exposed, own: readonly string[] = []): MissingGuard[] {
  const { host, requireSecrets, mode, rpc, registry, zookeeper, redis } = config;
  const isExposed = !isLoopback(host);
  if (!isExposed && requireSecrets !== "always") return [];
  const because = isExposed
    ? `host is ${host}, which other machines can reach`
    : "requireSecrets is always";
  const missing: MissingGuard[] = [];
  const demand = (given: unknown, ...path: string[]) => {
    if (given === undefined) missing.push({ path, message: `missing: ${because}` });
  };
  if (isWildcard(rpc.advertise ?? host)) {
    missing.push({
      path: ["rpc", "advertise"],
      message: `needed with host ${host}, which means all addresses of the machine`,
    });
  }
  demand(rpc.clusterKey, "rpc", "clusterKey");
  if (registry !== "memory:" && mode !== "single") {
    if (zookeeper.acl !== "digest") {
      missing.push({ path: ["zookeeper", "acl"], message: `expected digest, because ${because}` });
    }
    demand(zookeeper.credentials, "zookeeper", "credentials");
  }
  // With RocketMQ, Redis stores the history.
  if (redis !== undefined && redis !== "memory:" && mode !== "single") {
    demand(config.redisPassword, "redisPassword");
  }
  for (const key of own) demand((config as unknown as Record<string, unknown>)[key], key);
  return missing;
}

/**
 * For `superRefine` of a program's schema, so that everything missing is reported together with all other errors.
 * @param strict secrets besides `own` that are required with `requireSecrets` `always` only
 */
export function guarded(own: readonly string[] = [], strict: readonly string[] = []) {
  return (config: Exposed, context: z.core.$RefinementCtx) => {
    const all = config.requireSecrets === "always" ? [...own, ...strict] : own;
    for (const { path, message } of missingGuards(config, all)) {
      context.addIssue({ code: "custom", path: [...path], message });
    }
  };
}
