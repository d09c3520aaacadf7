/**
 * The open connections of one HTTP port, for all protocols: how many there are, which are idle and which are too slow.
 */
import type { Socket } from "node:net";
import type { HttpLimits } from "./options.ts";

/** How long the last answer may take to be sent when its connection is being closed. */
export const lastWordsMs = 1000;

export class Connection {
  /** The remote address and port, which identify the connection. */
  readonly name: string;
  /** The socket that requests are read from: with TLS it differs from the accepted one. */
  socket: Socket;
  /** Requests that are being answered. */
  underWay = 0;
  /** True when the connection must be closed at `now`, a time of {@linkcode Connections}. Set by the protocol. */
  isOverdue: (now: number) => boolean;
  /** Closes it at once; a protocol may have a gentler way. */
  end: () => void;
  /** Closes it when the port closes and the connection has no request. */
  leave: () => void;

  constructor(socket: Socket, isOverdue: (now: number) => boolean) {
    this.name = nameOf(socket);
    this.socket = socket;
    this.isOverdue = isOverdue;
    this.end = () => this.socket.destroy();
    this.leave = () => this.socket.destroySoon();
  }
}

export class Connections implements Disposable {
  /**
   * Milliseconds during which this thread has watched its connections. It stops while the thread is busy or the machine
   * is suspended: data that arrived meanwhile has not been read yet, so its sender must not be blamed.
   */
  now = 0;
  readonly #limits: HttpLimits;
  readonly #all = new Map<string, Connection>();
  /** Connections without a request; the first has been idle longest. */
  readonly #idle = new Set<Connection>();
  #drained: PromiseWithResolvers<void> | undefined;
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(limits: HttpLimits) {
    this.#limits = limits;
    const { headersMs, requestMs, keepAliveMs } = limits;
    const periodMs = Math.min(1000, headersMs / 2, requestMs / 2, keepAliveMs / 2);
    let last = performance.now();
    this.#timer = setInterval(() => {
      const passed = performance.now() - last;
      last += passed;
      this.now += Math.min(passed, 2 * periodMs);
      for (const connection of this.#all.values()) {
        if (connection.isOverdue(this.now)) connection.end();
      }
    }, periodMs);
  }

  /** Registers an accepted connection. undefined: there are too many, and it was closed. */
  accept(socket: Socket): Connection | undefined {
    if (this.#all.size >= this.#limits.connections) {
      const [longestIdle] = this.#idle;
      if (longestIdle === undefined) {
        socket.destroy();
        return undefined;
      }
      this.#forget(longestIdle);
      longestIdle.socket.destroy();
    }
    const since = this.now;
    const { headersMs } = this.#limits;
    const connection = new Connection(socket, (now) => now - since > headersMs);
    this.#all.set(connection.name, connection);
    this.#idle.add(connection);
    // A client that breaks the connection is not an error here.
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#forget(connection));
    return connection;
  }

  /** The connection of this socket, or of the TLS socket in it. */
  of(socket: Socket): Connection | undefined {
    return this.#all.get(nameOf(socket));
  }

  began(connection: Connection): void {
    if (connection.underWay++ === 0) this.#idle.delete(connection);
  }

  ended(connection: Connection): void {
    const open = this.#all.get(connection.name) === connection;
    if (--connection.underWay > 0 || !open) return;
    this.#idle.add(connection);
    if (this.#drained !== undefined) connection.leave();
  }

  /** From now on connections close when they have no request. Resolves when none is left. */
  drain(): Promise<void> {
    this.#drained ??= Promise.withResolvers();
    for (const connection of [...this.#idle]) connection.leave();
    if (this.size === 0) this.#drained.resolve();
    return this.#drained.promise;
  }

  get size(): number {
    return this.#all.size;
  }

  /** Closes the remaining connections. */
  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const { socket } of this.#all.values()) socket.destroy();
  }

  #forget(connection: Connection): void {
    this.#idle.delete(connection);
    if (this.#all.get(connection.name) === connection) this.#all.delete(connection.name);
    if (this.size === 0) this.#drained?.resolve();
  }
}

function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}
