/** One connection to Redis that is usable, or says in bounded time that it is not. */
import type { Logger } from "@gru/shared/log";
import { Redis } from "ioredis";

export interface RedisLinkOptions {
  /** `redis://host:port[/database]` */
  readonly url: string;
  readonly password?: string | undefined;
  /** Told to the server, for people who look there. */
  readonly name: string;
  /** To be done on every new connection before it is used. */
  readonly prepare: (redis: Redis) => Promise<void>;
  readonly log: Logger;
}

/** Redis answers in microseconds; one that has not answered by then is frozen or cut off. */
const silenceMs = 3000;
const pingEveryMs = 1000;

/** The time is over, or the link is closed, and nothing has been sent. */
export class RedisAwayError extends Error {
  override readonly name = "RedisAwayError";
}

export class RedisLink implements AsyncDisposable {
  readonly redis: Redis;
  readonly #pinging: ReturnType<typeof setInterval>;
  /** Called with true when usable and with false when closed, in the order of their coming. */
  #waiting = new Set<(usable: boolean) => void>();
  #usable = false;
  #closed = false;

  constructor({ url, password, name, prepare, log }: RedisLinkOptions) {
    const redis = new Redis(url, {
      ...(password === undefined ? {} : { password }),
      connectionName: name,
      connectTimeout: silenceMs,
      socketTimeout: silenceMs,
      retryStrategy: (attempt) => Math.min(50 * attempt, 1000),
      // What cannot be sent now, or was not answered when the connection broke, fails at once: what happens then is
      // decided by the caller, who knows the difference.
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
      autoResubscribe: false,
    });
    let down = false;
    redis.on("error", (error: Error) => {
      if (!down) log.warn("{name}: Redis is out of reach: {error}", { name, error });
      down = true;
    });
    redis.on("close", () => this.#usable = false);
    redis.on("ready", async () => {
      try {
        await prepare(redis);
      } catch (error) {
        log.warn("{name}: the new connection could not be prepared: {error}", { name, error });
        // A reconnect tries anew; one that is under way already does so by itself.
        if (redis.status === "ready") redis.disconnect(true);
        return;
      }
      if (redis.status !== "ready") return;
      if (down) log.info("{name}: Redis is back", { name });
      down = false;
      this.#usable = true;
      this.#settle(true);
    });
    this.redis = redis;
    // Also a connection on which nothing is asked must notice that the server is gone.
    this.#pinging = setInterval(() => void redis.ping().catch(() => {}), pingEveryMs);
  }

  get usable(): boolean {
    return this.#usable;
  }

  /**
   * Resolves when the link is usable. Those who wait go on in the order in which they came.
   * @param deadline on the clock of `performance.now()`
   * @throws {RedisAwayError}
   */
  async ready(deadline: number): Promise<void> {
    if (this.#usable) return;
    if (this.#closed) throw new RedisAwayError("the connection to Redis is closed");
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const settle = (usable: boolean) => {
      this.#waiting.delete(settle);
      clearTimeout(timer);
      if (usable) resolve();
      else reject(new RedisAwayError("Redis is out of reach"));
    };
    const timer = setTimeout(() => settle(false), Math.max(0, deadline - performance.now()));
    this.#waiting.add(settle);
    await promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#usable = false;
    clearInterval(this.#pinging);
    this.#settle(false);
    // Not `quit`: it waits for a server that may be frozen.
    this.redis.disconnect();
  }

  #settle(usable: boolean): void {
    for (const settle of [...this.#waiting]) settle(usable);
  }
}
