/**
 * Mutual TLS before `Deno.serve`, which itself never asks callers for certificates (Deno 2.9). `node:tls` does; it takes the
 * connections, checks the certificates and passes the bytes on to a `Deno.serve` on the loopback interface, which
 * answers nobody but these connections. Beside plain TLS it takes a tenth of the throughput, and doubles the time of a
 * lone call, which stays below 0.2 ms.
 */
import { connect, type Socket } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
import {
  cannotListen,
  type HttpServer,
  originOf,
  serveHttp,
  type ServeOptions,
  type TlsFiles,
} from "./serve.ts";

const loopback = "127.0.0.1";

/**
 * Like {@linkcode serveHttp}, and with `tls.ca` only for callers that show a certificate from one of those authorities:
 * all others fail in the handshake, before any request is read.
 */
export async function openHttp(options: ServeOptions): Promise<HttpServer> {
  const { tls } = options;
  return tls?.ca === undefined ? serveHttp(options) : await serveMutualTls(options, tls);
}

async function serveMutualTls(options: ServeOptions, tls: TlsFiles): Promise<HttpServer> {
  const { host, port, handler, tls: _, ...rest } = options;
  // The callers behind our own connections to the inner port, by the port these come from.
  const callers = new Map<number, Deno.NetAddr>();
  const inner = serveHttp({
    ...rest,
    host: loopback,
    port: 0,
    handler: (request, info) => {
      const remoteAddr = callers.get(info.remoteAddr.port);
      return remoteAddr === undefined
        ? new Response(null, { status: 403 })
        : handler(request, { ...info, remoteAddr });
    },
  });
  const open = new Set<Socket | TLSSocket>();
  const front = createServer({
    cert: tls.cert,
    key: tls.key,
    ca: tls.ca,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["h2", "http/1.1"],
    noDelay: true,
  }, (outer) => pass(outer));
  // A handshake that failed is the caller's matter.
  front.on("tlsClientError", () => {});

  function pass(outer: TLSSocket): void {
    const passage = connect({ host: loopback, port: inner.port, noDelay: true });
    const forget = () => {
      if (passage.localPort !== undefined) callers.delete(passage.localPort);
    };
    for (const [socket, other] of [[outer, passage], [passage, outer]] as const) {
      open.add(socket);
      socket.on("error", () => socket.destroy());
      socket.on("close", () => {
        forget();
        open.delete(socket);
        other.destroy();
      });
    }
    passage.on("end", forget);
    passage.on("connect", () => {
      if (outer.destroyed) {
        passage.destroy();
        return;
      }
      callers.set(passage.localPort ?? 0, {
        transport: "tcp",
        hostname: outer.remoteAddress ?? "",
        port: outer.remotePort ?? 0,
      });
      outer.pipe(passage);
      passage.pipe(outer);
    });
  }

  async function close(): Promise<void> {
    const closed = new Promise<void>((resolve) => front.close(() => resolve()));
    await inner[Symbol.asyncDispose]();
    for (const socket of open) socket.destroy();
    await closed;
  }

  try {
    await new Promise<void>((resolve, reject) => {
      front.once("error", reject);
      front.listen({ host, port }, resolve);
    });
  } catch (cause) {
    await inner[Symbol.asyncDispose]();
    throw cannotListen(host, port, cause);
  }
  const address = front.address() as { port: number };
  let closing: Promise<void> | undefined;
  return {
    port: address.port,
    origin: originOf("https", host, address.port),
    [Symbol.asyncDispose]: () => closing ??= close(),
  };
}
