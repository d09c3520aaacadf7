/**
 * What spear touches of the private parts of Engine.IO, ws and node:http, beside what `memory.ts` throws away and
 * `heartbeat.ts` takes over: here and nowhere else. `engine_io_test.ts` names each part and fails when a new version
 * of a package changes it.
 */
import { Buffer } from "node:buffer";
import type { EventEmitter } from "node:events";
import type { IncomingMessage } from "node:http";
import type { Socket as TcpSocket } from "node:net";
import process from "node:process";
import type { Duplex } from "node:stream";
import { type ServerOptions, WebSocket, WebSocketServer } from "ws";
import { type Batch, pingFrame } from "../packets.ts";
import { oldPolling, type PayloadParser } from "./polling_old.ts";

/** Engine.IO's socket: one client, over one transport after the other. */
export interface EngineSocket extends EventEmitter {
  readonly id: string;
  /** Of Engine.IO: 3 or 4. */
  readonly protocol: number;
  /** Of the handshake. `lean.ts` throws it away. */
  readonly request?: {
    readonly headers: Readonly<Record<string, unknown>>;
    readonly socket?: TcpSocket;
  };
  readonly readyState: string;
  readonly transport: Transport;
  /** A WebSocket for it is open and not in use yet. */
  readonly upgrading: boolean;
  /** Packets that wait until the transport is writable. */
  readonly writeBuffer: readonly EnginePacket[];
  /** A message. */
  write(
    data: string,
    options: { readonly compress: boolean; readonly wsPreEncodedFrame?: readonly Buffer[] },
  ): unknown;
  sendPacket(type: "ping" | "pong", ...rest: unknown[]): void;
  /** @param discard without waiting for what waits */
  close(discard: boolean): void;
}

interface EnginePacket {
  readonly type: string;
  readonly data?: string;
  readonly options?: {
    readonly compress?: boolean;
    readonly wsPreEncodedFrame?: readonly Buffer[];
  };
}

interface Transport extends EventEmitter {
  readonly name: string;
  /** It takes packets: a WebSocket that has passed on the ones before; polling while a poll waits for its answer. */
  readonly writable: boolean;
  /** Of a WebSocket, not of polling. */
  readonly socket?: ClientWebSocket;
  parser?: { encodePayload(packets: readonly EnginePacket[], ...rest: unknown[]): void };
  /** Of polling: the most bytes that a request may bring. */
  maxHttpBufferSize?: number;
  /** Of polling that has been closed: how long it waits for a poll, to answer with that, and what it then does. */
  closeTimeout?: number;
  shouldClose?: (() => void) | null;
  send(packets: EnginePacket[]): void;
}

interface Engine {
  createTransport(name: string, request: { readonly _query?: { readonly j?: string } }): {
    readonly protocol: number;
    parser: PayloadParser;
    /** As the client says: it takes the binary form of payloads. */
    supportsBinary: boolean;
  };
}

/** From now on polling of protocol 3 is as the clients of that time know it, from the handshake on. */
export function serveOldPolling(engine: object): void {
  const { createTransport } = engine as Engine;
  (engine as Engine).createTransport = function (this: Engine, name, request) {
    const transport = createTransport.call(this, name, request);
    if (name !== "polling" || transport.protocol !== 3) return transport;
    transport.parser = oldPolling(transport.parser);
    // JSONP is text.
    if (request._query?.j !== undefined) transport.supportsBinary = false;
    return transport;
  };
}

interface ClientWebSocket {
  /** Reads no more. */
  pause(): void;
  rest(ms: number): void;
  /** What its close frame is to say, where Engine.IO closes it. */
  why?: Why | undefined;
  /** `ws` writes to it at once, as compression is off. */
  readonly _socket: TcpSocket | null;
  close(code: number, reason: string): void;
}

/** How long a client has to read the last words, and to answer them. */
export const lastWordsMs = 1000;

/** The TCP socket below a WebSocket. */
export function tcpOf({ transport }: EngineSocket): TcpSocket | undefined {
  return transport.socket?._socket ?? undefined;
}

