/**
 * One ZooKeeper session, from its first connection to its end, over node-zookeeper-client. That client waits
 * for ever where a server is silent, sends old requests late and throws out of its socket's events; here every
 * operation ends in time, a silent server is left for the next one, and nothing is sent after a disconnect that was
 * asked for before it.
 */
import { Buffer } from "node:buffer";
import type { Logger } from "./log.ts";
import { RegistryUnavailableError } from "./registry.ts";
import { SessionProof } from "./zookeeper_proof.ts";
// @ts-types="./zookeeper_client.d.ts"
import zookeeper, {
  type Client,
  type ExceptionName,
  type Server,
  type Stat,
  type WatchEvent,
  type ZookeeperException,
} from "node-zookeeper-client";

/** The server's refusal: the operation did not happen. */
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
  /** Changes whenever the node is made or written. */
  readonly revision: string;
  /** The session of an ephemeral node. */
  readonly owner: string;
}

/**
 * - `connecting`: no server has answered yet.
 * - `connected` ⇄ `suspended`: between them the session goes on and so do its nodes.
 * - `ended`: expired, or closed by us; for good.
 */
export type SessionState = "connecting" | "connected" | "suspended" | "ended";

export interface SessionOptions {
  /** `host:port`; tried in random order. */
  readonly servers: readonly string[];
  readonly sessionMs: number;
  /** `user:password`; nodes made are for their holder alone. */
  readonly credentials?: string | undefined;
  readonly log: Logger;
  readonly onState: (state: SessionState) => void;
}

type Watcher = (event: WatchEvent) => void;

const connectionStates = { disconnected: 0, connected: 2, expired: -3, authenticationFailed: -4 };
const opcodes = { delete: 2, sync: 9 };

export class ZookeeperSession {
  readonly #client: Client;
  readonly #options: SessionOptions;
  readonly #acl: readonly unknown[];
  /** Ends what the session has waiting: heartbeats, pauses. */
  readonly #end = new AbortController();
  #state: SessionState = "connecting";
  #closing = false;
  #watchdog: ReturnType<typeof setTimeout> | undefined;
  #tries = 0;
  readonly #proof = new SessionProof();
  #connectSentAt = -Infinity;
  #heardAt = -Infinity;
  #proofs = 0;

