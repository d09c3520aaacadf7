/** Where Redis is: the one grammar for the key `redis` of every profile. */
import { type HostAndPort, isHost, parseHostAndPort } from "../address.ts";
import { withoutPassword } from "../redact.ts";

/** Where a connection goes to; with sentinels: to whichever server they say is the primary. */
export type RedisEndpoint =
  | HostAndPort & {
    /** Default 0. */
    readonly db?: number;
    /** TLS; ioredis takes it so. */
    readonly tls?: Record<string, never>;
  }
  | { readonly sentinels: readonly HostAndPort[]; readonly name: string };

export type RedisAddress =
  & {
    /** The user of Redis's ACL; undefined: the default user. */
    readonly username?: string;
  }
  & (
    | { readonly kind: "one"; readonly place: RedisEndpoint }
    | { readonly kind: "cluster" | "shards"; readonly nodes: readonly HostAndPort[] }
  );

/**
 * `redis://host[:port][/database]` (or `rediss:`), `sentinel:host:port[,host:port]/primary-name`,
 * `cluster:host:port[,host:port]` or `shards:host:port[,host:port]`; before the first host may stand `user@`, of the
 * servers and not of the sentinels. An IPv6 address is in brackets; in the user `%` escapes.
 * @throws {TypeError} that repeats the address, without what may be a password in it.
 */
export function parseRedisAddress(address: string): RedisAddress {
  const [, kind = "", user, rest = ""] =
    /^(redis:\/\/|rediss:\/\/|cluster:|shards:|sentinel:)(?:([^\s@:/,]+)@)?([^\s@]+)$/.exec(
      address,
    ) ?? [];
  const username = user === undefined ? undefined : unescaped(user);
  const of = username === undefined ? {} : { username };
  if (user === undefined || username !== undefined) {
    const [hosts = "", tail, ...more] = rest.split("/");
    if (kind.startsWith("redis") && more.length === 0) {
      const place = parseHostAndPort(hosts) ?? parseHostAndPort(`${hosts}:6379`);
      if (place !== undefined && /^\d{0,9}$/.test(tail ?? "")) {
        const db = tail === undefined || tail === "" ? {} : { db: Number(tail) };
        const tls = kind === "rediss://" ? { tls: {} } : {};
        return { ...of, kind: "one", place: { ...place, ...db, ...tls } };
      }
    }
    const nodes = hosts.split(",").map(parseHostAndPort).filter((node) => node !== undefined);
    if (nodes.length === hosts.split(",").length && more.length === 0) {
      if (kind === "cluster:" && tail === undefined) return { ...of, kind: "cluster", nodes };
      if (kind === "shards:" && tail === undefined) return { ...of, kind: "shards", nodes };
      if (kind === "sentinel:" && tail !== undefined && isHost(tail)) {
        return { ...of, kind: "one", place: { sentinels: nodes, name: tail } };
      }
    }
  }
  throw new TypeError(
    `redis: expected ${expectedRedis} or ${expectedShards}, and no password, got ${
      withoutPassword(address)
    }`,
  );
}

/** The forms that every program takes. */
export const expectedRedis =
  "redis://[user@]host:port[/database], cluster:[user@]host:port[,host:port] or " +
  "sentinel:[user@]host:port[,host:port]/name";

/** Several independent Redis, which only spear takes. */
export const expectedShards = "shards:[user@]host:port[,host:port]";

function unescaped(text: string): string | undefined {
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
