/**
 * One ZooKeeper session, from its first connection to its end, on top of node-zookeeper-client. That client waits for
 * ever for a silent server, sends old requests late, and throws from socket events. Here every operation ends in time,
 * a silent server is left for the next one, and nothing asked before a disconnect is sent after it.
 */
import { Buffer } from "node:buffer";
import { parseHostAndPort } from "../address.ts";
import type { Logger } from "../log.ts";
import { RegistryUnavailableError } from "../registry/registry.ts";
import { within } from "../within.ts";
import { SessionProof } from "./proof.ts";
// @ts-types="./client.d.ts"
import zookeeper, {
  type Client,
  type ExceptionName,
  type Server,
  type Stat,
  type WatchEvent,
  type ZookeeperException,
} from "node-zookeeper-client";

/** The server rejected the operation: it did not happen. */
export class ZookeeperError extends Error {
  override readonly name = "ZookeeperError";
  readonly code: ExceptionName;

  constructor(code: ExceptionName, message: string, cause: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

export interface Node {
  readonly data: string;
  readonly version: number;
  /** Changes whenever the node is created or written. */
  readonly revision: string;
  /** The session that owns an ephemeral node. */
  readonly owner: string;
}

/**
 * - `connecting`: no server has answered yet.
 * - `connected` ⇄ `suspended`: meanwhile the session and its nodes continue.
 * - `ended`: expired, or closed by this program; final.
 */
export type SessionState = "connecting" | "connected" | "suspended" | "ended";

export interface SessionOptions {
  /** `host:port` or `[::1]:port`; tried in random order. */
  readonly servers: readonly string[];
  readonly sessionMs: number;
  /** `user:password`; only their holder has access to the nodes created. */
  readonly credentials?: string | undefined;
  readonly log: Logger;
  readonly onState: (state: SessionState) => void;
  /** A server could be reached and ended the connection without answering the handshake. */
  readonly onRefused: () => void;
}

type Watcher = (event: WatchEvent) => void;

const connectionStates = { disconnected: 0, connected: 2, expired: -3, authenticationFailed: -4 };
const opcodes = { delete: 2, sync: 9 };

export class ZookeeperSession {
  readonly #client: Client;
  readonly #options: SessionOptions;
  readonly #acl: readonly unknown[];
  /** Ends the session's timers: heartbeats, pauses. */
  readonly #end = new AbortController();
  #state: SessionState = "connecting";
  #closing = false;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #tries = 0;
  readonly #proof = new SessionProof();
  #connectSentAt = -Infinity;
  #connectedAt = -Infinity;
  #handshaking = false;
  #heardAt = -Infinity;
  #proofs = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    const { servers, sessionMs, credentials } = options;
    this.#client = zookeeper.createClient("unused", { sessionTimeout: sessionMs, retries: 0 });
    // Set directly, because the client would split an IPv6 address at its colons.
    this.#client.connectionManager.servers = inRandomOrder(servers.map(serverOf));
    this.#acl = credentials === undefined
      ? zookeeper.ACL.OPEN_ACL_UNSAFE
      : zookeeper.ACL.CREATOR_ALL_ACL;
    if (credentials !== undefined) {
      this.#client.addAuthInfo("digest", Buffer.from(credentials));
    }
    this.#guardClient();
    this.#client.connect();
  }

  get state(): SessionState {
    return this.#state;
  }

  /** As granted by the server. */
  get timeoutMs(): number {
    return this.#client.getSessionTimeout();
  }

  /** As in {@linkcode Node.owner}. */
  get id(): string {
    return this.#client.getSessionId().toString("hex");
  }

  /**
   * The newest change to ZooKeeper's data that this session has seen: hexadecimal, so that text order is time order.
   */
  get zxid(): string {
    return this.#client.connectionManager.zxid.toString("hex");
  }

  /** When the present or last connection was made, on the clock of `performance.now()`. */
  get connectedAt(): number {
    return this.#connectedAt;
  }

  /** When the last answered request was sent, on the clock of `performance.now()`. */
  get heardAt(): number {
    return this.#heardAt;
  }

  /**
   * Until this time, on the clock of `performance.now()`, no server can have ended the session. It advances with every
   * {@linkcode barrier}, and by itself while {@linkcode prove} is in use.
   */
  validUntil(): number {
    if (this.#state === "ended" || this.#closing) return -Infinity;
    return this.#proof.validUntil(this.timeoutMs);
  }

  /** While a result is not disposed, the quorum answers the heartbeats, so that {@linkcode validUntil} advances. */
  prove(): Disposable {
    this.#proofs++;
    return { [Symbol.dispose]: () => void this.#proofs-- };
  }

  async create(path: string, data: string, kind: "persistent" | "ephemeral"): Promise<void> {
    const mode = kind === "ephemeral"
      ? zookeeper.CreateMode.EPHEMERAL
      : zookeeper.CreateMode.PERSISTENT;
    await this.#ask<void>(`create ${path}`, (done) => {
      this.#client.create(path, Buffer.from(data), this.#acl, mode, done);
    });
  }

  /** Creates the node, and the nodes above it when missing. */
  async createIn(path: string, data: string, kind: "persistent" | "ephemeral"): Promise<void> {
    try {
      await this.create(path, data, kind);
    } catch (error) {
      unless("NO_NODE")(error);
      await this.createPath(path.slice(0, path.lastIndexOf("/")));
      await this.create(path, data, kind);
    }
  }

  /** Creates a path of persistent nodes, as far as they are missing. */
  async createPath(path: string): Promise<void> {
    for (let end = path.indexOf("/", 1);; end = path.indexOf("/", end + 1)) {
      const part = end < 0 ? path : path.slice(0, end);
      // A session without access to an upper node may still own a lower one.
      const missing = this.create(part, "", "persistent").catch(unless("NODE_EXISTS"));
      if (end < 0) return await missing;
      await missing.catch(unless("NO_AUTH"));
    }
  }

  async remove(path: string, version: number): Promise<void> {
    await this.#ask<void>(`remove ${path}`, (done) => this.#client.remove(path, version, done));
  }

  /** Resolves to the new version. */
  async write(path: string, data: string, version: number): Promise<number> {
    const stat = await this.#ask<Stat>(`write ${path}`, (done) => {
      this.#client.setData(path, Buffer.from(data), version, done);
    });
    return stat.version;
  }

  /** Empties the node. Resolves to the time of the write, Unix milliseconds on the leader's clock. */
  async touch(path: string): Promise<number> {
    const stat = await this.#ask<Stat>(`write ${path}`, (done) => {
      this.#client.setData(path, Buffer.alloc(0), -1, done);
    });
    return Number(stat.mtime.readBigInt64BE());
  }

  /** A watcher is kept once per path. It is called once, when the node changes or is removed. */
  async read(path: string, watcher?: Watcher): Promise<Node | undefined> {
    const read = this.#ask<Node>(`read ${path}`, (done) => {
      this.#client.getData(path, watcher, (error, data, stat) => {
        done(
          error,
          error ? undefined : {
            data: data?.toString() ?? "",
            version: stat.version,
            revision: stat.czxid.toString("hex") + stat.mzxid.toString("hex"),
            owner: stat.ephemeralOwner.toString("hex"),
          },
        );
      });
    });
    return await read.catch(unless("NO_NODE"));
  }

  /** Watches as {@linkcode read} does. */
  async children(path: string, watcher: Watcher): Promise<string[]> {
    return await this.#ask<string[]>(`list ${path}`, (done) => {
      this.#client.getChildren(path, watcher, done);
    });
  }

  /**
   * Resolves when the quorum has answered: what is read afterwards is no older than this call, and {@linkcode
   * validUntil} is as late as possible. The client has no sync. A transaction that checks that `/` exists is stronger,
   * since a leader that was deposed cannot commit it.
   */
  async barrier(): Promise<void> {
    const sentAt = performance.now();
    await this.#ask<void>("reach the quorum", (done) => {
      this.#client.transaction().check("/").commit(done);
    }).catch(unless("NO_AUTH"));
    this.#proof.confirm(sentAt);
    this.#contact(sentAt);
  }

  /**
   * Ends the session and its ephemeral nodes, at once if a server can still be reached. Waits for the answer at most
   * `limitMs`.
   */
  async close(limitMs = this.timeoutMs / 3): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#watchdog);
    if (this.#state === "connected") {
      const { connectionManager } = this.#client;
      const closed = Promise.withResolvers<void>();
      connectionManager.on("state", (state: number) => {
        if (state === connectionStates.disconnected) closed.resolve();
      });
      this.#client.close();
      await within(closed.promise, limitMs);
    }
    this.#finish();
  }

  /** Adds timeouts and error handling to the client's connection manager. */
  #guardClient(): void {
    const { connectionManager } = this.#client;
    const { onSocketConnected, onSocketData } = connectionManager;

    connectionManager.findNextServer = (use) => {
      const { servers } = connectionManager;
      const pauseMs = this.#tries > 0 && this.#tries % servers.length === 0
        ? 50 + 150 * Math.random()
        : 0;
      const server = servers[this.#tries++ % servers.length] as Server;
      this.#arm(pauseMs, () => {
        if (!this.#end.signal.aborted) use(server);
      });
    };
    connectionManager.onSocketConnected = () => {
      this.#connectSentAt = performance.now();
      this.#handshaking = true;
      this.#arm(this.timeoutMs / 3, () => this.#drop("it accepts connections and does not answer"));
      onSocketConnected.call(connectionManager);
    };
    connectionManager.onSocketData = (chunk) => {
      try {
        onSocketData.call(connectionManager, chunk);
      } catch (error) {
        this.#drop(`it sent what is not understood: ${error}`);
      }
    };
    connectionManager.on("state", (state: number) => this.#onConnection(state));
  }

  #onConnection(state: number): void {
    const { connectionManager } = this.#client;
    switch (state) {
      case connectionStates.connected:
        this.#tries = 0;
        this.#handshaking = false;
        this.#connectedAt = performance.now();
        this.#heardAt = this.#connectSentAt;
        this.#proof.handshake(this.#connectSentAt, performance.now());
        this.#arm(0, () => this.#beat());
        this.#setState("connected");
        break;
      case connectionStates.disconnected: {
        clearTimeout(this.#watchdog);
        if (connectionManager.connectTimeoutHandler !== null) {
          clearTimeout(connectionManager.connectTimeoutHandler);
        }
        connectionManager.pendingBuffer = null;
        this.#proof.disconnected();
        // Unsent packets would be sent after a reconnect, when their callers have given up.
        for (let packet; (packet = connectionManager.packetQueue.shift()) !== undefined;) {
          packet.callback(zookeeper.Exception.create(zookeeper.Exception.CONNECTION_LOSS));
        }
        if (this.#state === "connected" && !this.#closing) this.#setState("suspended");
        if (this.#handshaking && !this.#end.signal.aborted) this.#options.onRefused();
        this.#handshaking = false;
        break;
      }
      case connectionStates.expired:
        this.#options.log.warn(
          performance.now() - this.#heardAt < 0.9 * this.timeoutMs
            ? "ZooKeeper has lost data: it does not know session {id}, which has not expired. It came back empty or " +
              "from a backup, or another one answers; everything is registered again"
            : "The ZooKeeper session {id} has expired",
          { id: this.id },
        );
        this.#finish();
        break;
      case connectionStates.authenticationFailed:
        this.#options.log.error("ZooKeeper does not accept the credentials");
        // As if it was never accepted, so that the next session, which would fail the same way, is not opened at once.
        this.#heardAt = -Infinity;
        this.#finish();
        break;
    }
  }

  /**
   * Six heartbeats in a session's timeout keep the session. If one is not answered for a third of it, the server is
   * left.
   */
  async #beat(): Promise<void> {
    try {
      if (this.#proofs > 0) await this.barrier();
      else await this.#sync();
      this.#arm(this.timeoutMs / 6, () => this.#beat());
    } catch (error) {
      this.#drop(String(error));
    }
  }

  /**
   * A round trip to the leader without a write. The client cannot parse the answer to a sync, but it can parse the
   * answer to a delete, which has no body: so the packet is sent as a sync and handled as a delete.
   */
  async #sync(): Promise<void> {
    const sentAt = performance.now();
    const header = { type: opcodes.delete, xid: 0 };
    const toBuffer = () => {
      const bytes = Buffer.alloc(17);
      for (const [index, int] of [13, header.xid, opcodes.sync, 1].entries()) {
        bytes.writeInt32BE(int, 4 * index);
      }
      bytes.write("/", 16);
      return bytes;
    };
    await this.#ask<void>("reach the leader", (done) => {
      this.#client.connectionManager.queue({ header, payload: null, toBuffer }, done);
    });
    this.#contact(sentAt);
  }

  #contact(sentAt: number): void {
    this.#heardAt = sentAt;
    this.#proof.contact(sentAt, performance.now(), this.timeoutMs);
  }

  /** Settles within a third of the session's timeout; a server that has not answered by then is left. */
  #ask<T>(
    what: string,
    send: (done: (error: ZookeeperException | null | undefined, result?: T) => void) => void,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    if (this.#state !== "connected" || this.#closing) {
      return Promise.reject(
        new RegistryUnavailableError(`Cannot ${what}: ZooKeeper is ${this.#state}`),
      );
    }
    const timer = setTimeout(() => {
      reject(new RegistryUnavailableError(`Cannot ${what}: ZooKeeper does not answer`));
      this.#drop(`no answer to: ${what}`);
    }, this.timeoutMs / 3);
    try {
      send((error, result) => {
        clearTimeout(timer);
        if (error) reject(explain(what, error));
        else resolve(result as T);
      });
    } catch (error) {
      clearTimeout(timer);
      reject(error);
    }
    return promise;
  }

  /** Leaves the server; the client then tries the next one by itself. */
  #drop(reason: string): void {
    const { socket } = this.#client.connectionManager;
    if (this.#end.signal.aborted || socket === undefined || socket.destroyed) return;
    this.#handshaking = false;
    const server = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#options.log.warn("Leaving the ZooKeeper server {server}: {reason}", { server, reason });
    socket.destroy();
  }

  /** There is only one timer: the pause before an attempt, the handshake, or the next heartbeat. */
  #arm(delayMs: number, action: () => void): void {
    clearTimeout(this.#watchdog);
    if (!this.#end.signal.aborted) this.#watchdog = setTimeout(action, delayMs);
  }

  #finish(): void {
    if (this.#end.signal.aborted) return;
    this.#end.abort();
    clearTimeout(this.#watchdog);
    this.#client.connectionManager.socket?.destroy();
    this.#setState("ended");
  }

  #setState(state: SessionState): void {
    this.#state = state;
    this.#options.onState(state);
  }
}

function serverOf(address: string): Server {
  const server = parseHostAndPort(address);
  if (server === undefined) throw new TypeError(`not the address of a server: ${address}`);
  return server;
}

function inRandomOrder<T>(items: readonly T[]): T[] {
  return items.map((item) => ({ item, rank: Math.random() }))
    .sort((a, b) => a.rank - b.rank).map(({ item }) => item);
}

function explain(what: string, error: ZookeeperException): Error {
  const { Exception } = zookeeper;
  if (error.code === Exception.CONNECTION_LOSS || error.code === Exception.SESSION_EXPIRED) {
    return new RegistryUnavailableError(`Cannot ${what}: ${error.message}`, { cause: error });
  }
  const hint = error.code === Exception.NO_AUTH
    ? "; it belongs to other credentials (zookeeper.acl, GRU_ZOOKEEPER_CREDENTIALS)"
    : "";
  return new ZookeeperError(
    error.name as ExceptionName,
    `Cannot ${what}: ${error.message}${hint}`,
    error,
  );
}

/** For `catch`: treats this rejection as success. */
export function unless(code: ExceptionName): (error: unknown) => undefined {
  return (error) => {
    if (!(error instanceof ZookeeperError && error.code === code)) throw error;
  };
}
