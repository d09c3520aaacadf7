/**
 * The connections between simulated clients and a spear. Engine.IO's own code runs on the server's side, with both transports and
 * the upgrade between them; below it, in place of HTTP and WebSocket, are pipes that delay, fill up and break.
 */
import { Buffer } from "node:buffer";
import { EventEmitter } from "node:events";
import process from "node:process";
import { Socket as EngineSocket, transports } from "engine.io";
import { SocketConnection } from "../../spear/socket/connection.ts";
import {
  endPolling,
  type EngineSocket as SpearSocket,
  lastWordsMs,
  ping,
} from "../../spear/socket/engine_io.ts";
import { type GatewayOptions, OpenConnections } from "../../spear/socket/gateway.ts";
import { Heartbeat } from "../../spear/socket/heartbeat.ts";
import { webSocketFrame } from "../../spear/packets.ts";
import type { Session } from "../../spear/session/session.ts";
import type { Actor, VirtualTime } from "./sim_time.ts";

/** What the kernel takes for a client that does not read. */
const kernelBytes = 4000;
export type Item = Buffer | { readonly code: number; readonly reason: string };

/** A server's end of a WebSocket's TCP connection. */
export class SimTcp extends EventEmitter {
  /** The client does not read. */
  stalled = false;
  destroyed = false;
  readonly #send: (item: Item) => void;
  readonly #queue: { readonly item: Item; readonly written: (() => void) | undefined }[] = [];
  #kernel = 0;
  #queued = 0;

  constructor(send: (item: Item) => void) {
    super();
    this.#send = send;
  }

  get writableLength(): number {
    return this.#queued;
  }

  get writable(): boolean {
    return !this.destroyed;
  }

