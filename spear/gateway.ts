/** The door for clients: socket.io, old protocol and new, on one port. The only file that knows socket.io. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { Server, type Socket } from "socket.io";
import type { Frame } from "./hub.ts";
import { type Connection, Session, type SessionContext } from "./session.ts";
import type { Result } from "./wire.ts";

export interface GatewayOptions {
  readonly host: string;
  readonly port: number;
  /** A packet of more bytes closes the connection. */
  readonly payloadBytes: number;
  /** A connection that has not authenticated by then is closed. */
  readonly authMs: number;
  readonly session: SessionContext;
}

export class Gateway implements AsyncDisposable {
  readonly port: number;
  readonly #io: Server;
  readonly #sessions: Set<Session>;
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(
    io: Server,
    port: number,
    sessions: Set<Session>,
    timer: ReturnType<typeof setInterval>,
  ) {
    this.#io = io;
    this.port = port;
    this.#sessions = sessions;
    this.#timer = timer;
  }

  /** @throws {Error} naming host and port when it cannot listen there. */
  static async open(options: GatewayOptions): Promise<Gateway> {
    const { host, port, authMs } = options;
    const http = createServer(welcome);
    const io = new Server(http, {
      allowEIO3: true,
      serveClient: false,
      maxHttpBufferSize: options.payloadBytes,
      // Old browser clients send credentials, for which `*` does not do. There are no cookies to abuse.
      cors: { origin: true, credentials: true },
    });
    const sessions = new Set<Session>();
    // In the order of their coming: the front ones are the first to be late.
    const unauthenticated = new Map<Session, { readonly since: number; readonly socket: Socket }>();

    io.on("connection", (socket) => {
      const session = new Session(new SocketConnection(socket), options.session);
      sessions.add(session);
      unauthenticated.set(session, { since: performance.now(), socket });
      socket.onAny((event: unknown, ...args: unknown[]) => {
        const last = args.at(-1);
        const callback = typeof last === "function" ? last : undefined;
        const name = String(event);
        void session.handle(name, args[0] === callback ? undefined : args[0], (result: Result) => {
          if (session.userId !== undefined) unauthenticated.delete(session);
          if (callback !== undefined) callback(result);
          else socket.emit(`${name.slice(0, 64)}_result`, result);
        });
      });
      socket.on("disconnect", () => {
        sessions.delete(session);
        unauthenticated.delete(session);
        session.close();
      });
    });
    // One timer for all connections.
    const timer = setInterval(() => {
      for (const { since, socket } of unauthenticated.values()) {
        if (performance.now() - since < authMs) break;
        socket.disconnect(true);
      }
    }, Math.min(authMs, 1000));

    const listening = Promise.withResolvers<void>();
    http.once("error", (cause) => {
      listening.reject(new Error(`cannot listen on ${host}:${port}: ${cause.message}`, { cause }));
    });
    http.listen(port, host, () => listening.resolve());
    try {
      await listening.promise;
    } catch (error) {
      clearInterval(timer);
      throw error;
    }
    const address = http.address();
    const actual = typeof address === "object" && address !== null ? address.port : port;
    return new Gateway(io, actual, sessions, timer);
  }

  get sessions(): ReadonlySet<Session> {
    return this.#sessions;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    await this.#io.close();
  }
}

class SocketConnection implements Connection {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  send(frame: Frame): void {
    // Past socket.io's encoder, which would encode the same packet anew for each receiver.
    this.#socket.conn.write(frame.packet, { compress: false });
  }

  emit(event: string, argument: object): void {
    this.#socket.emit(event, argument);
  }

  close(): void {
    this.#socket.disconnect(true);
  }
}

function welcome(request: IncomingMessage, response: ServerResponse): void {
  // Engine.IO answers its own path; what comes here is a person or a probe.
  const known = request.url === "/";
  response.writeHead(known ? 200 : 404, { "content-type": "text/plain" });
  response.end(known ? "Gru spear: connect with socket.io\n" : "not found\n");
}
