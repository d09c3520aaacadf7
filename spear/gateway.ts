/**
 * The door for clients: socket.io, old protocol and new, on one port. The only file that imports its code; its insides are known to
 * `connection.ts`, `heartbeat.ts` and `lean.ts`, too.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Server, type ServerOptions, type Socket } from "socket.io";
import { lastWordsMs, ping, SocketConnection, type SocketConnectionOptions } from "./connection.ts";
import { Heartbeat } from "./heartbeat.ts";
import { forgetResponse, LeanWebSocketServer, NoRooms, Question, slim } from "./lean.ts";
import { type CloseReason, Session, type SessionContext } from "./session.ts";
import { closeCode } from "./wire.ts";

export interface GatewayOptions extends SocketConnectionOptions {
  readonly host: string;
  readonly port: number;
  /** A packet of more bytes closes the connection. */
  readonly payloadBytes: number;
  /** A connection that has not authenticated by then is closed. */
  readonly authMs: number;
  /** Connections beyond it are refused in the handshake. */
  readonly connections: number;
  /** The web pages that may connect, e.g. `https://example.org`; `*`: all. Who names no origin is no browser. */
  readonly origins: readonly string[];
  readonly session: SessionContext;
}

export class Gateway implements AsyncDisposable {
  readonly port: number;
  readonly #io: Server;
  readonly #open: OpenConnections;

  private constructor(io: Server, port: number, open: OpenConnections) {
    this.#io = io;
    this.port = port;
    this.#open = open;
  }

  /** @throws {Error} naming host and port when it cannot listen there. */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const { host, port, origins } = options;
    const anyOrigin = origins.includes("*");
    const http = createServer({
      // Who speaks slowly is not waited for, be it before a WebSocket or on polling.
      headersTimeout: options.authMs,
      requestTimeout: 3 * options.authMs,
      connectionsCheckingInterval: Math.min(options.authMs, 1000),
    }, welcome);
    const open = new OpenConnections(options);
    const io = new Server(http, {
      allowEIO3: true,
      serveClient: false,
      connectTimeout: options.authMs,
      maxHttpBufferSize: options.payloadBytes,
      // Old browser clients send credentials, for which `*` does not do. There are no cookies to abuse.
      cors: { origin: anyOrigin ? true : [...origins], credentials: true },
      pingInterval: pingMs,
      pingTimeout: pingTimeoutMs,
      wsEngine: LeanWebSocketServer,
      adapter: NoRooms as unknown as NonNullable<ServerOptions["adapter"]>,
      allowRequest: (request, answer) => {
        forgetResponse(request);
        const { origin } = request.headers;
        if (!anyOrigin && origin !== undefined && !origins.includes(origin)) {
          return answer("this origin may not connect", false);
        }
        const refusal = isHandshake(request) ? open.refusal() : undefined;
        answer(refusal ?? null, refusal === undefined);
      },
    });
    http.on("request", cutOffLongTails);
    io.on("connection", (socket) => {
      open.add(socket);
      slim(socket);
    });

    const listening = Promise.withResolvers<void>();
    http.once("error", (cause) => {
      listening.reject(new Error(`cannot listen on ${host}:${port}: ${cause.message}`, { cause }));
    });
    http.listen(port, host, () => listening.resolve());
    try {
      await listening.promise;
    } catch (error) {
      open.stop();
      throw error;
    }
    const address = http.address();
    const actual = typeof address === "object" && address !== null ? address.port : port;
    return new Gateway(io, actual, open);
  }

  get sessions(): ReadonlySet<Session> {
    return this.#open.sessions;
  }

  /** From now on handshakes are refused; those who are here stay. */
  refuse(reason: string): void {
    this.#open.refuse(reason);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#open.stop();
    await this.#io.close();
  }
}

/** Who has its answer and goes on sending would do so for ever: nobody reads it, and no timer of the server counts it. */
function cutOffLongTails(request: IncomingMessage, response: ServerResponse): void {
  response.once("finish", () => {
    if (request.complete) return;
    const timer = setTimeout(() => request.socket.destroy(), lastWordsMs);
    request.socket.once("close", () => clearTimeout(timer));
  });
}

/** How long a connection is quiet before it is pinged, and how long it then has to answer; Engine.IO's defaults. */
const [pingMs, pingTimeoutMs] = [25_000, 20_000];

/** A request that would begin a connection, not one of an existing one. */
function isHandshake(request: IncomingMessage): boolean {
  return !/[?&]sid=/.test(request.url ?? "");
}

class OpenConnections {
  readonly sessions = new Set<Session>();
  readonly #options: GatewayOptions;
  /** In the order of their coming: the front ones are the first to be late. */
  readonly #unauthenticated = new Map<
    Session,
    { readonly since: number; readonly connection: SocketConnection }
  >();
  readonly #heartbeat = new Heartbeat({ intervalMs: pingMs, timeoutMs: pingTimeoutMs, ping });
  /** One timer for all connections. */
  readonly #timer: ReturnType<typeof setInterval>;
  #refusal: string | undefined;

  constructor(options: GatewayOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#closeLate(), Math.min(options.authMs, 1000));
  }

  refuse(reason: string): void {
    this.#refusal = reason;
  }

  refusal(): string | undefined {
    if (this.#refusal !== undefined) return this.#refusal;
    const { connections } = this.#options;
    return this.sessions.size < connections
      ? undefined
      : `this node holds ${connections} connections already`;
  }

  add(socket: Socket): void {
    const connection = new SocketConnection(socket, this.#options);
    const session = new Session(connection, this.#options.session);
    this.sessions.add(session);
    this.#heartbeat.take(socket.conn);
    this.#unauthenticated.set(session, { since: performance.now(), connection });
    socket.onAny((event: unknown, ...args: unknown[]) => {
      const last = args.at(-1);
      const question = last instanceof Question ? last : undefined;
      const name = String(event);
      void session.handle(name, args[0] === question ? undefined : args[0], (result) => {
        if (session.userId !== undefined) this.#unauthenticated.delete(session);
        if (question !== undefined) connection.answer(question, result);
        else connection.emit(`${name.slice(0, 64)}_result`, result);
      });
    });
    socket.on("disconnect", () => {
      this.sessions.delete(session);
      this.#unauthenticated.delete(session);
      this.#heartbeat.forget(socket.conn);
      connection.ended();
      session.close();
    });
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#heartbeat[Symbol.dispose]();
  }

  #closeLate(): void {
    for (const { since, connection } of this.#unauthenticated.values()) {
      if (performance.now() - since < this.#options.authMs) break;
      connection.close(unauthenticated);
    }
  }
}

const unauthenticated: CloseReason = {
  code: closeCode.unauthenticated,
  text: "not authenticated in time",
};

function welcome(request: IncomingMessage, response: ServerResponse): void {
  // Engine.IO answers its own path; what comes here is a person or a probe.
  const known = request.url === "/";
  response.writeHead(known ? 200 : 404, { "content-type": "text/plain" });
  response.end(known ? "Gru spear: connect with socket.io\n" : "not found\n");
}
