/** One HTTP port: HTTP/1.1 and HTTP/2 (cleartext with prior knowledge, or TLS with ALPN) over `Deno.serve`. */

export interface TlsFiles {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
  /** PEM. */
  readonly ca?: string;
}

export interface ServeOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  readonly handler: (
    request: Request,
    info: Deno.ServeHandlerInfo<Deno.NetAddr>,
  ) => Response | Promise<Response>;
  readonly tls?: TlsFiles;
  /** How long disposing waits for requests under way. Default 10 000. */
  readonly drainMs?: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
  /** `http://host:port` */
  readonly origin: string;
}

/**
 * Listens until disposed. Disposing closes the port, lets requests under way finish for `drainMs`, and answers
 * those that have not by 503.
 *
 * @throws {Error} naming `host:port` when it cannot be listened on.
 */
export function serveHttp(options: ServeOptions): HttpServer {
  const { host, port, handler, tls, drainMs = 10_000 } = options;
  const cut = Promise.withResolvers<void>();
  // One answer a request: a Response can be sent once only.
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

  const server = listen(host, port, serve, tls);
  let closing: Promise<void> | undefined;

  async function close(): Promise<void> {
    const finished = server.shutdown();
    // Deno.serve offers no way to cut connections once a graceful shutdown has begun, so answers are forced.
    const forced = setTimeout(() => {
      for (const resolve of underWay) resolve(new Response(null, { status: 503 }));
    }, drainMs);
    const abandoned = setTimeout(() => cut.resolve(), drainMs + 1000);
    await Promise.race([finished, cut.promise]);
    clearTimeout(forced);
    clearTimeout(abandoned);
  }

  return {
    port: server.addr.port,
    origin: `${tls === undefined ? "http" : "https"}://${urlHost(host)}:${server.addr.port}`,
    [Symbol.asyncDispose]: () => closing ??= close(),
  };
}

function listen(
  host: string,
  port: number,
  handler: Deno.ServeHandler<Deno.NetAddr>,
  tls: TlsFiles | undefined,
): Deno.HttpServer<Deno.NetAddr> {
  try {
    const options = { hostname: host, port, onListen: () => {} };
    return tls === undefined
      ? Deno.serve(options, handler)
      : Deno.serve({ ...options, cert: tls.cert, key: tls.key }, handler);
  } catch (cause) {
    const reason = cause instanceof Deno.errors.AddrInUse ? "the port is in use" : String(cause);
    throw new Error(`Cannot listen on ${host}:${port}: ${reason}`, { cause });
  }
}

function urlHost(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
