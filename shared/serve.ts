/** One HTTP port: HTTP/1.1 and HTTP/2 (cleartext with prior knowledge, or TLS with ALPN) over `Deno.serve`. */
import type { Logger } from "./log.ts";

export interface TlsFiles {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
  /** PEM: whose certificates callers must show. Only {@linkcode openHttp} of `serve_tls.ts` can ask for them. */
  readonly ca?: string;
}

export type HttpHandler = (
  request: Request,
  info: Deno.ServeHandlerInfo<Deno.NetAddr>,
) => Response | Promise<Response>;

export interface ServeOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** When it throws or rejects, the answer is an empty 500 and the error is logged. */
  readonly handler: HttpHandler;
  readonly tls?: TlsFiles | undefined;
  readonly log?: Logger;
  /** How long disposing waits for requests under way. Default 10 000. */
  readonly drainMs?: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
  /** `http://host:port` or `https://host:port` */
  readonly origin: string;
}

/** After forced answers, how long their way out may take. */
const lastWordsMs = 1000;

/**
 * Listens until disposed. Disposing closes the port, lets requests under way finish for `drainMs`, answers by 503
 * those whose handlers have not, and resolves at the latest a second later.
 *
 * @throws {Error} naming `host:port` when it cannot be listened on, and when `tls.ca` is given: `Deno.serve` does
 * not ask for client certificates.
 */
export function serveHttp(options: ServeOptions): HttpServer {
  const { host, port, handler, tls, log, drainMs = 10_000 } = options;
  if (tls?.ca !== undefined) {
    throw new Error(`Cannot listen on ${host}:${port}: client certificates are not asked for here`);
  }
  const underWay = new Set<(answer: Response) => void>();

  function serve(
    request: Request,
    info: Deno.ServeHandlerInfo<Deno.NetAddr>,
  ): Response | Promise<Response> {
    const answer = handler(request, info);
    if (answer instanceof Response) return answer;
    return new Promise((resolve, reject) => {
      underWay.add(resolve);
      answer.then(resolve, reject).finally(() => underWay.delete(resolve));
    });
  }

  function onError(error: unknown): Response {
    log?.error("A request's handler failed: {error}", { error });
    return new Response(null, { status: 500 });
  }

  const server = listening(host, port, () => {
    const plain = { hostname: host, port, onListen: () => {}, onError };
    return tls === undefined
      ? Deno.serve(plain, serve)
      : Deno.serve({ ...plain, cert: tls.cert, key: tls.key }, serve);
  });

  async function close(): Promise<void> {
    // Deno.serve offers no way to cut connections once a graceful shutdown has begun: answers are forced instead.
    const forced = setTimeout(() => {
      for (const resolve of underWay) resolve(new Response(null, { status: 503 }));
    }, drainMs);
    await within(server.shutdown(), drainMs + lastWordsMs);
    clearTimeout(forced);
  }

  let closing: Promise<void> | undefined;
  return {
    port: server.addr.port,
    origin: originOf(tls === undefined ? "http" : "https", host, server.addr.port),
    [Symbol.asyncDispose]: () => closing ??= close(),
  };
}

export function originOf(scheme: "http" | "https", host: string, port: number): string {
  return `${scheme}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function listening<T>(host: string, port: number, start: () => T): T {
  try {
    return start();
  } catch (cause) {
    throw cannotListen(host, port, cause);
  }
}

export function cannotListen(host: string, port: number, cause: unknown): Error {
  const inUse = cause instanceof Deno.errors.AddrInUse ||
    (cause as { code?: string }).code === "EADDRINUSE";
  const reason = inUse ? "the port is in use" : String(cause);
  return new Error(`Cannot listen on ${host}:${port}: ${reason}`, { cause });
}

/** Resolves with the promise, or after `ms` without it. */
async function within(promise: Promise<void>, ms: number): Promise<void> {
  let timer;
  const limit = new Promise<void>((resolve) => timer = setTimeout(resolve, ms));
  await Promise.race([promise, limit]);
  clearTimeout(timer);
}
