/** The way of one node to the simulated Redis: what its driver, ioredis, shows of it. */
import { EventEmitter } from "node:events";
import { type Redis, ReplyError } from "ioredis";
import type { RedisDriver } from "../redis/link.ts";
import { Pipe, type Way } from "./sim_network.ts";
import { RedisError, type SimRedis, type Subscriber } from "./sim_redis.ts";
import type { Reply } from "./sim_redis_values.ts";
import { Actor, type VirtualTime } from "./sim_time.ts";

/** As long as the real link waits for a word of a server that owes one. */
const silenceMs = 3000;

interface Pending {
  readonly resolve: (reply: Reply) => void;
  readonly reject: (error: Error) => void;
}

/** One connection as the server sees it. */
interface Connection extends Subscriber {
  readonly requests: Pipe;
  readonly replies: Pipe;
  readonly pending: Pending[];
}

/** A place that answers: whichever server has the role now. */
export class SimRedisEndpoint {
  readonly actor = new Actor("redis");
  server: SimRedis;
  /** Connections are refused while it is down. */
  up = true;
  readonly clients = new Set<SimRedisClient>();
  readonly time: VirtualTime;

  constructor(time: VirtualTime, server: SimRedis) {
    this.time = time;
    this.server = server;
  }

  driverOf(owner: Actor, way: Way): RedisDriver {
    return (_, { connectionName = "" }) =>
      new SimRedisClient(this, owner, way, connectionName) as unknown as Redis;
  }

  /** Every connection breaks. */
  cutAll(): void {
    for (const client of [...this.clients]) client.cut();
  }
}

export class SimRedisClient extends EventEmitter {
  status = "connecting";
  readonly #place: SimRedisEndpoint;
  readonly owner: Actor;
  readonly name: string;
  readonly #way: Way;
  #connection: Connection | undefined;
  #attempt = 0;
  #heardAt = 0;
  #watch: ReturnType<typeof setInterval>;
  #timer: ReturnType<typeof setTimeout> | undefined;
  readonly stream = {
    writable: false,
    writableCorked: 0,
    cork: () => {},
    uncork: () => {},
    destroy: () => this.#close(),
  };

  constructor(place: SimRedisEndpoint, owner: Actor, way: Way, name: string) {
    super();
    this.name = name;
    this.#place = place;
    this.owner = owner;
    this.#way = way;
    place.clients.add(this);
    this.#watch = setInterval(() => {
      const owes = (this.#connection?.pending.length ?? 0) > 0;
      if (owes && place.time.now - this.#heardAt > silenceMs) this.#close();
    }, 250);
    this.#connect();
  }

  info = () => this.#send("info");
  ping = () => this.#send("ping");
  config = (...args: string[]) => this.#send("config", ...args);
  script = (...args: string[]) => this.#send("script", ...args);
  call = (name: string, ...args: string[]) => this.#send(name.toLowerCase(), ...args);
  evalsha = (...args: (string | number)[]) => this.#send("evalsha", ...args.map(String));
  subscribe = (...channels: string[]) => this.#send("subscribe", ...channels);
  unsubscribe = (...channels: string[]) => this.#send("unsubscribe", ...channels);
  del = (...keys: string[]) => this.#send("del", ...keys);
  get = (key: string) => this.#send("get", key);
  set = (...args: (string | number)[]) => this.#send("set", ...args.map(String));
  wait = (...args: (string | number)[]) => this.#send("wait", ...args.map(String));

  disconnect(): void {
    this.status = "end";
    clearInterval(this.#watch);
    clearTimeout(this.#timer);
    this.#place.clients.delete(this);
    this.#drop();
    queueMicrotask(() => this.emit("end"));
  }

  /** What the server sends is so much later, as on a connection that loses packets. */
  lag(ms: number): void {
    this.#connection?.replies.lag(ms);
  }

  /** What it sends now is so much later. Who has given up waiting for the answer does not take it back. */
  lagRequests(ms: number): void {
    this.#connection?.requests.lag(ms);
  }

  /** The network breaks the connection; the client notices after a moment. */
  cut(): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    connection.requests.cut();
    connection.replies.cut();
    this.#forget(connection);
    this.#place.time.after(this.#way.delay(), () => {
      if (this.#connection === connection) this.#close();
    }, this.owner);
  }

  #connect(): void {
    const { time } = this.#place;
    this.status = "connecting";
    const fail = () => {
      if (this.status !== "connecting") return;
      this.emit("error", new Error("connect ECONNREFUSED"));
      this.#again();
    };
    const late = setTimeout(fail, silenceMs);
    this.#way.pass(() =>
      time.after(2 * this.#way.delay(), () => {
        if (this.status !== "connecting" || this.#connection !== undefined) return;
        clearTimeout(late);
        if (!this.#place.up) return fail();
        this.#open();
      }, this.owner)
    );
  }

  #open(): void {
    const { actor, time } = this.#place;
    const connection: Connection = {
      requests: new Pipe(time, this.#way, actor),
      replies: new Pipe(time, this.#way, this.owner),
      pending: [],
      message: (channel, text) =>
        connection.replies.send(() => {
          this.#heardAt = time.now;
          this.emit("message", channel, text);
        }),
    };
    this.#connection = connection;
    this.#heardAt = time.now;
    this.status = "connect";
    // Ready when the server has said that it is.
    this.#command(connection, ["info"]).then(() => {
      if (this.#connection !== connection || this.status !== "connect") return;
      this.#attempt = 0;
      this.status = "ready";
      this.stream.writable = true;
      this.emit("ready");
    }, () => {});
  }

  #send(...args: string[]): Promise<Reply> {
    if (this.status !== "ready" || this.#connection === undefined) {
      return Promise.reject(
        new Error("Stream isn't writeable and enableOfflineQueue options is false"),
      );
    }
    return this.#command(this.#connection, args);
  }

  #command(connection: Connection, args: readonly string[]): Promise<Reply> {
    const { promise, resolve, reject } = Promise.withResolvers<Reply>();
    const { time } = this.#place;
    const pending = { resolve, reject };
    if (connection.pending.length === 0) this.#heardAt = time.now;
    connection.pending.push(pending);
    connection.requests.send(() => {
      let settle: () => void;
      try {
        const reply = this.#place.server.run(args, connection);
        settle = () => resolve(reply);
      } catch (error) {
        if (!(error instanceof RedisError)) throw error;
        settle = () => reject(new ReplyError(error.message));
      }
      connection.replies.send(() => {
        this.#heardAt = time.now;
        connection.pending.splice(connection.pending.indexOf(pending), 1);
        settle();
      });
    });
    return promise;
  }

  /** Our end is closed. What has been sent may still be done. */
  #close(): void {
    if (this.#connection === undefined || this.status === "end") return;
    this.#drop();
    this.emit("close");
    this.#again();
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.stream.writable = false;
    if (connection === undefined) return;
    connection.replies.cut();
    this.#forget(connection);
    for (const { reject } of connection.pending.splice(0)) {
      reject(new Error("Connection is closed."));
    }
  }

  #forget(connection: Connection): void {
    this.#place.server.unsubscribeAll(connection);
  }

  #again(): void {
    if (this.status === "end") return;
    this.status = "reconnecting";
    this.#timer = setTimeout(() => this.#connect(), Math.min(50 * ++this.#attempt, 1000));
  }
}
