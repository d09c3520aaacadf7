/**
 * A socket.io client on a bare TCP socket, WebSocket only: for load, where a full client would be the bottleneck, and
 * for tests that must misbehave. It implements only what it needs of RFC 6455 and of the protocols above.
 */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";

export type RawClientOptions = Address & Receiver;

interface Address {
  readonly host: string;
  readonly port: number;
  /** The local address to connect from: one address has at most 28 000 ports. */
  readonly localAddress?: string;
  /** Query parameters of the handshake. */
  readonly query?: string;
}

/** Gets each socket.io packet as received (`20["msg",…]`). Engine.IO's own packets are handled here. */
type Receiver =
  & { readonly onClose?: () => void; readonly onCloseFrame?: (code: number) => void }
  & (
    | { readonly onPacket: (packet: Buffer) => void }
    /**
     * Bytes of `data` from `start` to before `end`: at millions per second, a Buffer for each costs more than reading
     * it.
     */
    | { readonly onBytes: OnBytes }
  );

type OnBytes = (data: Buffer, start: number, end: number) => void;

const opcode = { text: 1, close: 8, ping: 9 } as const;
/** The first character of an Engine.IO packet. */
const engine = { open: 48, ping: 50, message: 52 } as const;

/** Shared by all reads: a separate buffer for each costs as much as the rest of the read. */
const scratch = Buffer.alloc(65_536);

export class RawClient {
  readonly #socket: Socket;
  readonly #onBytes: OnBytes;
  readonly #onCloseFrame: ((code: number) => void) | undefined;
  readonly #asksToJoin: boolean;
  #rest: Buffer | undefined;
  #closed = false;
  readonly closed: Promise<void>;

  private constructor(
    socket: Socket,
    onBytes: OnBytes,
    { onClose, onCloseFrame, query = "" }: Pick<
      RawClientOptions,
      "onClose" | "onCloseFrame" | "query"
    >,
  ) {
    this.#socket = socket;
    this.#asksToJoin = !query.startsWith("EIO=3");
    this.#onBytes = onBytes;
    this.#onCloseFrame = onCloseFrame;
    this.closed = new Promise((resolve) => {
      socket.on("close", () => {
        this.#closed = true;
        onClose?.();
        resolve();
      });
    });
  }

  /** Resolves when the namespace is joined. @throws {Error} with the server's answer otherwise. */
  static async connect(options: RawClientOptions): Promise<RawClient> {
    const { host, port, localAddress, query = "EIO=4&transport=websocket" } = options;
    let onChunk = (_chunk: Buffer) => {};
    const socket = connect({
      ...{ host, port, noDelay: true },
      ...(localAddress === undefined ? {} : { localAddress }),
      onread: {
        buffer: scratch,
        callback: (length) => {
          onChunk(scratch.subarray(0, length));
          return true;
        },
      },
    });
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    const onBytes: OnBytes = "onBytes" in options
      ? options.onBytes
      : (data, start, end) => options.onPacket(Buffer.from(data.subarray(start, end)));
    let joined = () => {};
    const client = new RawClient(socket, (data, start, end) => {
      // `40{"sid":…}`, once; everything after it is for the user.
      if (data[start] === 48) joined();
      else onBytes(data, start, end);
    }, options);
    socket.on("error", () => socket.destroy());
    socket.write(
      `GET /socket.io/?${query} HTTP/1.1\r\nHost: ${host}:${port}\r\n` +
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
        "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
    );
    await new Promise<void>((resolve, reject) => {
      joined = resolve;
      let head = Buffer.alloc(0);
      onChunk = (chunk) => {
        head = Buffer.concat([head, chunk]);
        const end = head.indexOf("\r\n\r\n");
        if (end < 0) return;
        if (!head.subarray(0, 12).equals(Buffer.from("HTTP/1.1 101"))) {
          socket.destroy();
          return reject(new Error(`no WebSocket at ${host}:${port}: ${head.toString("latin1")}`));
        }
        onChunk = (data) => client.#read(data);
        client.#read(head.subarray(end + 4));
      };
      socket.on("close", () => reject(new Error(`${host}:${port} closed the connection`)));
    });
    return client;
  }

  /** A socket.io packet, e.g. `2["msg",{…}]`. */
  send(packet: string): void {
    this.#write(opcode.text, `4${packet}`);
  }

  /** A packet of Engine.IO, e.g. `3`. */
  sendEngine(packet: string): void {
    this.#write(opcode.text, packet);
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

  close(): void {
    this.#socket.destroy();
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
    if (code === opcode.close) {
      if (end - start >= 2) this.#onCloseFrame?.(data.readUInt16BE(start));
      return this.close();
    }
    if (code === opcode.ping) return this.#write(10, data.toString("utf8", start, end));
    if (code !== opcode.text) return;
    if (data[start] === engine.message) this.#onBytes(data, start + 1, end);
    // Not earlier: packets sent before the server has answered may get lost in its handshake. In Engine.IO 3 the server
    // joins the client by itself.
    else if (data[start] === engine.open) this.#asksToJoin && this.send("0");
    else if (data[start] === engine.ping) this.#write(opcode.text, "3");
  }
}