  constructor(options: SessionOptions) {
    this.#options = options;
    const { servers, sessionMs, credentials } = options;
    this.#client = zookeeper.createClient(servers.join(","), {
      sessionTimeout: sessionMs,
      retries: 0,
    });
    this.#acl = credentials === undefined
      ? zookeeper.ACL.OPEN_ACL_UNSAFE
      : zookeeper.ACL.CREATOR_ALL_ACL;
    if (credentials !== undefined) {
      this.#client.addAuthInfo("digest", Buffer.from(credentials));
    }
    this.#tame();
    this.#client.connect();
  }

  get state(): SessionState {
    return this.#state;
  }

  /** As the server granted it. */
  get timeoutMs(): number {
    return this.#client.getSessionTimeout();
  }

  /** As in {@linkcode Node.owner}. */
  get id(): string {
    return this.#client.getSessionId().toString("hex");
  }

  /** When a request that was answered was sent last, on the clock of `performance.now()`. */
  get heardAt(): number {
    return this.#heardAt;
  }

  /**
   * Until this moment, on the clock of `performance.now()`, no server can have ended the session. Moves on with every
   * {@linkcode barrier}, and by itself while one asked it to {@linkcode prove} itself.
   */
  validUntil(): number {
    if (this.#state === "ended" || this.#closing) return -Infinity;
    return this.#proof.validUntil(this.timeoutMs);
  }

  /** While any is undisposed, heartbeats are answered by the quorum and move {@linkcode validUntil} on. */
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

  /** Creates, and the nodes above when missing. */
  async createIn(path: string, data: string, kind: "persistent" | "ephemeral"): Promise<void> {
    try {
      await this.create(path, data, kind);
    } catch (error) {
      unless("NO_NODE")(error);
      await this.createPath(path.slice(0, path.lastIndexOf("/")));
      await this.create(path, data, kind);
    }
  }

  /** Makes a path of persistent nodes, as far as they are missing. */
  async createPath(path: string): Promise<void> {
    for (let end = path.indexOf("/", 1);; end = path.indexOf("/", end + 1)) {
      const part = end < 0 ? path : path.slice(0, end);
      // Whoever may not write to an upper node may still own a lower one.
      const missing = this.create(part, "", "persistent").catch(unless("NODE_EXISTS"));
      if (end < 0) return await missing;
      await missing.catch(unless("NO_AUTH"));
    }
  }

  async remove(path: string, version: number): Promise<void> {
    await this.#ask<void>(`remove ${path}`, (done) => this.#client.remove(path, version, done));
  }

  /** Gives the new version. */
  async write(path: string, data: string, version: number): Promise<number> {
    const stat = await this.#ask<Stat>(`write ${path}`, (done) => {
      this.#client.setData(path, Buffer.from(data), version, done);
    });
    return stat.version;
  }

  /** The same watcher is kept once per path, and called once, when the node changes or goes. */
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
   * Resolves when the quorum has answered: what is read afterwards is no older than this call, and {@linkcode validUntil}
   * is as late as can be. The client has no sync; a transaction that checks that `/` exists is stronger,
   * since a leader that has been deposed cannot commit it.
   */
  async barrier(): Promise<void> {
    const sentAt = performance.now();
    await this.#ask<void>("reach the quorum", (done) => {
      this.#client.transaction().check("/").commit(done);
    }).catch(unless("NO_AUTH"));
    this.#proof.confirm(sentAt);
    this.#contact(sentAt);
  }

  /** Ends the session and with it its ephemeral nodes, at once where a server can still be reached. */
  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#watchdog);
    if (this.#state === "connected") {
      const { connectionManager } = this.#client;
      const closed = Promise.withResolvers<void>();
      connectionManager.on("state", (state: number) => {
        if (state === connectionStates.disconnected) closed.resolve();
      });
      const timer = setTimeout(closed.resolve, this.timeoutMs / 3);
      this.#client.close();
      await closed.promise;
      clearTimeout(timer);
    }
    this.#finish();
  }

  /** Puts bounds and nets around the client's connection manager. */
  #tame(): void {
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
        // What was not sent yet would be sent after a reconnect, when nobody waits for it any more.
        for (let packet; (packet = connectionManager.packetQueue.shift()) !== undefined;) {
          packet.callback(zookeeper.Exception.create(zookeeper.Exception.CONNECTION_LOSS));
        }
        if (this.#state === "connected" && !this.#closing) this.#setState("suspended");
        break;
      }
      case connectionStates.expired:
        this.#options.log.warn("The ZooKeeper session {id} has expired", { id: this.id });
        this.#finish();
        break;
      case connectionStates.authenticationFailed:
        this.#options.log.error("ZooKeeper does not accept the credentials");
        this.#finish();
        break;
    }
  }

  /** A session is kept by six heartbeats in its time; one unanswered for a third of it, and the server is left. */
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
   * A round trip to the leader without a write. The client cannot parse the answer to a sync, but it can that
   * to a delete, which has no body: so the request calls itself one and writes the other.
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

  /** Settles within a third of the session; a server that has not answered by then is left. */
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

  /** Leaves the server; the client then goes to the next one by itself. */
  #drop(reason: string): void {
    const { socket } = this.#client.connectionManager;
    if (this.#end.signal.aborted || socket === undefined || socket.destroyed) return;
    const server = `${socket.remoteAddress}:${socket.remotePort}`;
    this.#options.log.warn("Leaving the ZooKeeper server {server}: {reason}", { server, reason });
    socket.destroy();
  }

  /** Only one thing is waited for at any time: the pause before a try, the handshake, the next heartbeat. */
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

/** For `catch`: the named refusal is as good as success. */
export function unless(code: ExceptionName): (error: unknown) => undefined {
  return (error) => {
    if (!(error instanceof ZookeeperError && error.code === code)) throw error;
  };
}