/** Of the other end. */
export function addressOf(conn: EngineSocket): string | undefined {
  return (tcpOf(conn) ?? conn.request?.socket)?.remoteAddress;
}

/** Whether Engine.IO takes packets and none of its own waits, which others must not overtake. */
export function isFree({ transport, writeBuffer, readyState }: EngineSocket): boolean {
  return transport.writable && writeBuffer.length === 0 && readyState === "open";
}

/** Hands a batch to Engine.IO, behind all that it holds already. A poll gets all of it at once. */
export function writeThrough(conn: EngineSocket, batch: Batch): void {
  if (conn.transport.name === "websocket") {
    // Engine.IO takes an encoded frame for each packet, and does not mind that this is several.
    conn.write("", { compress: false, wsPreEncodedFrame: [batch.joined] });
  } else if (isFree(conn)) {
    conn.transport.send(batch.packets().map(({ text }) => ({ type: "message", data: text })));
  } else {
    for (const { text } of batch.packets()) conn.write(text, { compress: false });
  }
}

/** Bytes that Engine.IO, ws and Node hold for a client, but for what was written in answer to a poll. */
export function heldBytes(conn: EngineSocket): number {
  let held = tcpOf(conn)?.writableLength ?? 0;
  for (const { data, options } of conn.writeBuffer) {
    held += options?.wsPreEncodedFrame?.[0]?.length ?? data?.length ?? 1;
  }
  return held;
}

/** Sends Engine.IO's packet `ping`. @param socket of Engine.IO */
export function ping(socket: object): void {
  const conn = socket as EngineSocket;
  const tcp = tcpOf(conn);
  if (tcp !== undefined && isFree(conn)) tcp.write(pingFrame);
  else conn.sendPacket("ping");
}

/** In protocol 3 the client pings: an answer that still waits is the answer to all pings until now. */
export function answerPingsOnce(conn: EngineSocket): void {
  if (conn.protocol === 3) conn.sendPacket = sendPacketOrOnePong;
}

function sendPacketOrOnePong(this: EngineSocket, type: "ping" | "pong", ...rest: unknown[]): void {
  if (type === "pong" && this.writeBuffer.some((packet) => packet.type === "pong")) return;
  Object.getPrototypeOf(this).sendPacket.call(this, type, ...rest);
}

/** Who hears of what a WebSocket deals with itself. */
export interface FrameListener {
  /** The client does not notice a close frame, but the end of its TCP connection. */
  readonly missesCloseFrames: boolean;
  /** A ping, also one that is not answered, or a pong. */
  heard(): void;
  /** A message that is too large, which ends the WebSocket behind this. @returns why, for the close frame */
  oversized(): string;
}

/** From now on, and from an upgrade on. */
export function listenToFrames(conn: EngineSocket, listener: FrameListener): void {
  const listen = () => {
    const { socket } = conn.transport;
    if (socket instanceof LeanWebSocket) socket.listener = listener;
  };
  if (conn.transport.socket === undefined) conn.once("upgrade", listen);
  else listen();
}

/** A client on polling may send so much in one request. */
export function limitRequests({ transport }: EngineSocket, bytes: number): void {
  if (transport.socket === undefined) transport.maxHttpBufferSize = bytes;
}

/** What the close frame of a WebSocket says. */
interface Why {
  readonly code: number;
  readonly text: string;
  /** The client is to reconnect. */
  readonly comesBack: boolean;
}

/** Ends a connection at once: what waits might never leave. A WebSocket is told why. */
export function endNow(conn: EngineSocket, why: Why): void {
  // A client that has stopped polling for the WebSocket, and then loses it, notices nothing until its next ping.
  if (conn.upgrading) return endAfterAll(conn, why);
  if (why.comesBack) endPollsWithoutClose(conn);
  const { socket } = conn.transport;
  socket?.close(why.code, why.text);
  // A request that is being read gets its answer first.
  if (socket === undefined) process.nextTick(() => conn.close(true));
  else conn.close(true);
}

