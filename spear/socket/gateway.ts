/**
 * The door for clients: socket.io, old protocol and new, on one port. HTTP and the handshakes are here; what a client
 * may do on its connection is in `connection.ts`. The only file that imports socket.io.
 */
import {
  createServer,
  type IncomingMessage,
  type Server as HttpServer,
  type ServerResponse,
} from "node:http";
import type { Duplex } from "node:stream";
import { CannotListenError } from "@gru/shared/http/serve";
import { Server } from "socket.io";
import { disconnects } from "../disconnects.ts";
import { connectionOn, SocketConnection, type SocketConnectionOptions } from "./connection.ts";
import {
  endPolling,
  type EngineSocket,
  lastWordsMs,
  LeanWebSocketServer,
  ping,
  serveOldPolling,
  setQuery,
  upgrade,
} from "./engine_io.ts";
import { Heartbeat, startNoPingTimers } from "./heartbeat.ts";
import { slim } from "./memory.ts";
import { OpenConnections, type OpenConnectionsOptions } from "./open_connections.ts";
import { originRefusal } from "./origins.ts";
import type { Session } from "../session/session.ts";

export { OpenConnections } from "./open_connections.ts";

export interface GatewayOptions extends SocketConnectionOptions, OpenConnectionsOptions {
  readonly host: string;
  readonly port: number;
  /** How long a connection without a request stays open. */
  readonly keepAliveMs: number;
  /** How long a connection is quiet before it is pinged, and how long it then has to answer. */
  readonly pingMs: number;
  readonly pingTimeoutMs: number;
  /** The web pages that may connect, e.g. `https://example.org`; `*`: all. Who names no origin is no browser. */
  readonly origins: readonly string[];
}

const path = "/socket.io/";

export class Gateway implements AsyncDisposable {
  readonly #options: GatewayOptions;
  readonly #open: OpenConnections;
  readonly #heartbeat: Heartbeat;
  readonly #engine: Server["engine"];
  readonly #http: HttpServer;
  /** TCP connections that have not asked for anything yet, and since when; the server's own timers do not see them. */
  readonly #silent = new Map<Duplex, number>();
  readonly #timer: ReturnType<typeof setInterval>;
  #port = 0;

