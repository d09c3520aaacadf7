/**
 * What socket.io, Engine.IO, ws and node:net keep for each connection and a spear never asks for again: more than 5 of 9 KB of heap for
 * a client that is authenticated and in a group, measured with 3000 of them.
 */
import type { Buffer } from "node:buffer";
import { EventEmitter } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { type ServerOptions, WebSocket, WebSocketServer } from "ws";
import { CompactMap } from "./compact.ts";

/** In place of socket.io's rooms: a hub does their work, and each socket's room of its own costs two sets. */
export class NoRooms extends EventEmitter {
  init(): void {}
  close(): void {}
  addAll(): void {}
  del(): void {}
  delAll(): void {}
  socketRooms(): undefined {}
}

/** For Engine.IO's option `wsEngine`. */
export class LeanWebSocketServer extends WebSocketServer {
  constructor(options: ServerOptions) {
    super({ ...options, WebSocket: LeanWebSocket });
  }

  /** The answer to the upgrade leaves together with Engine.IO's first packet. */
  override handleUpgrade(
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
    callback: (client: WebSocket, request: IncomingMessage) => void,
  ): void {
    socket.cork();
    setImmediate(() => socket.uncork());
    super.handleUpgrade(request, socket, head, callback);
  }
}

class LeanWebSocket extends WebSocket {
  declare readonly _receiver: (EventEmitter & { _mask?: unknown }) | undefined;

  /** The mask of a message that has been read is a view of all the bytes it came with. */
  override emit(event: string, ...args: unknown[]): boolean {
    if (event === "message" && this._receiver !== undefined) this._receiver._mask = undefined;
    return super.emit(event, ...args);
  }
}

/**
 * For a request on its way through Engine.IO's checks. An upgrade has got a response by then, for middleware that waits for its
 * end, which the TCP socket would keep, and with it the request.
 */
export function forgetResponse(request: IncomingMessage): void {
  if (request.headers.upgrade === undefined) return;
  const last = request.socket.listeners("close").at(-1);
  if (last !== undefined) request.socket.off("close", last as () => void);
}

interface Transport extends EventEmitter {
  readonly name: string;
  readonly socket?: LeanWebSocket & { readonly _socket: EventEmitter };
}

interface Connected extends EventEmitter {
  readonly conn: EventEmitter & { readonly transport: Transport };
}

/** Of socket.io: all sockets on one connection, by their own ids and by namespace. */
interface Client {
  sockets: Iterable<[string, Connected]>;
  nsps: Iterable<[string, Connected]>;
  readonly decoder: { readonly _callbacks: Record<string, []> };
}

/** An event's last argument where its client wants an answer; in place of a function, as a spear writes the answer itself. */
export class Question {
  readonly id: number;

  constructor(id: number) {
    this.id = id;
  }
}

const ask = (id: number) => new Question(id);
/** For what socket.io offers programs on it. */
const nothing = Object.freeze({});
/** A spear asks no client for an acknowledgement. */
const noAcks = new Map();

/** For a socket that has all its listeners. */
export function slim(socket: Connected): void {
  const { conn } = socket;
  const { client } = socket as unknown as { client: Client };
  Object.assign(socket, {
    handshake: nothing,
    data: nothing,
    flags: nothing,
    acks: noAcks,
    ack: ask,
  });
  fit(socket, "_anyListeners");
  client.sockets = new CompactMap(client.sockets);
  client.nsps = new CompactMap(client.nsps);
  fit(client.decoder._callbacks, "$decoded");
  pack(socket);
  pack(conn);
  if (conn.transport.name === "websocket") slimTransport(conn);
  else conn.once("upgrade", () => slimTransport(conn));
}

/** A WebSocket needs its request no more; polling still sends headers. */
function slimTransport(conn: Connected["conn"]): void {
  const { transport } = conn;
  Object.assign(conn, { request: undefined });
  fit(conn, "cleanupFn");
  transport.removeAllListeners("headers");
  pack(transport);
  if (transport.socket === undefined) return;
  // Engine.IO's own, from before it had the transport to listen.
  const [first] = transport.socket.listeners("error");
  if (first?.name === "onUpgradeError") transport.socket.off("error", first as () => void);
  pack(transport.socket);
  if (transport.socket._receiver !== undefined) pack(transport.socket._receiver);
  // Its address, which is read from it again when asked for.
  Object.assign(transport.socket._socket, { _peername: undefined });
  pack(transport.socket._socket);
}

type Listener = ((...args: unknown[]) => void) & { readonly listener?: Listener };
type Listeners = Record<string, Listener | Listener[]>;

/** Inherits nothing: a client may name an event `constructor`. */
const Listeners = function () {} as unknown as new () => Listeners;
Listeners.prototype = Object.create(null);

/**
 * Listeners as an object with a shape that all connections share; made by adding and removing, it is a hash table. Those that wait
 * for an end once are without the wrapper that would remove them: after an end nothing comes any more.
 */
function pack(emitter: EventEmitter): void {
  const has = emitter as { _events?: Listeners };
  const packed = new Listeners();
  for (const name in has._events) {
    const listeners = has._events[name];
    if (listeners === undefined) continue;
    const kept = name === "close" || name === "error" ? unwrapped : same;
    packed[name] = Array.isArray(listeners) ? listeners.map(kept) : kept(listeners);
  }
  has._events = packed;
}

function unwrapped(listener: Listener): Listener {
  return listener.listener ?? listener;
}

function same(listener: Listener): Listener {
  return listener;
}

/** An array that has grown has room for 17. */
function fit(owner: object, key: string): void {
  const has = owner as Record<string, unknown[] | undefined>;
  has[key] = has[key]?.slice();
}