/**
 * Ends a connection after what has been written before, or when its client has not read that in time. A WebSocket is
 * told why, also one that the client upgrades to meanwhile.
 */
export function endAfterAll(conn: EngineSocket, why?: Why): void {
  const { transport } = conn;
  transport.closeTimeout = lastWordsMs;
  if (why !== undefined) {
    const tell = () => {
      if (conn.transport.socket !== undefined) conn.transport.socket.why = why;
    };
    tell();
    if (transport.socket === undefined) conn.once("upgrade", tell);
    if (why.comesBack) endPollsWithoutClose(conn);
  }
  const timer = setTimeout(() => conn.close(true), 2 * lastWordsMs);
  conn.once("close", () => clearTimeout(timer));
  process.nextTick(() => conn.close(false));
}

/**
 * Polling that is closed says so by Engine.IO's packet `close`, after which a client in Python stays away. Without it the
 * next poll is answered by 400, which ends the transport of every client. One that is about to upgrade does not poll again.
 */
function endPollsWithoutClose(conn: EngineSocket): void {
  const { transport } = conn;
  const { parser } = transport;
  if (transport.socket !== undefined || parser === undefined) return;
  const silent = (packet: EnginePacket) =>
    packet.type === "close" && !conn.upgrading ? { type: "noop" } : packet;
  transport.parser = {
    ...parser,
    encodePayload: (packets, ...rest) => parser.encodePayload(packets.map(silent), ...rest),
  };
}

/** What still comes is not read: it would be parsed to be dropped. */
export function stopReading({ transport }: EngineSocket): void {
  transport.socket?.pause();
}

/** Reads nothing for so long. A client on polling waits for an answer after each request anyway. */
export function rest({ transport }: EngineSocket, ms: number): void {
  transport.socket?.rest(ms);
}

/** Polling has been closed, and waits for a last poll: no longer. */
export function endPolling({ transport }: EngineSocket): void {
  const end = transport.shouldClose;
  transport.shouldClose = null;
  end?.();
}

/** For Engine.IO's option `wsEngine`. */
export class LeanWebSocketServer extends WebSocketServer {
  constructor(options: ServerOptions) {
    // A message in very many pieces takes many times its bytes.
    const bytes = options.maxPayload ?? 0;
    super({
      ...options,
      ...{ WebSocket: LeanWebSocket, closeTimeout: lastWordsMs },
      ...{
        maxFragments: Math.max(256, bytes / 1024),
        maxBufferedChunks: Math.max(1024, bytes / 256),
      },
    });
  }

