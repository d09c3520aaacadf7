/**
 * One HTTP port: HTTP/1.1 and HTTP/2 (with prior knowledge, or TLS with ALPN), mutual TLS if configured, and one set of
 * limits for all of them.
 */
import type { Server } from "node:http";
import { bracketed } from "../address.ts";
import { boundBodies } from "./body.ts";
import { Connections, lastWordsMs } from "./connections.ts";
import { http1Server } from "./http1.ts";
import { http2Side } from "./http2.ts";
import { defaultLimits, type HttpHandler, type HttpServer, type ServeOptions } from "./options.ts";
import { within } from "../within.ts";

export * from "./options.ts";

/** The port or the address cannot be used. The message is for the operator who started the program. */
export class CannotListenError extends Error {
  override readonly name = "CannotListenError";

  constructor(host: string, port: number, cause: unknown) {
    super(`Cannot listen on ${bracketed(host)}:${port}: ${reasonOf(cause)}`, { cause });
  }
}

/**
 * Listens until disposed. Disposing closes the port, lets requests under way finish for `drainMs`, answers 503 to those
 * that have not finished, and resolves at most one second later.
 *
 * @throws {CannotListenError}
 */
export async function serveHttp(options: ServeOptions): Promise<HttpServer> {
  const { host, port, handler, tls, log, bodyBytes = 65_536, drainMs = 10_000 } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const underWay = new UnderWay(boundBodies(handler, bodyBytes));

  function onError(error: unknown): Response {
    log?.error("A request's handler failed: {error}", { error });
    return new Response(null, { status: 500 });
  }

  const connections = new Connections(limits);
  const common = { handler: underWay.handle, onError, limits, connections };
  const http2 = options.http2 === false ? undefined : http2Side(common);
  const { upgrade } = options;
  const server = http1Server({ ...common, tls, upgrade, http2: http2?.take });
  try {
    await listen(server, host, port);
  } catch (cause) {
    connections[Symbol.dispose]();
    await http2?.shutdown();
    throw new CannotListenError(host, port, cause);
  }

  async function close(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    await underWay.end(Promise.all([http2?.shutdown(), connections.drain()]), drainMs);
    connections[Symbol.dispose]();
    server.closeAllConnections();
    await closed;
  }

  const address = server.address() as { port: number };
  let closing: Promise<void> | undefined;
  return {
    port: address.port,
    origin: originOf(tls === undefined ? "http" : "https", host, address.port),
    [Symbol.asyncDispose]: () => closing ??= close(),
  };
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, resolve);
  });
}

/** A handler whose pending answers can be forced. */
class UnderWay {
  readonly #handler: HttpHandler;
  readonly #answers = new Set<(answer: Response) => void>();

  constructor(handler: HttpHandler) {
    this.#handler = handler;
  }

  readonly handle: HttpHandler = (request, caller) => {
    const answer = this.#handler(request, caller);
    if (answer instanceof Response) return answer;
    return new Promise((resolve, reject) => {
      this.#answers.add(resolve);
      answer.then(resolve, reject).finally(() => this.#answers.delete(resolve));
    });
  };

  /**
   * Resolves with `closed`, or a second after `drainMs`. A server has no good way to cut a connection short: after
   * `drainMs` pending requests are answered with 503.
   */
  async end(closed: Promise<unknown>, drainMs: number): Promise<void> {
    const forced = setTimeout(() => {
      for (const resolve of this.#answers) resolve(new Response(null, { status: 503 }));
    }, drainMs);
    await within(closed, drainMs + lastWordsMs);
    clearTimeout(forced);
  }
}

export function originOf(scheme: "http" | "https", host: string, port: number): string {
  return `${scheme}://${bracketed(host)}:${port}`;
}

const reasons: Readonly<Record<string, string>> = {
  EADDRINUSE: "the port is in use",
  EACCES: "ports below 1024 need a permission of the system",
  // Deno 2.9 reports EINVAL for an address that this machine does not have.
  EINVAL: "this machine has no such address",
  EADDRNOTAVAIL: "this machine has no such address",
  ENOTFOUND: "no machine has this name",
};

function reasonOf(cause: unknown): string {
  if (cause instanceof Deno.errors.AddrInUse) return "the port is in use";
  const { code = "", message = String(cause) } = cause as { code?: string; message?: string };
  return reasons[code] ?? message;
}