  private constructor(options: GatewayOptions) {
    this.#options = options;
    const { authMs, pingMs: intervalMs, pingTimeoutMs: timeoutMs } = options;
    this.#heartbeat = new Heartbeat({ intervalMs, timeoutMs, ping });
    this.#open = new OpenConnections(options);
    this.#http = createServer({
      // Who speaks slowly is not waited for, be it before a WebSocket or on polling.
      headersTimeout: authMs,
      requestTimeout: 3 * authMs,
      connectionsCheckingInterval: Math.min(authMs, 1000),
      keepAliveTimeout: options.keepAliveMs,
    });
    this.#engine = this.#attach();
    this.#http.on("request", (request, response) => this.#request(request, response));
    this.#http.on("upgrade", (request, socket, head) => this.#upgrade(request, socket, head));
    this.#http.on("connection", (socket) => this.#silent.set(socket, performance.now()));
    this.#timer = setInterval(() => this.#endSilent(), Math.min(authMs, 1000));
  }

  /**
   * socket.io's server with its engine. Two things it would do are done here: requests are looked at before the engine gets
   * them, and a connection is a session from the handshake on, where socket.io's own clients join any number of namespaces later.
   */
  #attach(): Server["engine"] {
    const { origins, payloadBytes, pingMs, pingTimeoutMs } = this.#options;
    const { engine } = new Server(this.#http, {
      path,
      serveClient: false,
      allowEIO3: true,
      maxHttpBufferSize: payloadBytes,
      // Old browser clients send credentials, for which `*` does not do. There are no cookies to abuse.
      cors: { origin: origins.includes("*") ? true : [...origins], credentials: true },
      pingInterval: pingMs,
      pingTimeout: pingTimeoutMs,
      wsEngine: LeanWebSocketServer,
      // Asked in a handshake only.
      allowRequest: (request, answer) => {
        const refusal = this.#open.refusal(request);
        answer(refusal ?? null, refusal === undefined);
      },
    });
    for (const event of ["request", "upgrade"]) this.#http.removeAllListeners(event);
    engine.removeAllListeners("connection");
    startNoPingTimers();
    serveOldPolling(engine);
    engine.generateId = () => crypto.randomUUID();
    engine.on("connection", (socket: { readonly request: IncomingMessage }) => {
      const conn = socket as unknown as EngineSocket;
      const connection = new SocketConnection(conn, this.#options);
      this.#heartbeat.take(conn);
      this.#open.add(connection, socket.request);
      slim(conn);
    });
    return engine;
  }

  /** @throws {CannotListenError} */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const gateway = new Gateway(options);
    try {
      await gateway.#listen();
    } catch (error) {
      gateway.#stop();
      throw error;
    }
    return gateway;
  }

  get port(): number {
    return this.#port;
  }

  get sessions(): ReadonlySet<Session> {
    return this.#open.sessions;
  }

  /** From now on handshakes are refused, or with `undefined` no longer; those who are here stay. */
  refuse(reason: string | undefined): void {
    this.#open.refuse(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop();
    const closed = new Promise<void>((resolve) => this.#http.close(() => resolve()));
    this.#engine.close();
    this.#http.closeIdleConnections();
    const timer = setTimeout(() => this.#http.closeAllConnections(), lastWordsMs);
    await closed;
    clearTimeout(timer);
    for (const conn of Object.values(this.#clients)) endPolling(conn);
  }

  async #listen(): Promise<void> {
    const { host, port } = this.#options;
    const listening = Promise.withResolvers<void>();
    this.#http.once("error", (cause) => {
      listening.reject(new CannotListenError(host, port, cause));
    });
    this.#http.listen(port, host, () => listening.resolve());
    await listening.promise;
    const address = this.#http.address();
    this.#port = typeof address === "object" && address !== null ? address.port : port;
  }

  #endSilent(): void {
    for (const [socket, since] of this.#silent) {
      if (!socket.destroyed && performance.now() - since < this.#options.authMs) continue;
      this.#silent.delete(socket);
      socket.destroy();
    }
  }

  #stop(): void {
    clearInterval(this.#timer);
    this.#open.stop();
    this.#heartbeat[Symbol.dispose]();
  }

  #request(request: IncomingMessage, response: ServerResponse): void {
    this.#silent.delete(request.socket);
    cutOffLongTails(request, response);
    if (!request.url?.startsWith(path)) return welcome(request, response);
    const parameters = parametersOf(request);
    const { headers } = request;
    const refusal = originRefusal({ headers, parameters }, this.#options.origins);
    if (refusal !== undefined) return answer(response, 403, refusal);
    setQuery(request, parameters);
    const connection = this.#connectionOf(parameters);
    const pass = () => this.#engine.handleRequest(request as never, response);
    if (connection === undefined) return pass();
    if (request.method === "GET") {
      if (!connection.poll(response, pass)) answer(response, 400, "another poll waits already");
      return;
    }
    const length = Number(headers["content-length"] ?? 0);
    if (length <= connection.requestBytes) return pass();
    void this.#refusePayload(connection, request, response, length);
  }

  async #refusePayload(
    connection: SocketConnection,
    request: IncomingMessage,
    response: ServerResponse,
    length: number,
  ): Promise<void> {
    const { payloadBytes } = this.#options;
    const text = `a request of ${length} bytes was refused: at most ${payloadBytes}`;
    // A client that is about to read the answer is not cut off while it still sends.
    if (length < 10 * payloadBytes) request.resume();
    // python-socketio 4 takes a refused request for the end of everything.
    const isTold = await connection.refusePayload(text);
    if (isTold) answer(response, 200, "ok");
    else answer(response, 413, text);
    // Most clients end it themselves, some would go on.
    connection.close(disconnects.protocolError);
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Uint8Array): void {
    this.#silent.delete(socket);
    socket.on("error", ignore);
    const { headers } = request;
    const parameters = parametersOf(request);
    const refusal = request.url?.startsWith(path)
      ? originRefusal({ headers, parameters }, this.#options.origins)
      : "not found";
    if (refusal !== undefined) {
      socket.end(
        `HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: ${refusal.length}\r\n\r\n${refusal}`,
      );
      const timer = setTimeout(() => socket.destroy(), lastWordsMs);
      socket.once("close", () => clearTimeout(timer));
      return;
    }
    setQuery(request, parameters);
    upgrade(this.#engine, request, socket, head);
    socket.off("error", ignore);
  }

  #connectionOf({ sid = "" }: Readonly<Record<string, string>>): SocketConnection | undefined {
    return Object.hasOwn(this.#clients, sid) ? connectionOn(this.#clients[sid]) : undefined;
  }

  get #clients(): Record<string, EngineSocket> {
    return (this.#engine as unknown as { clients: Record<string, EngineSocket> }).clients;
  }
}

function ignore(): void {}

/** As Engine.IO reads them: of two with the same name the last counts. */
function parametersOf({ url = "" }: IncomingMessage): Record<string, string> {
  const [, query = ""] = /^[^?#]*\?([^#]*)/.exec(url) ?? [];
  return Object.fromEntries(new URLSearchParams(query));
}

/**
 * Who has its answer and goes on sending would do so for ever: nobody reads it, and no timer of the server counts
 * it.
 */
function cutOffLongTails(request: IncomingMessage, response: ServerResponse): void {
  response.once("finish", () => {
    if (request.complete) return;
    const timer = setTimeout(() => request.socket.destroy(), lastWordsMs);
    request.socket.once("close", () => clearTimeout(timer));
  });
}

function answer(response: ServerResponse, status: number, text: string): void {
  if (response.headersSent) return;
  response.writeHead(status, { "content-type": "text/plain" });
  response.end(`${text}\n`);
}

/** Engine.IO answers its own path; what comes here is a person or a probe. */
function welcome({ url = "" }: IncomingMessage, response: ServerResponse): void {
  if (/^\/(\?|$)/.test(url)) answer(response, 200, "Gru spear: connect with socket.io");
  else answer(response, 404, "not found");
}
