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

/** What a handler is told of a request beside itself. */
export interface Caller {
  readonly remoteAddr: Deno.NetAddr;
}

export type HttpHandler = (request: Request, caller: Caller) => Response | Promise<Response>;

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
  const underWay = new UnderWay(handler);

  function onError(error: unknown): Response {
    log?.error("A request's handler failed: {error}", { error });
    return new Response(null, { status: 500 });
  }

  const server = listening(host, port, () => {
    const plain = { hostname: host, port, onListen: () => {}, onError };
    return tls === undefined
      ? Deno.serve(plain, underWay.handle)
      : Deno.serve({ ...plain, cert: tls.cert, key: tls.key }, underWay.handle);
  });

  let closing: Promise<void> | undefined;
  return {
    port: server.addr.port,
    origin: originOf(tls === undefined ? "http" : "https", host, server.addr.port),
    [Symbol.asyncDispose]: () => closing ??= underWay.end(server.shutdown(), drainMs),
  };
}

/** A handler whose answers can be forced. */
export class UnderWay {
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
   * Resolves with `closed`, or a second after `drainMs`. A server offers no good way to cut a connection short: after `drainMs`
   * those who wait are answered by 503.
   */
  async end(closed: Promise<void>, drainMs: number): Promise<void> {
    const forced = setTimeout(() => {
      for (const resolve of this.#answers) resolve(new Response(null, { status: 503 }));
    }, drainMs);
    await within(closed, drainMs + lastWordsMs);
    clearTimeout(forced);
  }
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
