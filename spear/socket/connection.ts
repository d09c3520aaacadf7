/** One client's connection: what socket.io lets it do, and what is written to it. */
import { within } from "@gru/shared/within";
import { Buffer } from "node:buffer";
import type { ServerResponse } from "node:http";
import { type Disconnect, disconnects } from "../disconnects.ts";
import {
  addressOf,
  answerPingsOnce,
  endAfterAll,
  endNow,
  endPolling,
  type EngineSocket,
  heldBytes,
  isFree,
  lastWordsMs,
  limitRequests,
  listenToFrames,
  rest,
  stopReading,
  tcpOf,
  writeThrough,
} from "./engine_io.ts";
import { Outlet, type Sink, type SlowConsumer, type WriteScheduler } from "./write_scheduler.ts";
import { forgetPings, pingRides } from "./heartbeat.ts";
import { type Incoming, read } from "./incoming.ts";
import type { ClientConnection } from "./open_connections.ts";
import { Aside, type Batch, type Frame, Missed, missedOf, Packet } from "../packets.ts";
import { type Result, resultJson, sizeOf, type Target } from "../wire.ts";

/** What may wait for a client before it has authenticated: no more than a few answers. */
const beforeAuth: SlowConsumer = { waitingBytes: 65_536, policy: "disconnect" };

/** What Engine.IO itself deals with. */
const ownPackets: ReadonlySet<string> = new Set(["ping", "pong", "noop", "error"]);

/** These and the answers to them say nothing of where a client is in its targets. */
const asides: ReadonlySet<string> = new Set(["msg", "online", "presence"]);

/** A longer namespace of a client is not repeated to it. */
const longestNamespace = 200;

export interface SocketConnectionOptions {
  readonly scheduler: WriteScheduler;
  readonly slow: SlowConsumer;
  /** A packet of more bytes ends the connection. */
  readonly payloadBytes: number;
}

/** Of a session. */
interface Served {
  readonly userId: string | undefined;
  handle(
    event: string,
    argument: unknown,
    reply: (result: Result) => void,
    surplus: number,
  ): Promise<void>;
  acknowledged(size: number): void;
  /** Its client is told that these do not come. */
  noteMissed(missed: Missed): void;
}

interface Home<S> {
  ended(session: S, why?: Disconnect): void;
}

const client = Symbol("client");

interface Known extends EngineSocket {
  [client]?: SocketConnection;
}

/** The connection on a socket of Engine.IO, if it has one. */
export function connectionOn(conn: EngineSocket | undefined): SocketConnection | undefined {
  return (conn as Known | undefined)?.[client];
}

/** From the handshake to the end of the client's one session. */
export class SocketConnection implements ClientConnection, Sink {
  readonly #conn: EngineSocket;
  readonly #slow: SlowConsumer;
  readonly #payloadBytes: number;
  /**
   * io.socket's clients for the JVM and Android take a close frame for a question, which they do not answer: they would
   * wait for a ping, up to 45 s.
   */
  readonly missesCloseFrames: boolean;
  readonly #outlet: Outlet;
  #session: Served | undefined;
  #home: Home<Served> | undefined;
  #state: "new" | "joined" | "ended" = "new";
  /** The TCP socket took what was written last, but no more until it drains. */
  #full = false;
  /** An event whose attachments are still to come. */
  #incomplete: { readonly event: Incoming; missing: number; bytes: number } | undefined;
  /** What was answered to the last poll, while it has not left; then what is to happen at the next one. */
  #answer: ServerResponse | undefined;
  #nextPoll: (() => void) | undefined;
  #pollWaits = false;

  constructor(conn: EngineSocket, { scheduler, slow, payloadBytes }: SocketConnectionOptions) {
    this.#conn = conn;
    this.#slow = slow;
    this.#payloadBytes = payloadBytes;
    this.missesCloseFrames = /^okhttp\//.test(String(conn.request?.headers["user-agent"]));
    this.#outlet = new Outlet(scheduler, this, beforeAuth);
  }

