/** The options and the result of one HTTP port. */
import type { Socket } from "node:net";
import type { Logger } from "../log.ts";

export interface TlsFiles {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
  /**
   * PEM: the authorities of client certificates. Callers without such a certificate fail in the handshake, before any
   * request is read.
   */
  readonly ca?: string;
}

/** What a handler learns besides the request. */
export interface Caller {
  readonly remoteAddr: Deno.NetAddr;
}

export type HttpHandler = (request: Request, caller: Caller) => Response | Promise<Response>;

/** The same for HTTP/1.1 and HTTP/2, with and without TLS. Checked once a second. */
export interface HttpLimits {
  /**
   * The TLS handshake and a request's headers must be complete by then, or the connection is closed. The time also
   * counts while this thread is busy: a shorter limit would close connections of well-behaved clients under heavy load.
   */
  readonly headersMs: number;
  /** A whole request must be read by then; likewise its reader must have taken a whole answer by then. */
  readonly requestMs: number;
  /** How long a connection without a request stays open. */
  readonly keepAliveMs: number;
  /**
   * A query with a token of 16 KB must still be read and answered as the contract says. HTTP/1.1 only: HTTP/2 has 16
   * KB.
   */
  readonly headerBytes: number;
  /** One connection more closes the one that has been idle longest; if none is idle, the new one is closed. */
  readonly connections: number;
}

export const defaultLimits: HttpLimits = {
  headersMs: 20_000,
  requestMs: 30_000,
  keepAliveMs: 75_000,
  headerBytes: 65_536,
  connections: 10_000,
};

/** A larger request body is answered with 413, and the part over the limit is not stored. */
export type BodyLimit = number | ((request: Request) => number);

/** A connection that has left HTTP. It is closed when it has been quiet for `keepAliveMs`, and with the port. */
export interface Upgraded {
  readonly socket: Socket;
  /** Something has begun that the port waits for when it closes. */
  began(): void;
  ended(): void;
}

/** For connections that are to leave HTTP/1.1, by the header `Upgrade`. */
export interface Upgrade {
  /** As the header names it. A request for another one is answered as if it had not asked. */
  readonly protocol: string;
  /** The answer of a refusal; or the headers of the answer 101, behind which `use` has the connection. */
  readonly take: (request: Request) => Response | {
    readonly headers: Readonly<Record<string, string>>;
    readonly use: (connection: Upgraded) => void;
  };
}

export interface ServeOptions {
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** When it throws or rejects, the answer is an empty 500 and the error is logged. */
  readonly handler: HttpHandler;
  readonly tls?: TlsFiles | undefined;
  /** Serves HTTP/2 too: with prior knowledge, or by ALPN with TLS. Default true. */
  readonly http2?: boolean;
  readonly upgrade?: Upgrade | undefined;
  readonly limits?: Partial<HttpLimits>;
  /** Default 65 536. `Infinity`: the handler itself limits what it reads. */
  readonly bodyBytes?: BodyLimit;
  readonly log?: Logger;
  /** How long disposing waits for requests under way. Default 10 000. */
  readonly drainMs?: number;
}

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
  /** `http://host:port` or `https://host:port` */
  readonly origin: string;
}