  /** Nobody has headers to add to the answer of an upgrade: Engine.IO would look for them in each request. */
  override emit(event: string, ...args: unknown[]): boolean {
    return event !== "headers" && super.emit(event, ...args);
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

/** As ws closes after a message that is too large. */
const tooBig = 1009;

/**
 * So much of a message that is too large, and of what comes behind it, is read and dropped: a client reads why it was closed when it
 * has sent it. Of one that sends more nothing is read any longer.
 */
const droppedBytes = 2 ** 20;

/** Messages that an honest client may have on their way when its connection is closed. */
const lateAtMost = 10;

export class LeanWebSocket extends WebSocket {
  declare readonly _socket: TcpSocket | null;
  declare _readyState: number;
  declare readonly _receiver: (EventEmitter & { _mask?: unknown; _loop?: boolean }) | undefined;
  #late = 0;
  #resting: ReturnType<typeof setTimeout> | undefined;
  /** Set while a pong is on its way. */
  #pong: { next: Buffer | undefined } | undefined;
  #probed = false;
  listener: FrameListener | undefined;
  why: Why | undefined;

  override emit(event: string, ...args: unknown[]): boolean {
    if (event === "close") clearTimeout(this.#resting);
    if (event === "message" || event === "ping" || event === "pong") {
      if (this.readyState !== WebSocket.OPEN) return this.#takeLate();
      // A ping is heard of where it is answered.
      if (event === "pong") this.listener?.heard();
    }
    if (event === "message") {
      // The mask of a message that has been read is a view of all the bytes it came with.
      if (this._receiver !== undefined) this._receiver._mask = undefined;
      if (isProbe(args[0])) {
        // Engine.IO answers each, and counts no answer: a client has one to send.
        if (this.#probed) {
          this.close(1002);
          return false;
        }
        this.#probed = true;
      }
    }
    return super.emit(event, ...args);
  }

  override close(
    code = this.why?.code,
    reason: string | Buffer | undefined = this.why?.text,
  ): void {
    let why: string | undefined;
    if (code === tooBig && this.readyState === WebSocket.OPEN) {
      why = this.listener?.oversized();
      this.#dropAtMost(droppedBytes);
    }
    if (this.listener?.missesCloseFrames && this.readyState === WebSocket.OPEN) this.#endTcp();
    else super.close(code, why ?? reason);
  }

  /** `ws` itself reads on until the client has closed, or for `closeTimeout`. */
  #dropAtMost(bytes: number): void {
    let left = bytes;
    const socket = this._socket;
    socket?.on("data", (chunk: Uint8Array) => {
      left -= chunk.length;
      if (left < 0) socket.pause();
    });
  }

  /** Behind what was written. */
  #endTcp(): void {
    this._readyState = WebSocket.CLOSING;
    this._socket?.end();
    const timer = setTimeout(() => this.terminate(), lastWordsMs);
    this.once("close", () => clearTimeout(timer));
  }

  /** Reads nothing for so long. */
  rest(ms: number): void {
    if (this.#resting !== undefined || this.readyState !== WebSocket.OPEN) return;
    this.pause();
    this.#resting = setTimeout(() => {
      this.#resting = undefined;
      if (this.#late <= lateAtMost) this.resume();
    }, ms);
  }

  /** It is being closed. Of a client that goes on sending nothing more is read, not even in the time that it has to answer. */
  #takeLate(): false {
    if (++this.#late > lateAtMost) {
      this.pause();
      // What has been read already is not parsed either.
      if (this._receiver !== undefined) this._receiver._loop = false;
    }
    return false;
  }

  /** One at a time: of the pings that come before it has left, the last is answered (RFC 6455, 5.5.3). */
  override pong(data?: unknown, mask?: boolean, callback?: (error: Error) => void): void {
    this.listener?.heard();
    this.#answer(data, mask, callback);
  }

  #answer(data?: unknown, mask?: boolean, callback?: (error: Error) => void): void {
    if (this.#pong !== undefined) {
      this.#pong.next = Buffer.from(data as Buffer);
      return;
    }
    const pong: { next: Buffer | undefined } = { next: undefined };
    this.#pong = pong;
    super.pong(data, mask, (error) => {
      this.#pong = undefined;
      callback?.(error);
      if (pong.next !== undefined && this.readyState === WebSocket.OPEN) {
        this.#answer(pong.next, mask);
      }
    });
  }
}

const probe = Buffer.from("2probe");

function isProbe(message: unknown): boolean {
  return message instanceof Buffer && message.length === probe.length && message.equals(probe);
}

/** The parameters of a request's address, which Engine.IO would read from it once more. */
export function setQuery(request: object, query: Readonly<Record<string, string>>): void {
  Object.assign(request, { _query: query });
}

interface UpgradingEngine {
  /** What answers for pages of other sites; a WebSocket needs none of it. */
  middlewares: readonly unknown[];
  handleUpgrade(request: never, socket: Duplex, head: never): void;
}

/**
 * Engine.IO makes a response for every upgrade, for middleware that waits for its end; the TCP socket would keep it,
 * and with it the request.
 */
export function upgrade(
  engine: object,
  request: IncomingMessage,
  socket: Duplex,
  head: Uint8Array,
): void {
  const upgrading = engine as UpgradingEngine;
  const { middlewares } = upgrading;
  const before = socket.listenerCount("close");
  upgrading.middlewares = [];
  upgrading.handleUpgrade(request as never, socket, head as never);
  upgrading.middlewares = middlewares;
  const ofResponse = socket.listeners("close")[before];
  if (ofResponse !== undefined) socket.off("close", ofResponse as () => void);
}
