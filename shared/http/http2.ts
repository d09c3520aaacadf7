/**
 * The HTTP/2 side of a port. `Deno.serve` speaks HTTP/2 but has no limits (Deno 2.9); `node:http2` has limits but
 * crashes. So a `Deno.serve` listens on the loopback interface and answers only connections that are forwarded from
 * here. The frames are parsed here: which requests have begun and not ended, and since when.
 */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { type Connection, type Connections, lastWordsMs } from "./connections.ts";
import { type FrameHead, Frames, goAway } from "./frames.ts";
import type { HttpHandler, HttpLimits } from "./options.ts";

export interface Http2Options {
  readonly handler: HttpHandler;
  readonly onError: (error: unknown) => Response;
  readonly limits: HttpLimits;
  readonly connections: Connections;
}

export interface Http2Side {
  readonly take: (socket: Socket) => void;
  /** Accepts no new requests; resolves when all requests are answered. */
  shutdown(): Promise<void>;
}

const loopback = "127.0.0.1";
/**
 * The most requests on one connection that have begun and not ended. `Deno.serve` accepts 200 and resets the others.
 */
const mostComing = 1000;

export function http2Side({ handler, onError, limits, connections }: Http2Options): Http2Side {
  /** Forwarded connections, by their local port. */
  const passed = new Map<number, Passage>();

  const inner = Deno.serve(
    { hostname: loopback, port: 0, onListen: () => {}, onError },
    (request, { remoteAddr }) => {
      const passage = passed.get(remoteAddr.port);
      if (passage === undefined) return new Response(null, { status: 403 });
      return passage.answer(() => handler(request, { remoteAddr: passage.caller }));
    },
  );

  function take(outer: Socket): void {
    const connection = connections.of(outer);
    if (connection === undefined) return void outer.destroy();
    const passage = new Passage(connection, connections, limits);
    const toInner = connect({ host: loopback, port: inner.addr.port, noDelay: true });
    outer.setNoDelay(true);
    toInner.on("error", () => toInner.destroy());
    let port = 0;
    toInner.on("close", () => {
      passed.delete(port);
      outer.destroy();
    });
    outer.on("close", () => toInner.destroy());
    toInner.on("connect", () => {
      if (outer.destroyed) return void toInner.destroy();
      port = toInner.localPort ?? 0;
      passed.set(port, passage);
      outer.on("data", (chunk: Buffer) => {
        passage.asked.follow(chunk);
        if (!toInner.write(chunk)) outer.pause();
      });
      toInner.on("drain", () => outer.resume());
      outer.on("end", () => toInner.end());
      outer.resume();
      toInner.on("data", (chunk: Buffer) => {
        passage.answered.follow(chunk);
        if (!outer.write(chunk)) toInner.pause();
      });
      outer.on("drain", () => toInner.resume());
      toInner.on("end", () => outer.end());
    });
  }

  return { take, shutdown: () => inner.shutdown() };
}

/** One forwarded connection, as its frames show it. */
class Passage {
  readonly caller: Deno.NetAddr;
  readonly asked: Frames;
  readonly answered: Frames;
  readonly #connection: Connection;
  readonly #connections: Connections;
  readonly #limits: HttpLimits;
  /** Requests that have not ended, with the time when they began; the first is the oldest. */
  readonly #coming = new Map<number, number>();
  #lastStream = 0;
  /** When the last request began or was answered; at first, when the connection began. */
  #quietSince: number;
  #isUsed = false;

  constructor(connection: Connection, connections: Connections, limits: HttpLimits) {
    const { remoteAddress = "", remotePort = 0 } = connection.socket;
    this.caller = { transport: "tcp", hostname: remoteAddress, port: remotePort };
    this.asked = new Frames("client", (frame) => this.#onAsked(frame));
    // A client that has the whole answer need not send the rest of its request.
    this.answered = new Frames("server", (frame) => this.#onEnd(frame));
    this.#connection = connection;
    this.#connections = connections;
    this.#limits = limits;
    this.#quietSince = connections.now;
    connection.isOverdue = (now) => this.#isOverdue(now);
    connection.end = () => this.#end();
    // A well-behaved client closes the connection after it received GOAWAY and the last answer.
    connection.leave = () => {
      const timer = setTimeout(() => this.#end(), lastWordsMs);
      connection.socket.once("close", () => clearTimeout(timer));
    };
  }

  async answer(handle: () => Response | Promise<Response>): Promise<Response> {
    this.#connections.began(this.#connection);
    try {
      return await handle();
    } finally {
      this.#connections.ended(this.#connection);
      this.#quietSince = this.#connections.now;
    }
  }

  #onAsked(frame: FrameHead): void {
    const { kind, stream, endsStream } = frame;
    if (kind === "headers" && stream > this.#lastStream) {
      this.#lastStream = stream;
      this.#isUsed = true;
      this.#quietSince = this.#connections.now;
      if (!endsStream) this.#coming.set(stream, this.#connections.now);
      if (this.#coming.size > mostComing) this.#connection.socket.destroy();
    } else {
      this.#onEnd(frame);
    }
  }

  #onEnd({ stream, endsStream }: FrameHead): void {
    if (endsStream) this.#coming.delete(stream);
  }

  #isOverdue(now: number): boolean {
    const { headersMs, requestMs, keepAliveMs } = this.#limits;
    if (now - this.asked.halfSince(now) > headersMs) return true;
    const [oldest] = this.#coming.values();
    if (oldest !== undefined) return now - oldest > requestMs;
    if (this.#connection.underWay > 0) return false;
    return now - this.#quietSince > (this.#isUsed ? keepAliveMs : headersMs);
  }

  /** After GOAWAY a client knows which requests were not served, and sends them on another connection. */
  #end(): void {
    const { socket } = this.#connection;
    this.#connection.end = () => socket.destroy();
    if (!this.answered.isBetween) return void socket.destroy();
    socket.end(goAway(this.#lastStream));
    const timer = setTimeout(() => socket.destroy(), lastWordsMs);
    socket.once("close", () => clearTimeout(timer));
  }
}
