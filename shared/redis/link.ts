/** One connection to Redis that is usable, or known not to be within seconds. */
import type { Logger } from "@gru/shared/log";
import type { RedisEndpoint } from "@gru/shared/redis/address";
import { Redis, type RedisOptions, ReplyError } from "ioredis";

/** Opens a connection to this place; a simulation has one of its own. */
export type RedisDriver = (place: RedisEndpoint, settings: RedisSettings) => Redis;
export type RedisSettings = Omit<RedisOptions, "replyMapping">;

export interface RedisLinkOptions {
  readonly place: RedisEndpoint;
  /** Default: ioredis. */
  readonly driver?: RedisDriver | undefined;
  readonly username?: string | undefined;
  readonly password?: string | undefined;
  /** Told to the server, for people who look there. */
  readonly name: string;
  /** To be done on every new connection before it is used. */
  readonly prepare?: ((redis: Redis) => Promise<void>) | undefined;
  /** The link has become usable. */
  readonly onUsable: () => void;
  readonly log: Logger;
}

/** Redis answers in microseconds; one that has not answered by then is frozen or cut off. */
const silenceMs = 3000;
const pingEveryMs = 1000;

export class RedisLink implements AsyncDisposable {
  readonly redis: Redis;
  readonly #options: RedisLinkOptions;
  readonly #pinging: ReturnType<typeof setInterval>;
  #connection: object | undefined;
  #down = false;
  /** Reasons that the log holds, since it was usable. */
  readonly #told = new Set<string>();
  /** Why the last connection could not be used. */
  #unprepared = "";
  #trouble = "";
  #closed = false;

  constructor(options: RedisLinkOptions) {
    this.#options = options;
    const { place, driver = connect, username, password, name, log } = options;
    const settings = {
      ...(username === undefined ? {} : { username }),
      ...(password === undefined ? {} : { password }),
      connectionName: name,
      connectTimeout: silenceMs,
      socketTimeout: silenceMs,
      disconnectTimeout: 0,
      retryStrategy: (attempt: number) => Math.min(50 * attempt, 1000),
      // What cannot be sent now, or was not answered when the connection broke, fails at once: what happens then is
      // decided by the caller, who knows the difference.
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResubscribe: false,
    };
    const redis = this.redis = driver(place, settings);
    redis.on("error", (error: Error) => {
      this.#down = true;
      this.#trouble = error.message;
      // Why it cannot be reached any more, and why a new connection is refused, are two things.
      if (this.#told.has(error.message) || this.#told.size >= 10) return;
      this.#told.add(error.message);
      log.warn("{name}: Redis is out of reach: {error}", { name, error });
    });
    redis.on("close", () => this.#connection = undefined);
    redis.on("ready", () => void this.prepare());
    // Also a connection on which nothing is asked must notice that the server is gone.
    this.#pinging = setInterval(() => {
      if (redis.status === "ready") redis.ping().catch(() => {});
    }, pingEveryMs);
  }

  get usable(): boolean {
    return this.connection !== undefined;
  }

  /** Why it is not usable, as far as that is known; "" otherwise. */
  get trouble(): string {
    return this.#trouble;
  }

  /** Another object for every new connection; undefined while there is none that can be written to at this moment. */
  get connection(): object | undefined {
    // The status lags behind the socket.
    if (this.redis.status !== "ready" || !this.redis.stream.writable) return undefined;
    return this.#connection;
  }

  /** What is written to the connection from here to the end of this round of promises leaves in one piece. */
  gather(): void {
    const { stream } = this.redis;
    if (stream.writableCorked > 0) return;
    stream.cork();
    queueMicrotask(() => stream.uncork());
  }

  /** Prepares the present connection, again where that has been done before. */
  async prepare(): Promise<void> {
    const { redis } = this;
    const { name, log, onUsable, prepare } = this.#options;
    this.#connection = undefined;
    const connection = {};
    try {
      await prepare?.(redis);
    } catch (error) {
      if (this.#closed) return;
      // Once for each reason: it is tried again every second until an operator has put it right.
      if (String(error) !== this.#unprepared) {
        log.warn("{name}: this connection cannot be used: {error}", { name, error });
      }
      this.#unprepared = String(error);
      this.#trouble = error instanceof Error ? error.message : String(error);
      this.reconnect();
      return;
    }
    if (this.#closed || redis.status !== "ready") return;
    if (this.#down || this.#unprepared !== "") log.info("{name}: Redis is back", { name });
    this.#down = false;
    this.#told.clear();
    this.#unprepared = "";
    this.#trouble = "";
    this.#connection = connection;
    onUsable();
  }

  /** Gives the connection up for a new one; nothing to do where that is already under way. */
  reconnect(): void {
    this.#connection = undefined;
    if (!this.#closed && this.redis.status === "ready") this.redis.stream.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection = undefined;
    clearInterval(this.#pinging);
    const { redis } = this;
    const { promise: ended, resolve } = Promise.withResolvers<void>();
    redis.once("end", resolve);
    // One that waits for its next attempt has ended without saying so, but for a timer of `disconnect`.
    if (redis.status === "reconnecting") setTimeout(resolve, 5);
    if (redis.status === "end") resolve();
    // Not `quit`: it waits for a server that may be frozen.
    else redis.disconnect();
    redis.stream?.destroy();
    await ended;
  }
}

function connect(place: RedisEndpoint, settings: RedisSettings): Redis {
  if ("host" in place) return new Redis({ ...settings, ...place });
  return new Redis({
    ...settings,
    sentinels: place.sentinels.map(({ host, port }) => ({ host, port })),
    name: place.name,
    sentinelCommandTimeout: 1000,
    sentinelRetryStrategy: () => 200,
  });
}

/**
 * What to think of a command that failed. `refused`: the server will not do it. `elsewhere`: this server is not, not yet or no
 * longer the one to ask. `unprepared`: it has lost the scripts. In these three cases nothing has been done, but for what a script
 * had done before it came to a key that has moved and that it had not declared.
 * `lost`: nobody knows.
 */
export type Failure = "refused" | "elsewhere" | "unprepared" | "lost";

const elsewhere =
  /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|READONLY|MASTERDOWN|LOADING)\b|Script attempted to access a non local key/;

export function failureOf(error: unknown): Failure {
  if (!(error instanceof ReplyError)) return "lost";
  const { message } = error as Error;
  if (message.startsWith("NOSCRIPT")) return "unprepared";
  return elsewhere.test(message) ? "elsewhere" : "refused";
}
