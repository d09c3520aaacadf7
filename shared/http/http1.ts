/**
 * The HTTP/1.1 side of a port, with `node:http`, because `Deno.serve` (2.9) waits for ever for a slow request and has
 * no setting for it. It accepts the port's connections, and passes on those that speak HTTP/2.
 */
import { Buffer } from "node:buffer";
import { createServer, type IncomingMessage, type Server, ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import type { Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { getRequestListener, type HttpBindings, RequestError } from "@hono/node-server";
import { context, propagation } from "@opentelemetry/api";
import { refusal } from "./body.ts";
import { type Connection, type Connections, lastWordsMs } from "./connections.ts";
import type { HttpHandler, HttpLimits, TlsFiles, Upgrade } from "./options.ts";

export interface Http1Options {
  readonly handler: HttpHandler;
  readonly onError: (error: unknown) => Response;
  readonly tls: TlsFiles | undefined;
  readonly limits: HttpLimits;
  readonly connections: Connections;
  readonly upgrade: Upgrade | undefined;
  /** Receives connections that speak HTTP/2; undefined: HTTP/2 is not served. */
  readonly http2: ((socket: Socket) => void) | undefined;
}

/** Methods that a `Request` cannot have. */
const forbiddenMethods = new Set(["CONNECT", "TRACE", "TRACK"]);
/** An HTTP/2 connection begins with this; no method of HTTP/1.1 does. */
const preface = "PRI ";
/** `URL` would remove such a segment, and the request would then be a different one. */
const dotSegment = /(^|\/)(\.|%2e){1,2}(\/|$)/i;

/** The host for a request of HTTP/1.0 without `Host`, as load balancers' probes send it; no browser does. */
const thisMachine = "localhost";

/** Not listening yet. */
export function http1Server(options: Http1Options): Server {
  const { handler, tls, limits, connections, http2 } = options;

  function errorHandler(error: unknown): Response {
    return error instanceof RequestError
      ? new Response(null, { status: 400 })
      : options.onError(error);
  }

  /** What asked for another protocol and does not get it. */
  const refusals = new WeakMap<IncomingMessage, Response>();
  const answer = getRequestListener((request, bindings) => {
    const { incoming } = bindings as HttpBindings;
    const { url = "" } = incoming;
    const refused = refusals.get(incoming);
    if (refused !== undefined) return refused;
    const { remoteAddress = "", remotePort = 0 } = (bindings as HttpBindings).incoming.socket;
    if (forbiddenMethods.has(request.method)) return new Response(null, { status: 405 });
    if (dotSegment.test(url.split(/[?#]/, 1)[0] ?? "")) {
      return refusal(400, "invalid_argument", "the path: has a segment . or ..; expected none");
    }
    return inTraceOf(request, () =>
      handler(genuine(request), {
        remoteAddr: { transport: "tcp", hostname: remoteAddress, port: remotePort },
      }));
  }, {
    overrideGlobalObjects: false,
    autoCleanupIncoming: false,
    errorHandler,
    hostname: thisMachine,
  });
  /** Connections that speak HTTP/1.1. Looking one up by its name costs more, and happens for each request. */
  const bySocket = new WeakMap<Socket, Connection>();
  /** Since when an answer is complete and not yet taken by the client, by connection. */
  const unread = new WeakMap<Connection, number>();

  function listener(incoming: IncomingMessage, outgoing: ServerResponse): void {
    const connection = bySocket.get(incoming.socket);
    if (connection === undefined) return void incoming.socket.destroy();
    connections.began(connection);
    outgoing.once("close", () => {
      unread.delete(connection);
      connections.ended(connection);
    });
    outgoing.once("prefinish", () => unread.set(connection, connections.now));
    cutOffLongTail(incoming, outgoing);
    void answer(incoming, outgoing);
  }

  /** Those that stay are answered on a connection that ends then: the server has let go of it. */
  function onUpgrade(incoming: IncomingMessage, socket: Socket, upgrade: Upgrade): void {
    const connection = bySocket.get(socket);
    if (connection === undefined) return void socket.destroy();
    const { url = "", headers } = incoming;
    const whole = `http://${headers.host ?? thisMachine}${url}`;
    const isAsked = headers.upgrade?.toLowerCase() === upgrade.protocol;
    if (isAsked && URL.canParse(whole) && url.startsWith("/") && !dotSegment.test(url)) {
      const given = Object.entries(headers).map(([name, value]) => [name, String(value)]);
      const taken = upgrade.take(new Request(whole, { headers: given as [string, string][] }));
      if (!(taken instanceof Response)) {
        return leaveHttp(connection, connections, limits, upgrade.protocol, taken);
      }
      refusals.set(incoming, taken);
    }
    const outgoing = new ServerResponse(incoming);
    outgoing.shouldKeepAlive = false;
    outgoing.assignSocket(socket);
    outgoing.once("finish", () => {
      outgoing.detachSocket(socket);
      socket.end();
    });
    listener(incoming, outgoing);
  }

  const settings = {
    headersTimeout: limits.headersMs,
    requestTimeout: limits.requestMs,
    keepAliveTimeout: limits.keepAliveMs,
    maxHeaderSize: limits.headerBytes,
    connectionsCheckingInterval: Math.min(limits.headersMs, 1000),
  };
  const server = tls === undefined ? createServer(settings, listener) : createTlsServer({
    ...settings,
    cert: tls.cert,
    key: tls.key,
    ...(tls.ca === undefined ? {} : { ca: tls.ca, requestCert: true, rejectUnauthorized: true }),
    minVersion: "TLSv1.2",
    ALPNProtocols: http2 === undefined ? ["http/1.1"] : ["h2", "http/1.1"],
    handshakeTimeout: limits.headersMs,
  }, listener);
  // A failed handshake is the client's problem.
  server.on("tlsClientError", () => {});

  const { upgrade } = options;
  if (upgrade !== undefined) {
    server.on(
      "upgrade",
      (incoming: IncomingMessage, socket: Socket) => onUpgrade(incoming, socket, upgrade),
    );
  }

  // Runs before the server's own listener, which would start to read.
  const event = tls === undefined ? "connection" : "secureConnection";
  const [serve] = server.listeners(event);
  if (serve === undefined) throw new Error(`node:http: nobody listens for ${event}`);
  const http1 = (socket: Socket): void => {
    const connection = connections.of(socket);
    if (connection === undefined) return void socket.destroy();
    bySocket.set(socket, connection);
    // The server itself limits slow requests; this limits slow readers.
    connection.isOverdue = (now) => now - (unread.get(connection) ?? now) > limits.requestMs;
    serve.call(server, socket);
  };
  server.removeAllListeners(event);
  if (tls === undefined) {
    server.on("connection", (socket: Socket) => {
      if (connections.accept(socket) === undefined) return;
      if (http2 === undefined) http1(socket);
      else tellApart(socket, http1, http2);
    });
  } else {
    server.prependListener("connection", (socket: Socket) => void connections.accept(socket));
    server.on("secureConnection", (socket: TLSSocket) => {
      const connection = connections.of(socket);
      if (connection === undefined) return void socket.destroy();
      connection.socket = socket;
      socket.on("error", () => socket.destroy());
      if (http2 !== undefined && socket.alpnProtocol === "h2") http2(socket);
      else http1(socket);
    });
  }
  return server;
}

function leaveHttp(
  connection: Connection,
  connections: Connections,
  { keepAliveMs }: HttpLimits,
  protocol: string,
  { headers, use }: Exclude<ReturnType<Upgrade["take"]>, Response>,
): void {
  const { socket } = connection;
  const fields = { connection: "Upgrade", upgrade: protocol, ...headers };
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.write(`HTTP/1.1 101 Switching Protocols\r\n${lines.join("")}\r\n`);
  let quietSince = connections.now;
  connection.isOverdue = (now) => connection.underWay === 0 && now - quietSince > keepAliveMs;
  use({
    socket,
    began: () => connections.began(connection),
    ended: () => {
      quietSince = connections.now;
      connections.ended(connection);
    },
  });
}

/** With OpenTelemetry, Deno does this for `Deno.serve`; for `node:http` (2.9) it only makes the request's own span. */
function inTraceOf<T>({ headers }: Request, act: () => T): T {
  const traceparent = headers.get("traceparent");
  if (traceparent === null) return act();
  const carrier = { traceparent, tracestate: headers.get("tracestate") ?? "" };
  return context.with(propagation.extract(context.active(), carrier), act);
}

/**
 * The adapter's requests only look like a `Request` and cannot be copied into another, as middleware that reads the
 * body does. Copied only for requests with a body: a copy takes a tenth of the time of a ticket.
 */
function genuine(request: Request): Request {
  if (request.method === "GET" || request.method === "HEAD") return request;
  const { url, method, headers, signal, body } = request;
  return new Request(url, { method, headers, signal, body, duplex: "half" } as RequestInit);
}

/** A client that has its answer and keeps sending would go on until its time is over, because nobody reads it. */
function cutOffLongTail(incoming: IncomingMessage, outgoing: ServerResponse): void {
  // A request whose connection has ended may have no socket any more.
  const { socket } = incoming;
  outgoing.once("finish", () => {
    if (incoming.complete || socket.destroyed) return;
    const timer = setTimeout(() => socket.destroy(), lastWordsMs);
    socket.once("close", () => clearTimeout(timer));
  });
}

/** Decides by the first bytes, which the chosen side reads again. */
function tellApart(
  socket: Socket,
  http1: (socket: Socket) => void,
  http2: (socket: Socket) => void,
): void {
  let begin = "";
  function onReadable(): void {
    for (let chunk; (chunk = socket.read(1)) !== null;) {
      begin += chunk.toString("latin1");
      if (begin.length < preface.length && preface.startsWith(begin)) continue;
      socket.off("readable", onReadable);
      socket.unshift(Buffer.from(begin, "latin1"));
      return begin === preface ? http2(socket) : http1(socket);
    }
  }
  socket.on("readable", onReadable);
}
