/**
 * A WebSocket client on a bare TCP socket: text frames only, no extensions, no fragments. It implements only what the
 * protocols above need of RFC 6455; the native client costs several times as much for each connection and message.
 */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";

export interface Address {
  readonly host: string;
  readonly port: number;
  /** The local address to connect from: one address has at most 28 000 ports. */
  readonly localAddress?: string | undefined;
}

export interface RawWebSocketOptions extends Address {
  /** With the query. */
  readonly path: string;
  readonly onClose?: (() => void) | undefined;
  readonly onCloseFrame?: ((code: number) => void) | undefined;
}

/**
 * Bytes of `data` from `start` to before `end`: at millions per second, a Buffer for each costs more than reading it. They
 * are valid only during the call.
 */
export type OnBytes = (data: Buffer, start: number, end: number) => void;

const opcode = { text: 1, close: 8, ping: 9, pong: 10 } as const;

/** Shared by all reads: a separate buffer for each costs as much as the rest of the read. */
const scratch = Buffer.alloc(65_536);

export abstract class RawWebSocket {
  readonly #socket: Socket;
  readonly #onCloseFrame: ((code: number) => void) | undefined;
  #onChunk = (_chunk: Buffer) => {};
  #rest: Buffer | undefined;
  #closed = false;
  readonly closed: Promise<void>;
  /** Settles when the server has accepted the upgrade, or with its answer as an error. */
  protected readonly upgraded: Promise<void>;

  protected constructor(options: RawWebSocketOptions) {
    const { host, port, localAddress, onClose, onCloseFrame } = options;
    this.#onCloseFrame = onCloseFrame;
    this.#socket = connect({
      ...{ host, port, noDelay: true },
      ...(localAddress === undefined ? {} : { localAddress }),
      onread: {
        buffer: scratch,
        callback: (length) => {
          this.#onChunk(scratch.subarray(0, length));
          return true;
        },
      },
    });
    this.closed = new Promise((resolve) => {
      this.#socket.on("close", () => {
        this.#closed = true;
        onClose?.();
        resolve();
      });
    });
    this.upgraded = this.#upgrade(options);
  }

  /** A text frame of the server. */
  protected abstract onText(data: Buffer, start: number, end: number): void;

  /** Sends a text frame. */
  sendText(text: string): void {
    this.#write(opcode.text, text);
  }

  /** Sends any bytes. Returns false: wait before sending more. */
  sendRaw(bytes: Uint8Array): boolean {
    return !this.#closed && this.#socket.write(bytes);
  }

  /** Stops reading; the server is not notified. */
  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  /** Cuts the connection: no closing handshake. */
  close(): void {
    this.#socket.destroy();
  }

  async #upgrade({ host, port, path }: RawWebSocketOptions): Promise<void> {
    const socket = this.#socket;
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    socket.on("error", () => socket.destroy());
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: ${host}:${port}\r\n` +
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
    );
    await new Promise<void>((resolve, reject) => {
      let head = Buffer.alloc(0);
      this.#onChunk = (chunk) => {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        if (!head.subarray(0, 12).equals(Buffer.from("HTTP/1.1 101"))) {
          socket.destroy();
          return reject(new Error(`no WebSocket at ${host}:${port}: ${head.toString("latin1")}`));
        }
        this.#onChunk = (data) => this.#read(data);
        resolve();
        this.#read(head.subarray(end + 4));
      };
      socket.on("close", () => reject(new Error(`${host}:${port} closed the connection`)));
    });
  }

  #write(code: number, text: string): void {
    if (this.#closed) return;
    const length = Buffer.byteLength(text);
    const header = length < 126 ? 6 : length < 65_536 ? 8 : 14;
    const frame = Buffer.alloc(header + length);
    frame[0] = 0x80 | code;
    // The mask is 0: any mask is allowed, and this one leaves the bytes unchanged.
    if (length < 126) {
      frame[1] = 0x80 | length;
    } else if (length < 65_536) {
      frame[1] = 0x80 | 126;
      frame.writeUInt16BE(length, 2);
    } else {
      frame[1] = 0x80 | 127;
      frame.writeBigUInt64BE(BigInt(length), 2);
    }
    frame.write(text, header);
    this.#socket.write(frame);
  }

  #read(chunk: Buffer): void {
    let data = chunk;
    if (this.#rest !== undefined) {
      data = Buffer.concat([this.#rest, chunk]);
      this.#rest = undefined;
    }
    let at = 0;
    while (at + 2 <= data.length) {
      let length = (data[at + 1] ?? 0) & 127;
      let start = at + 2;
      if (length === 126) {
        start += 2;
        if (start > data.length) break;
        length = data.readUInt16BE(at + 2);
      } else if (length === 127) {
        start += 8;
        if (start > data.length) break;
        length = Number(data.readBigUInt64BE(at + 2));
      }
      const end = start + length;
      if (end > data.length) break;
      this.#take((data[at] ?? 0) & 15, data, start, end);
      at = end;
    }
    if (at < data.length) this.#rest = Buffer.from(data.subarray(at));
  }

  #take(code: number, data: Buffer, start: number, end: number): void {
    if (code === opcode.text) return this.onText(data, start, end);
    if (code === opcode.ping) return this.#write(opcode.pong, data.toString("utf8", start, end));
    if (code !== opcode.close) return;
    if (end - start >= 2) this.#onCloseFrame?.(data.readUInt16BE(start));
    this.close();
  }
}