  write(item: Item, written?: () => void): boolean {
    if (this.destroyed) return false;
    const bytes = item instanceof Buffer ? item.length : 0;
    if (this.stalled && (this.#queue.length > 0 || this.#kernel + bytes > kernelBytes)) {
      this.#queue.push({ item, written });
      this.#queued += bytes;
      return false;
    }
    if (this.stalled) this.#kernel += bytes;
    this.#send(item);
    if (written !== undefined) process.nextTick(written);
    return true;
  }

  /** The client reads again. */
  resume(): void {
    this.stalled = false;
    this.#kernel = 0;
    this.#queued = 0;
    if (this.#queue.length === 0) return;
    for (const { item, written } of this.#queue.splice(0)) {
      this.#send(item);
      written?.();
    }
    this.emit("drain");
  }
}

/** A server's end of a WebSocket: what Engine.IO and spear use of ws. */
export class SimWebSocket extends EventEmitter {
  readonly _socket: SimTcp;
  readonly _sender = {
    sendFrame: (list: readonly Buffer[], written?: () => void) =>
      this._socket.write(list.length === 1 ? list[0] as Buffer : Buffer.concat(list), written),
  };
  #closing: ReturnType<typeof setTimeout> | undefined;
  /** Reads nothing for a while. */
  #resting: ReturnType<typeof setTimeout> | undefined;
  readonly #unread: string[] = [];

  constructor(tcp: SimTcp) {
    super();
    this._socket = tcp;
  }

  send(data: string, written?: () => void): void {
    this._socket.write(webSocketFrame(String(data)), written);
  }

  close(code = 1005, reason = ""): void {
    if (this.#closing !== undefined || this._socket.destroyed) return;
    this._socket.write({ code, reason });
    this.#closing = setTimeout(() => this.terminate(), lastWordsMs);
  }

  /** One that is being closed is not read any more. */
  receive(data: string): void {
    if (this.#resting !== undefined) this.#unread.push(data);
    else if (this.#closing === undefined && !this._socket.destroyed) {
      this.emit("message", data, false);
    }
  }

  rest(ms: number): void {
    if (this.#closing !== undefined || this._socket.destroyed) return;
    this.#resting ??= setTimeout(() => {
      this.#resting = undefined;
      for (const data of this.#unread.splice(0)) this.receive(data);
    }, ms);
  }

  terminate(): void {
    if (this._socket.destroyed) return;
    this._socket.destroyed = true;
    clearTimeout(this.#closing);
    clearTimeout(this.#resting);
    process.nextTick(() => this.emit("close"));
  }
}

/** A request of HTTP as Engine.IO sees it. */
export class SimRequest extends EventEmitter {
  readonly _query: Record<string, string>;
  readonly headers = {};
  readonly connection = { remoteAddress: "simulated" };
  readonly method: string;
  readonly url: string;
  res: object | null = null;
  websocket: SimWebSocket | undefined;
  cleanup = () => {};

  constructor(method: string, transport: string, sid?: string) {
    super();
    this.method = method;
    this._query = { EIO: "4", transport, ...(sid === undefined ? {} : { sid }) };
    this.url = `/socket.io/?EIO=4&transport=${transport}${sid === undefined ? "" : `&sid=${sid}`}`;
  }

  setEncoding(): void {}
  destroy(): void {}
}

/** An answer of HTTP, until the client has it. */
export class SimResponse extends EventEmitter {
  writableEnded = false;
  readonly writableLength = 0;
  readonly req = {
    socket: {
      destroyed: false,
      destroy: () => {
        this.req.socket.destroyed = true;
        this.emit("close");
      },
    },
  };
  readonly #sent: (data: string) => void;

  constructor(sent: (data: string) => void) {
    super();
    this.#sent = sent;
  }

  writeHead(): this {
    return this;
  }

  end(data?: string): void {
    this.writableEnded = true;
    this.#sent(String(data ?? ""));
  }
}

/** The door of one spear for simulated clients. */
export class SimGateway implements AsyncDisposable {
  readonly port = 1;
  readonly actor: Actor;
  readonly time: VirtualTime;
  readonly #open: OpenConnections;
  readonly #heartbeat: Heartbeat;
  readonly #conns = new Map<string, EngineSocket>();
  readonly #options: GatewayOptions;
  #closed = false;
  #ids = 0;

  constructor(time: VirtualTime, actor: Actor, options: GatewayOptions) {
    this.time = time;
    this.actor = actor;
    this.#options = options;
    this.#open = new OpenConnections(options);
    const { pingInterval: intervalMs, pingTimeout: timeoutMs } = engineOptions;
    this.#heartbeat = new Heartbeat({ intervalMs, timeoutMs, ping });
  }

  get sessions(): ReadonlySet<Session> {
    return this.#open.sessions;
  }

  get connectionsPerUser(): number {
    return this.#options.session.limits.connectionsPerUser;
  }

  refuse(reason: string | undefined): void {
    this.#open.refuse(reason);
  }

  /** A handshake. @returns undefined when it is refused */
  accept(request: SimRequest): EngineSocket | undefined {
    if (this.#closed || this.#open.refusal(request) !== undefined) return undefined;
    const kind = request._query.transport === "polling" ? "polling" : "websocket";
    // deno-lint-ignore no-explicit-any
    const transport = new (transports as any)[kind](request);
    const maxHttpBufferSize = this.#options.payloadBytes;
    Object.assign(transport, { maxHttpBufferSize });
    const id = `c${++this.#ids}`;
    const server = Object.assign(new EventEmitter(), {
      opts: { ...engineOptions, maxHttpBufferSize },
      upgrades: () => ["websocket"],
    });
    // deno-lint-ignore no-explicit-any
    const conn = new EngineSocket(id, server as any, transport, request as any, 4);
    this.#conns.set(id, conn);
    conn.on("close", () => this.#conns.delete(id));
    const socket = conn as unknown as SpearSocket;
    const connection = new SocketConnection(socket, this.#options);
    this.#heartbeat.take(socket);
    this.#open.add(connection, request);
    return conn;
  }

  /** Connections that do not answer are not waited for: that is the transport's own matter. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    this.#open.stop();
    this.#heartbeat[Symbol.dispose]();
    const all = [...this.#conns.values()];
    for (const conn of all) conn.close(true);
    for (const conn of all) endPolling(conn as unknown as SpearSocket);
  }
}

export const engineOptions = {
  pingInterval: 25_000,
  pingTimeout: 20_000,
  upgradeTimeout: 10_000,
  transports: ["polling", "websocket"],
};
