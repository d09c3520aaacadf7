/** Raw HTTP clients for tests. They send what no normal client would send, in every protocol that a port speaks. */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import type { TlsFiles } from "../http/serve.ts";

export interface RawRequest {
  readonly method: "GET" | "POST";
  readonly path?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** The request has no body. */
  readonly ends: boolean;
}

/** Writes requests in one of the two protocols. */
export interface Speech {
  readonly name: "HTTP/1.1" | "HTTP/2";
  /** The first bytes of a connection. */
  readonly begin: Buffer;
  request(request: RawRequest, stream?: number): Buffer;
  /** Headers that never end: one more `drip` can always follow. */
  readonly endlessHeaders: { readonly head: Buffer; readonly drip: Buffer };
  /** A part of a body without a declared length. */
  piece(content: Buffer, stream?: number): Buffer;
  /** A part of a body with a declared length. */
  declared(content: Buffer, stream?: number): Buffer;
}

const none = Buffer.alloc(0);

export const http1: Speech = {
  name: "HTTP/1.1",
  begin: none,
  request({ method, path = "/", headers = {}, ends }) {
    const unknown = !ends && headers["content-length"] === undefined;
    const all = { host: "x", ...(unknown ? { "transfer-encoding": "chunked" } : {}), ...headers };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    return Buffer.from(`${method} ${path} HTTP/1.1\r\n${lines.join("")}\r\n`);
  },
  endlessHeaders: { head: Buffer.from("GET / HTTP/1.1\r\nhost: x\r\nx: "), drip: Buffer.from("x") },
  piece: (content) =>
    Buffer.concat([
      Buffer.from(`${content.length.toString(16)}\r\n`),
      content,
      Buffer.from("\r\n"),
    ]),
  declared: (content) => content,
};

/** RFC 9113. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** RFC 7541, without compression. */
function field(name: string, value: string): Buffer {
  const text = (content: string) => {
    if (content.length > 126) throw new RangeError(`A field of ${content.length} characters`);
    return Buffer.from([content.length, ...Buffer.from(content)]);
  };
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

function fields({ method, path = "/", headers = {} }: Omit<RawRequest, "ends">): Buffer {
  const all = {
    ":method": method,
    ":scheme": "http",
    ":authority": "x",
    ":path": path,
    ...headers,
  };
  return Buffer.concat(Object.entries(all).map(([name, value]) => field(name, value)));
}

export const http2: Speech = {
  name: "HTTP/2",
  begin: Buffer.concat([
    Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    frame(4, 0, 0, none),
    // So that large answers fit into the flow-control window.
    frame(8, 0, 0, Buffer.from([0, 0xff, 0xff, 0xff])),
  ]),
  request: (request, stream = 1) => frame(1, request.ends ? 0x5 : 0x4, stream, fields(request)),
  endlessHeaders: {
    head: frame(1, 0x1, 1, fields({ method: "GET" })),
    drip: frame(9, 0, 1, field("x-y", "z")),
  },
  piece: (content, stream = 1) => frame(0, 0, stream, content),
  declared: (content, stream = 1) => frame(0, 0, stream, content),
};

export interface RawConnection extends Disposable {
  readonly socket: Socket;
  /** Everything received so far. */
  readonly text: string;
  readonly isClosed: boolean;
  readonly closed: Promise<void>;
}

/** A connection that is open and has sent the first bytes of its protocol. */
export async function rawConnection(
  { host = "127.0.0.1", port, speech, tls }: {
    readonly host?: string;
    readonly port: number;
    readonly speech: Speech;
    readonly tls?: Partial<TlsFiles> | undefined;
  },
): Promise<RawConnection> {
  const isHttp2 = speech.name === "HTTP/2";
  const socket = tls === undefined ? connect({ host, port }) : connectTls({
    ...{ host, port, ...tls },
    ALPNProtocols: [isHttp2 ? "h2" : "http/1.1"],
  });
  let text = "";
  const closed = Promise.withResolvers<void>();
  socket.on("data", (data: Buffer) => text += data.toString("latin1"));
  socket.on("error", () => {});
  socket.on("close", () => closed.resolve());
  await new Promise<void>((resolve) => {
    socket.once(tls === undefined ? "connect" : "secureConnect", () => resolve());
    socket.once("close", () => resolve());
  });
  if (speech.begin.length > 0) socket.write(speech.begin);
  return {
    socket,
    get text() {
      return text;
    },
    get isClosed() {
      return socket.destroyed;
    },
    closed: closed.promise,
    [Symbol.dispose]: () => socket.destroy(),
  };
}