  get about() {
    const transport: "websocket" | "polling" = this.#conn.transport.name === "websocket"
      ? "websocket"
      : "polling";
    return { transport, address: addressOf(this.#conn) };
  }

  serve<S extends Served>(session: S, home: Home<S>): void {
    this.#session = session;
    this.#home = home as Home<Served>;
    const conn = this.#conn as Known;
    conn[client] = this;
    conn.on("packet", onPacket);
    conn.on("close", onClose);
    answerPingsOnce(conn);
    listenToFrames(conn, this);
    limitRequests(conn, this.requestBytes);
    // Clients of protocol 3 expect to be in without asking.
    if (conn.protocol === 3) this.#join("0");
  }

  /** A packet of Engine.IO; a message of it is a packet of socket.io, or an attachment of one. */
  receive({ type, data }: { readonly type: string; readonly data?: string | Uint8Array }): void {
    if (this.#state === "ended") return stopReading(this.#conn);
    if (ownPackets.has(type)) return this.heard();
    if (type === "close") return this.#leave();
    if (type !== "message") return this.close(disconnects.protocolError);
    if (data instanceof Uint8Array) this.#takeAttachment(data.length);
    else this.#receive(data ?? "");
  }

  /** Something that no event came of: it costs, too, where it comes thousands of times. */
  heard(): void {
    this.#session?.acknowledged(0);
  }

  #receive(data: string): void {
    if (this.#isOversized(data)) return this.#refuseOversized(Buffer.byteLength(data));
    let packet;
    try {
      packet = read(data);
    } catch {
      return this.close(disconnects.protocolError);
    }
    if (this.#incomplete !== undefined) return this.close(disconnects.protocolError);
    const { type, namespace } = packet;
    if (namespace !== "/") return this.#refuseNamespace(namespace);
    if (type === "connect" && this.#state === "new") {
      return this.#join(`0${JSON.stringify({ sid: crypto.randomUUID() })}`);
    }
    if (this.#state === "new" || type === "connect" || type === "error") {
      return this.close(disconnects.protocolError);
    }
    if (type === "disconnect") return this.#leave();
    if (packet.attachments > 0) {
      this.#incomplete = { event: packet, missing: packet.attachments, bytes: 0 };
    } else this.#take(packet);
  }

  #takeAttachment(bytes: number): void {
    const incomplete = this.#incomplete;
    if (incomplete === undefined) return this.close(disconnects.protocolError);
    incomplete.bytes += bytes;
    if (--incomplete.missing > 0) return;
    this.#incomplete = undefined;
    this.#take(incomplete.event, incomplete.bytes);
  }

  #join(answer: string): void {
    this.#state = "joined";
    this.#outlet.push(new Packet(answer));
  }

  /** Clients know this answer; it is the last that they get. */
  #refuseNamespace(namespace: string): void {
    if (namespace.length > longestNamespace) return this.close(disconnects.protocolError);
    const message = "Invalid namespace";
    const error = this.#conn.protocol === 3 ? message : { message };
    this.#outlet.push(new Packet(`4${namespace},${JSON.stringify(error)}`));
    this.#leave();
  }

  /** After what was written. */
  #leave(why?: Disconnect): void {
    this.#outlet.flushNow();
    this.#ended(why);
    endAfterAll(this.#conn, why);
  }

  /** @param attached bytes that came beside its arguments */
  #take({ type, args, id }: Incoming, attached = 0): void {
    // We ask for none: one that comes all the same means nothing, but costs.
    if (type !== "event") return this.#session?.acknowledged(attached + sizeOf(args));
    const event = String(args[0]);
    void this.#session?.handle(event, args[1], (result) => {
      const json = resultJson(result);
      const answer = id === undefined
        ? `2[${JSON.stringify(`${event.slice(0, 64)}_result`)},${json}]`
        : `3${id}[${json}]`;
      this.#outlet.push(packetOf(event, answer));
    }, attached + (args.length > 2 ? sizeOf(args) : event.length));
  }

  send(frame: Frame): void {
    this.#outlet.push(frame);
  }

  emit(event: string, argument: object): void {
    this.#outlet.push(packetOf(event, `2${JSON.stringify([event, argument])}`));
  }

  lost(target: Target, epoch: string, from: number, to: number): void {
    this.#outlet.push(new Missed(target, epoch, from, to));
  }

  close(why: Disconnect): void {
    if (this.#state === "ended") return;
    // Its DISCONNECT: after that a stock client does not return by itself.
    if (!why.comesBack && this.#state === "joined") this.#outlet.push(new Packet("1"));
    if (!why.atOnce) return this.#leave(why);
    this.#outlet.flushNow();
    this.#ended(why);
    endNow(this.#conn, why);
  }

  rest(ms: number): void {
    rest(this.#conn, ms);
  }

  drained(): Promise<void> {
    return this.#outlet.drained();
  }

  /** It is over, whoever ended it. */
  #ended(why?: Disconnect): void {
    if (this.#state === "ended") return;
    this.#state = "ended";
    this.#outlet.close();
    this.#incomplete = undefined;
    const session = this.#session;
    if (session !== undefined) this.#home?.ended(session, why);
  }

  /** Its transport is gone. */
  gone(): void {
    forgetPings(this.#conn);
    endPolling(this.#conn);
    if (this.#answer !== undefined) endAnswer(this.#answer);
    this.#ended();
    this.#nextPoll?.();
  }

  /**
   * A poll. It is passed on when the answer to the one before has left: a client that sends polls and reads no
   * answers would be written ever more. @returns false where another one waits already, which is no honest client's
   */
  poll(response: ServerResponse, passOn: () => void): boolean {
    const before = this.#answer;
    if (before?.writableEnded) {
      if (this.#pollWaits) {
        this.close(disconnects.protocolError);
        return false;
      }
      this.#pollWaits = true;
      before.once("close", () => {
        this.#pollWaits = false;
        if (response.req.socket.destroyed) this.close(disconnects.protocolError);
        else this.poll(response, passOn);
      });
      return true;
    }
    this.#nextPoll?.();
    this.#nextPoll = undefined;
    this.#answer = response;
    response.once("close", () => {
      if (this.#answer === response) this.#answer = undefined;
    });
    passOn();
    return true;
  }

  /** Of one request of polling: socket.io-client 1 writes a text beyond ASCII in up to twice its bytes. */
  get requestBytes(): number {
    return this.#conn.protocol === 3 ? 2 * this.#payloadBytes : this.#payloadBytes;
  }

  #isOversized(data: string): boolean {
    return 3 * data.length > this.#payloadBytes && Buffer.byteLength(data) > this.#payloadBytes;
  }

  #refuseOversized(bytes: number): void {
    this.#tellOld(`a request of ${bytes} bytes was refused: at most ${this.#payloadBytes}`);
    this.#leave(disconnects.protocolError);
  }

  oversized(): string {
    const text = `a message was refused: at most ${this.#payloadBytes} bytes`;
    this.#tellOld(text);
    return text;
  }

  /** As an event `error`. New clients would take that for the end of everything. */
  #tellOld(text: string): void {
    if (this.#conn.protocol !== 3 || this.#state !== "joined") return;
    this.#outlet.push(new Packet(`4${JSON.stringify(text)}`));
    this.#outlet.flushNow();
  }

  /**
   * Something that it sent by polling is too large. Old clients are given no reason when their request fails: they
   * get it as an event `error` before that. Resolves when it may have read this: to whether it was told.
   */
  async refusePayload(text: string): Promise<boolean> {
    if (this.#conn.protocol !== 3 || this.#state === "ended") return false;
    this.#outlet.push(new Packet(`4${JSON.stringify(text)}`));
    this.#outlet.flush();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#nextPoll = resolve;
    await within(promise, lastWordsMs);
    return true;
  }

  get writable(): boolean {
    return !this.#full && isFree(this.#conn);
  }

  get heldBytes(): number {
    return heldBytes(this.#conn) + (this.#answer?.writableLength ?? 0);
  }

  get waitingBytes(): number {
    return this.#outlet.waitingBytes + this.heldBytes;
  }

  get slow(): SlowConsumer {
    return this.#session?.userId === undefined ? beforeAuth : this.#slow;
  }

  write(batch: Batch): void {
    const conn = this.#conn;
    const tcp = tcpOf(conn);
    // Through Engine.IO and `ws` it takes 40 % longer.
    if (tcp === undefined || !isFree(conn)) return writeThrough(conn, batch);
    if (tcp.write(pingRides(conn) ? batch.joinedWithPing : batch.joined)) return;
    this.#full = true;
    tcp.once("drain", () => this.#full = false);
  }

  whenWritable(callback: () => void): void {
    const conn = this.#conn;
    const { transport } = conn;
    const tcp = this.#full ? tcpOf(conn) : undefined;
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

  missed(dropped: readonly (Frame | Missed)[]): readonly Packet[] {
    const missed = missedOf(dropped);
    for (const span of missed) this.#session?.noteMissed(span);
    return missed;
  }

  cutOff(): void {
    this.close(disconnects.slowConsumer);
  }
}

/** Of an event, or of the answer to it. */
function packetOf(event: string, text: string): Packet {
  return asides.has(event) ? new Aside(text) : new Packet(text);
}

/** A client that does not read it must not have it kept for ever: nothing else ends its TCP connection. */
function endAnswer(answer: ServerResponse): void {
  const timer = setTimeout(() => answer.req.socket.destroy(), lastWordsMs);
  answer.once("close", () => clearTimeout(timer));
}

function onPacket(this: Known, packet: Parameters<SocketConnection["receive"]>[0]): void {
  this[client]?.receive(packet);
}

function onClose(this: Known): void {
  this[client]?.gone();
}
