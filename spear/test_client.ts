/** The stock socket.io clients, new and old, as one thing that tests can read from top to bottom. */
import { io as io4 } from "socket.io-client";
// @ts-types="./load/socket_io_client_old.d.ts"
import io1 from "socket.io-client-1";
// @ts-types="./load/socket_io_client_old.d.ts"
import io2 from "socket.io-client-2";

// deno-lint-ignore no-explicit-any
export type Json = any;

interface StockSocket {
  on(event: string, listener: (argument: Json) => void): unknown;
  emit(event: string, ...args: unknown[]): unknown;
  disconnect(): unknown;
  readonly connected: boolean;
}

/** How clients differ: the library, the transport, and how they pass arguments and take results. */
export interface Dialect {
  readonly name: string;
  readonly open: (address: string) => StockSocket;
  /** JSON strings and `<name>_result` events instead of values and callbacks. */
  readonly old: boolean;
}

const options = { reconnection: false, forceNew: true };

function dialectsOver(name: string, transports: readonly string[]): Dialect[] {
  const settings = { ...options, transports: [...transports] };
  return [
    {
      name: `socket.io-client 4, ${name}`,
      open: (address) => io4(address, settings) as StockSocket,
      old: false,
    },
    {
      name: `socket.io-client 2 (Engine.IO 3), ${name}`,
      open: (address) => io2(address, settings),
      old: true,
    },
    {
      name: `socket.io-client 1 (Engine.IO 3), ${name}`,
      open: (address) => io1(address, settings),
      old: true,
    },
  ];
}

export const dialects: readonly Dialect[] = [
  ...dialectsOver("websocket", ["websocket"]),
  ...dialectsOver("polling", ["polling"]),
  // As the clients are without options.
  ...dialectsOver("polling, then upgraded", ["polling", "websocket"]),
];

export class TestClient implements AsyncDisposable {
  readonly #socket: StockSocket;
  readonly #dialect: Dialect;
  readonly #received = new Map<string, Json[]>();
  readonly #waiting = new Map<string, ((argument: Json) => void)[]>();
  readonly closed: Promise<void>;

  private constructor(socket: StockSocket, dialect: Dialect) {
    this.#socket = socket;
    this.#dialect = dialect;
    const events = [
      "msg",
      "missed",
      "move",
      "passed",
      "presence",
      "refresh",
      "kicked",
      "subscribed",
      "unsubscribed",
    ];
    const results = ["auth", "subscribe", "unsubscribe", "msg", "online", "nonsense"];
    for (const event of [...events, ...results.map((name) => `${name}_result`)]) {
      socket.on(event, (argument) => this.#take(event, argument));
    }
    this.closed = new Promise((resolve) => void socket.on("disconnect", () => resolve()));
  }

  static async connect(address: string, dialect: Dialect): Promise<TestClient> {
    const socket = dialect.open(address);
    const client = new TestClient(socket, dialect);
    await new Promise<void>((resolve, reject) => {
      socket.on("connect", resolve);
      for (const event of ["connect_error", "error"]) {
        socket.on(event, (error) => reject(new Error(`cannot connect to ${address}: ${error}`)));
      }
    });
    return client;
  }

  /** Sends an event as this dialect does and gives its result. */
  request(event: string, argument: unknown): Promise<Json> {
    if (this.#dialect.old) {
      this.#socket.emit(event, JSON.stringify(argument));
      return this.next(`${event}_result`);
    }
    return new Promise((resolve) => void this.#socket.emit(event, argument, resolve));
  }

  /** Sends whatever is given, as it is. */
  send(event: string, ...args: unknown[]): void {
    this.#socket.emit(event, ...args);
  }

  /** The next event of that name that has not been asked for yet. */
  next(event: string): Promise<Json> {
    const received = this.#received.get(event)?.shift();
    if (received !== undefined) return Promise.resolve(received);
    return new Promise((resolve) =>
      this.#waiting.getOrInsertComputed(event, () => []).push(resolve)
    );
  }

  /** What has come and not been asked for. */
  pending(event: string): Json[] {
    return this.#received.get(event) ?? [];
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.connected) return;
    this.#socket.disconnect();
    await this.closed;
  }

  #take(event: string, argument: Json): void {
    const waiting = this.#waiting.get(event)?.shift();
    if (waiting !== undefined) waiting(argument);
    else this.#received.getOrInsertComputed(event, () => []).push(argument);
  }
}
