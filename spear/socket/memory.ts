/**
 * What Engine.IO, ws and node:net keep for each connection and a spear never asks for again: more than half of the
 * heap of a client that is authenticated and in a group.
 */
import type { EventEmitter } from "node:events";
import type { EngineSocket } from "./engine_io.ts";

interface WebSocketTransport extends EventEmitter {
  readonly socket?: EventEmitter & {
    readonly _socket: EventEmitter;
    readonly _receiver: EventEmitter | undefined;
  };
}

/** For a socket of Engine.IO that has all its listeners. */
export function slim(conn: EngineSocket): void {
  pack(conn);
  if (conn.transport.name === "websocket") slimTransport(conn);
  else conn.once("upgrade", () => slimTransport(conn));
}

/** A WebSocket needs its request no more; polling still sends headers. */
function slimTransport(conn: EngineSocket): void {
  const transport: WebSocketTransport = conn.transport as unknown as WebSocketTransport;
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
