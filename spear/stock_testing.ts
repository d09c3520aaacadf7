/** Stock clients as applications use them: they reconnect by themselves, and authenticate whenever they are connected. */
import { io as io4 } from "socket.io-client";
// @ts-types="./load/socket_io_client_old.d.ts"
import io1 from "socket.io-client-1";
// @ts-types="./load/socket_io_client_old.d.ts"
import io2 from "socket.io-client-2";
import type { Json } from "./test_client.ts";

export interface StockClient {
  readonly name: string;
  open(address: string, options?: StockOptions): Promise<Stock>;
}

export interface StockOptions {
  /** Default: one of its own. */
  readonly userId?: unknown;
  /** Default true. */
  readonly authenticates?: boolean;
  /** How long it waits before it reconnects; default: not long. `{}`: as without options. */
  readonly delays?: { readonly reconnectionDelay?: number; readonly reconnectionDelayMax?: number };
}

type Open = (address: string, options: object) => {
  // deno-lint-ignore no-explicit-any
  on(event: string, listener: (argument: any) => void): unknown;
  emit(event: string, ...args: unknown[]): unknown;
  disconnect(): unknown;
  readonly connected: boolean;
  readonly io: { on(event: string, listener: () => void): unknown };
};

let lastUserId = 1000;

/** One connection after the other, of one client. */
export class Stock implements AsyncDisposable {
  readonly userId: unknown;
  /** How often it was let in by `auth`, and how often it was connected. */
  authentications = 0;
  connections = 0;
  /** Attempts to come back. */
  tries = 0;
  /** What it was told of the ends of its connections. */
  readonly ends: string[] = [];
  /** Results of `auth` that are no success. */
  readonly refusals: string[] = [];
  readonly #socket: ReturnType<Open>;
  readonly #received = new Map<string, Json[]>();

  constructor(
    socket: ReturnType<Open>,
    { userId = ++lastUserId, authenticates = true }: StockOptions,
  ) {
    this.userId = userId;
    this.#socket = socket;
    socket.on("connect", () => {
      this.connections++;
      if (authenticates) socket.emit("auth", { id: userId }, (result: Json) => this.#in(result));
    });
    socket.on("disconnect", (reason) => this.ends.push(reason));
    for (const event of ["msg", "kicked", "missed", "move", "error"]) {
      socket.on(event, (argument) => this.received(event).push(argument));
    }
    socket.io.on("reconnect_attempt", () => this.tries++);
  }

  /** What it has been sent under that name. */
  received(event: string): Json[] {
    return this.#received.getOrInsertComputed(event, () => []);
  }

  /** While it is offline it keeps that until it is connected. @param answered is given the result */
  emit(event: string, argument: unknown, answered: (result: Json) => void = () => {}): void {
    this.#socket.emit(event, argument, answered);
  }

  get connected(): boolean {
    return this.#socket.connected;
  }

  /** For good. */
  leave(): void {
    this.#socket.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.leave();
    // Old clients on polling end with a request, and the server's side waits for a poll.
    await new Promise((resolve) => setTimeout(resolve, 20));
  }

  #in(result: Json): void {
    if (result.success) this.authentications++;
    else this.refusals.push(result.msg);
  }
}

const versions: Record<string, Open> = { 1: io1 as Open, 2: io2 as Open, 4: io4 as Open };

const transports: Record<string, readonly string[]> = {
  websocket: ["websocket"],
  polling: ["polling"],
  // As the clients are without options.
  "polling, then upgraded": ["polling", "websocket"],
};

export const stockClients: readonly StockClient[] = Object.entries(versions).flatMap(
  ([version, open]) =>
    Object.entries(transports).map(([name, transports]) => ({
      name: `socket.io-client ${version}, ${name}`,
      open: async (address, options = {}) => {
        const { delays = { reconnectionDelay: 50, reconnectionDelayMax: 200 } } = options;
        const settings = { ...delays, forceNew: true };
        return new Stock(open(address, { ...settings, transports: [...transports] }), options);
      },
    })),
);
