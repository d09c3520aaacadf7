/** The seam between the broker and what kind of Redis there is: one server, one behind Sentinel, or a Cluster. */
import type { Logger } from "@gru/shared/log";
import type { Redis } from "ioredis";
import type { Target } from "./wire.ts";
import { type HostAndPort, RedisLink, type RedisPlace } from "./redis_link.ts";

/** A server that counts and, where there is a subscriber, sends out the messages of some or all targets. */
export interface RedisServer {
  readonly commands: RedisLink;
  readonly subscriber: RedisLink | undefined;
}

export interface RedisServers extends AsyncDisposable {
  /** Whether messages travel through sharded channels. */
  readonly sharded: boolean;
  readonly usable: boolean;
  /** The one that has the target as far as is known; it need not be usable. */
  serverOf(target: Target): RedisServer | undefined;
  /** A server has said that it is not the one: look again, soon. */
  lookAgain(server: RedisServer): void;
}

export interface RedisServersOptions {
  readonly password?: string | undefined;
  /** Begins the names of the connections. */
  readonly name: string;
  /** To be done on every new connection for commands before it is used. */
  readonly prepare: (redis: Redis) => Promise<void>;
  /** Without it there are no connections for subscriptions. */
  readonly onMessage?: ((channel: string, text: string) => void) | undefined;
  /** A connection has become usable, or a target has come to another server. */
  readonly onChange: () => void;
  readonly log: Logger;
}

export type RedisAddress =
  | { readonly kind: "one"; readonly place: RedisPlace }
  | { readonly kind: "cluster"; readonly nodes: readonly HostAndPort[] };

/**
 * `redis://host:port[/database]` (or `rediss:`), `sentinel:host:port[,host:port]/primary-name` or
 * `cluster:host:port[,host:port]`.
 * @throws {TypeError} that repeats the address.
 */
export function parseRedisAddress(address: string): RedisAddress {
  if (/^rediss?:\/\/[^\s@]+$/.test(address)) return { kind: "one", place: { url: address } };
  const [, kind, list = "", name] =
    /^(cluster|sentinel):([^\s@/]+)(?:\/([^\s@/]+))?$/.exec(address) ?? [];
  const nodes = list.split(",").map((node) => {
    const [, host = "", port] = /^(.+):(\d{1,5})$/.exec(node) ?? [];
    return { host, port: Number(port) };
  });
  if (nodes.every(({ host, port }) => host !== "" && port > 0 && port < 65_536)) {
    if (kind === "cluster" && name === undefined) return { kind, nodes };
    if (kind === "sentinel" && name !== undefined) {
      return { kind: "one", place: { sentinels: nodes, name } };
    }
  }
  throw new TypeError(
    "redis: expected redis://host:port[/database], cluster:host:port[,host:port] or " +
      `sentinel:host:port[,host:port]/name, got ${address}`,
  );
}

export function openServer(place: RedisPlace, options: RedisServersOptions): RedisServer {
  const { password, name, prepare, onMessage, onChange, log } = options;
  const common = { place, password, onUsable: onChange, log };
  const commands = new RedisLink({ ...common, name: `${name}-commands`, prepare });
  if (onMessage === undefined) return { commands, subscriber: undefined };
  const subscriber = new RedisLink({ ...common, name: `${name}-subscriber` });
  subscriber.redis.on("message", onMessage);
  subscriber.redis.on("smessage", onMessage);
  // The server has ended a subscription because the target moved. Which one, the driver does not tell.
  subscriber.redis.on("moved", () => subscriber.reconnect());
  return { commands, subscriber };
}

export function isUsable({ commands, subscriber }: RedisServer): boolean {
  return commands.usable && (subscriber === undefined || subscriber.usable);
}

export async function closeServer({ commands, subscriber }: RedisServer): Promise<void> {
  await Promise.all([commands[Symbol.asyncDispose](), subscriber?.[Symbol.asyncDispose]()]);
}

/** One server for all targets, or whichever one Sentinel calls the primary. */
export class SoleRedis implements RedisServers {
  readonly sharded = false;
  readonly #server: RedisServer;

  constructor(place: RedisPlace, options: RedisServersOptions) {
    this.#server = openServer(place, options);
  }

  get usable(): boolean {
    return isUsable(this.#server);
  }

  serverOf(): RedisServer {
    return this.#server;
  }

  /** It has become a replica: a new connection goes to the present primary. */
  lookAgain({ commands, subscriber }: RedisServer): void {
    commands.reconnect();
    subscriber?.reconnect();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return closeServer(this.#server);
  }
}
