/**
 * One HTTP/1.1 port for strangers, over `node:http`: `Deno.serve` (2.9) waits for ever for a request that comes slowly, and
 * has no setting for it. A handler that does next to nothing gives a third fewer answers a second than with
 * {@linkcode serveHttp}, one that checks a token no fewer.
 */
import { createServer } from "node:http";
import { getRequestListener, type HttpBindings, RequestError } from "@hono/node-server";
import { cannotListen, type HttpServer, originOf, type ServeOptions, UnderWay } from "./serve.ts";

/** A token of 16 KB in a query is still to be read, and answered as the contract says. */
const maxHeaderBytes = 65_536;

/** A `Request` cannot have them. */
const forbiddenMethods = new Set(["CONNECT", "TRACE", "TRACK"]);

export interface ServePublicOptions extends Omit<ServeOptions, "tls"> {
  /**
   * By then a request's headers have been read, or its connection is closed; seen to once a second. Default 20 000: it counts while
   * this thread is busy, too, and in a storm whoever came in good order would be sent away and come again.
   */
  readonly headersMs?: number;
  /** By then the whole request has been read. Default 30 000. */
  readonly requestMs?: number;
}

/**
 * Listens until disposed, which is as {@linkcode serveHttp} has it.
 * @throws {Error} naming `host:port` when it cannot be listened on.
 */
export async function servePublic(options: ServePublicOptions): Promise<HttpServer> {
  const { host, port, handler, log, drainMs = 10_000 } = options;
  const { headersMs = 20_000, requestMs = 30_000 } = options;
  const underWay = new UnderWay(handler);

  function errorHandler(error: unknown): Response {
    if (error instanceof RequestError) return new Response(null, { status: 400 });
    log?.error("A request's handler failed: {error}", { error });
    return new Response(null, { status: 500 });
  }

  const listener = getRequestListener((request, bindings) => {
    const { remoteAddress = "", remotePort = 0 } = (bindings as HttpBindings).incoming.socket;
    if (forbiddenMethods.has(request.method)) return new Response(null, { status: 405 });
    return underWay.handle(genuine(request), {
      remoteAddr: { transport: "tcp", hostname: remoteAddress, port: remotePort },
    });
  }, { overrideGlobalObjects: false, errorHandler });
  const server = createServer({
    headersTimeout: headersMs,
    requestTimeout: requestMs,
    maxHeaderSize: maxHeaderBytes,
    connectionsCheckingInterval: Math.min(headersMs, 1000),
  }, (incoming, outgoing) => void listener(incoming, outgoing));

  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen({ host, port }, resolve);
    });
  } catch (cause) {
    throw cannotListen(host, port, cause);
  }

  async function close(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    await underWay.end(closed, drainMs);
    server.closeAllConnections();
    await closed;
  }

  const address = server.address() as { port: number };
  let closing: Promise<void> | undefined;
  return {
    port: address.port,
    origin: originOf("http", host, address.port),
    [Symbol.asyncDispose]: () => closing ??= close(),
  };
}

/**
 * The adapter's requests only look like one, and cannot be made into another, as middleware does that reads the body. Where none
 * comes they do: another one takes a tenth of the time of a ticket.
 */
function genuine(request: Request): Request {
  if (request.method === "GET" || request.method === "HEAD") return request;
  const { url, method, headers, signal, body } = request;
  return new Request(url, { method, headers, signal, body, duplex: "half" } as RequestInit);
}
