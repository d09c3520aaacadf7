/** The connections to one server of Redis, and what every topology of servers shows of itself. */
import type { Logger } from "@gru/shared/log";
import type { RedisEndpoint } from "@gru/shared/redis/address";
import type { Redis } from "ioredis";
import { type RedisDriver, RedisLink } from "./link.ts";

/** The connections to one server: one for commands and, where messages are wanted, one for subscriptions. */
export interface RedisServer {
  readonly commands: RedisLink;
  readonly subscriber: RedisLink | undefined;
}

export interface RedisTopology extends AsyncDisposable {
  /** Whether messages travel through sharded channels. */
  readonly sharded: boolean;
  readonly usable: boolean;
  /** Why it is not usable, as far as that is known; "" otherwise. */
  readonly trouble: string;
  /** @returns the server that has the keys with this hash tag, as far as is known; it need not be usable. */
  serverOf(tag: string): RedisServer | undefined;
  /** A server has said that it is not the one: look again, soon. */
  refresh(server: RedisServer): void;
}

export interface RedisTopologyOptions {
  readonly driver?: RedisDriver | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Begins the names of the connections. */
  readonly name: string;
  /** To be done on every new connection before anything else; one for which it rejects is not used. */
  readonly admit?: ((redis: Redis) => Promise<void>) | undefined;
  /**
   * To be done on every new connection for commands before it is used. `server`: names it among the servers that share
   * the keys.
   */
  readonly prepare?: ((redis: Redis, server: string) => Promise<void>) | undefined;
  /** Without it there are no connections for subscriptions. */
  readonly onMessage?: ((channel: string, text: string) => void) | undefined;
  /** A connection has become usable, or keys have moved to another server. */
  readonly onChange?: (() => void) | undefined;
  readonly log: Logger;
}

const tryChannel = "gru:{try}";

/** The name of a server that has all keys. */
const only = "one";

export function openServer(place: RedisEndpoint, options: RedisTopologyOptions): RedisServer {
  const { driver, username, password, name, admit, prepare, onMessage, log } = options;
  const { onChange = () => {} } = options;
  const common = { place, driver, username, password, onUsable: onChange, log };
  const commands = new RedisLink({
    ...common,
    name: `${name}-commands`,
    prepare: async (redis) => {
      await admit?.(redis);
      await prepare?.(redis, only);
    },
  });
  if (onMessage === undefined) return { commands, subscriber: undefined };
  const subscriber = new RedisLink({
    ...common,
    name: `${name}-subscriber`,
    // Where the user may not subscribe, it is said now and not at the first client.
    prepare: async (redis) => {
      await admit?.(redis);
      await redis.subscribe(tryChannel);
      await redis.unsubscribe(tryChannel);
    },
  });
  subscriber.redis.on("message", onMessage);
  subscriber.redis.on("smessage", onMessage);
  // The server has ended a subscription because its slot moved. The driver does not tell which one.
  subscriber.redis.on("moved", () => subscriber.reconnect());
  return { commands, subscriber };
}

export function isUsable({ commands, subscriber }: RedisServer): boolean {
  return commands.usable && (subscriber === undefined || subscriber.usable);
}

export function troubleOf({ commands, subscriber }: RedisServer): string {
  return commands.trouble || (subscriber?.trouble ?? "");
}

/** New connections, because this server is not the one to ask any more. */
export function reconnectServer({ commands, subscriber }: RedisServer): void {
  commands.reconnect();
  subscriber?.reconnect();
}

export async function closeServer({ commands, subscriber }: RedisServer): Promise<void> {
  await Promise.all([commands[Symbol.asyncDispose](), subscriber?.[Symbol.asyncDispose]()]);
}
