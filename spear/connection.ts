/** One client's connection: socket.io's socket, and the TCP socket below it for what is written most. */
import type { Buffer } from "node:buffer";
import type { EventEmitter } from "node:events";
import type { Socket as TcpSocket } from "node:net";
import { type FanOut, Outlet, type Sink, type SlowConsumer } from "./fanout.ts";
import { pingRides } from "./heartbeat.ts";
import type { Question } from "./lean.ts";
import { type Batch, type Frame, Packet, pingFrame } from "./packets.ts";
import type { CloseReason, Connection } from "./session.ts";
import { closeCode, missedEvent, type Result } from "./wire.ts";

const slowConsumer: CloseReason = { code: closeCode.slowConsumer, text: "slow consumer" };

/** How long a client that was cut off has to read why. */
export const lastWordsMs = 1000;

/** Of socket.io's socket. */
interface ClientSocket {
  readonly conn: Engine;
  disconnect(close: boolean): unknown;
}

/** Of Engine.IO's socket. */
interface Engine extends EventEmitter {
  readonly readyState: string;
  readonly transport: Transport;
  write(
    data: string,
    options: { readonly compress: boolean; readonly wsPreEncodedFrame?: readonly Buffer[] },
  ): unknown;
  close(discard: boolean): void;
}

interface Transport extends EventEmitter {
  readonly name: string;
  readonly writable: boolean;
  /** Of a WebSocket, not of polling. */
  readonly socket?: WebSocket;
}

interface WebSocket {
  /** `ws` writes to it at once, as compression is off. */
  readonly _socket: TcpSocket | null;
  close(code: number, reason: string): void;
  terminate(): void;
  once(event: "close", listener: () => void): void;
}

export interface SocketConnectionOptions {
  readonly fanOut: FanOut;
  readonly slow: SlowConsumer;
}

export class SocketConnection implements Connection, Sink {
  readonly #socket: ClientSocket;
  /** `socket.conn` goes through three getters. */
  readonly #conn: Engine;
  readonly #outlet: Outlet;
  /** The TCP socket took what was written last, but no more until it drains. */
  #full = false;

  constructor(socket: ClientSocket, { fanOut, slow }: SocketConnectionOptions) {
    this.#socket = socket;
    this.#conn = socket.conn;
    this.#outlet = new Outlet(fanOut, this, slow);
  }

  send(frame: Frame): void {
    this.#outlet.push(frame);
  }

  emit(event: string, argument: object): void {
    this.#outlet.push(new Packet(`2${JSON.stringify([event, argument])}`));
  }

  answer({ id }: Question, result: Result): void {
    this.#outlet.push(new Packet(`3${id}${JSON.stringify([result])}`));
  }

  close(reason?: CloseReason): void {
    if (reason !== undefined) return this.#end(reason);
    this.#outlet.flushNow();
    this.#socket.disconnect(true);
  }

  ended(): void {
    this.#outlet.close();
  }

  get writable(): boolean {
    return !this.#full && this.#conn.transport.writable;
  }

  write(batch: Batch): void {
    const conn = this.#conn;
    const tcp = tcpOf(conn);
    if (tcp !== undefined && isFree(conn)) {
      if (tcp.write(pingRides(conn) ? batch.joinedWithPing : batch.joined)) return;
      this.#full = true;
      tcp.once("drain", () => this.#full = false);
    } else if (conn.transport.name !== "websocket") {
      for (const { text } of batch.packets()) conn.write(text, { compress: false });
    } else {
      // Engine.IO takes an encoded frame for each packet, and does not mind that this is several.
      conn.write("", { compress: false, wsPreEncodedFrame: [batch.joined] });
    }
  }

  whenWritable(callback: () => void): void {
    const conn = this.#conn;
    const { transport } = conn;
    const tcp = transport.writable ? tcpOf(conn) : undefined;
    const ready = () => {
      tcp?.off("drain", ready);
      transport.off("ready", ready);
      conn.off("upgrade", ready);
      callback();
    };
    if (tcp !== undefined) {
      tcp.on("drain", ready);
      return;
    }
    transport.on("ready", ready);
    conn.on("upgrade", ready);
  }

  dropped(frames: readonly Frame[]): void {
    const first = new Map<string, Frame>();
    const last = new Map<string, number>();
    for (const frame of frames) {
      const key = `${frame.target} ${frame.epoch}`;
      first.getOrInsertComputed(key, () => frame);
      last.set(key, frame.seq);
    }
    for (const [key, { target, epoch, seq }] of first) {
      this.emit("missed", missedEvent(target, epoch, seq, last.get(key) ?? seq));
    }
  }

  cutOff(): void {
    this.#end(slowConsumer);
  }

  /** At once and with a code: what waits might never leave. */
  #end({ code, text }: CloseReason): void {
    const conn = this.#conn;
    const { socket } = conn.transport;
    socket?.close(code, text);
    conn.close(true);
    if (socket === undefined) return;
    const timer = setTimeout(() => socket.terminate(), lastWordsMs);
    socket.once("close", () => clearTimeout(timer));
  }
}

function tcpOf({ transport }: Engine): TcpSocket | undefined {
  return transport.socket?._socket ?? undefined;
}

/**
 * Frames may go to the TCP socket: through Engine.IO and `ws` they take 40 % longer. Not where Engine.IO has packets waiting, which
 * they must not overtake.
 */
function isFree(conn: Engine): boolean {
  return conn.transport.writable && conn.readyState === "open";
}

/** Sends Engine.IO's packet `ping`. @param socket of Engine.IO */
export function ping(socket: object): void {
  const conn = socket as Engine & { sendPacket(type: "ping"): void };
  const tcp = tcpOf(conn);
  if (tcp !== undefined && isFree(conn)) tcp.write(pingFrame);
  else conn.sendPacket("ping");
}
