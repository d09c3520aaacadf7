/** The caller's end of calls over one connection, see `lines.ts`. */
import { request as requestHttp } from "node:http";
import { request as requestHttps } from "node:https";
import type { Socket } from "node:net";
import type { TlsFiles } from "../http/serve.ts";
import { lineProtocol, Lines, type Seal } from "./lines.ts";
import { type CallProof, proofHeader } from "./proof.ts";

export interface LineClientOptions {
  /** `http://host:port` */
  readonly origin: string;
  /** `/<service>` */
  readonly path: string;
  readonly tls: Partial<TlsFiles> | undefined;
  /** Of the request that opens the connection; undefined: without a cluster key. */
  readonly prove: () => CallProof | undefined;
  /** The seal of the connection; undefined: the answer does not prove the key. */
  readonly sealOf: (proof: CallProof, header: string) => Seal | undefined;
}

export interface LineAnswer {
  readonly status: number;
  readonly text: string;
}

type Settle = PromiseWithResolvers<LineAnswer>;

/** Shorter than the server's own limit (`keepAliveMs`), so that no call is sent on a connection that is just being closed. */
const quietMs = 60_000;
const openMs = 5000;
const [firstPauseMs, longestPauseMs] = [1000, 60_000];
const mostWaiting = 16 * 1024 * 1024;

/** At most one connection. It is opened when a call wants it; meanwhile, and where it cannot be had, calls go another way. */
export class LineClient {
  readonly #options: LineClientOptions;
  readonly #calls = new Map<number, Settle>();
  #number = 0;
  #socket: Socket | undefined;
  #lines: Lines | undefined;
  /** Gives up what is being opened. */
  #opening: (() => void) | undefined;
  #notBefore = 0;
  #pauseMs = firstPauseMs;
  #usedAt = 0;
  #closed = false;

  constructor(options: LineClientOptions) {
    this.#options = options;
  }

  /**
   * Rejects when the connection ends: the call may have had an effect. undefined: there is no connection now, and nothing was
   * sent. What comes after `signal` is dropped.
   */
  call(
    method: string,
    timeoutMs: string,
    body: string,
    signal: AbortSignal,
  ): Promise<LineAnswer> | undefined {
    const now = performance.now();
    if (this.#calls.size === 0 && now - this.#usedAt > quietMs) this.#end();
    if (this.#lines === undefined || this.#socket?.writable !== true) {
      this.#open(now);
      return undefined;
    }
    this.#usedAt = now;
    const number = ++this.#number;
    const settle = Promise.withResolvers<LineAnswer>();
    this.#calls.set(number, settle);
    signal.addEventListener("abort", () => {
      if (this.#calls.delete(number)) settle.reject(signal.reason);
    }, { once: true });
    this.#lines.send(number, method, timeoutMs, body);
    return settle.promise;
  }

  /** Ends the connection and its calls; the next call opens another one. */
  reset(): void {
    this.#opening?.();
    this.#end();
  }

  close(): void {
    this.#closed = true;
    this.reset();
  }

  #end(): void {
    this.#socket?.destroy();
    this.#socket = this.#lines = undefined;
    const error = new Error("the connection was closed");
    for (const { reject } of this.#calls.values()) reject(error);
    this.#calls.clear();
  }

  #open(now: number): void {
    if (this.#closed || this.#opening !== undefined || now < this.#notBefore) return;
    const { origin, path, tls, prove } = this.#options;
    const proof = prove();
    const request = origin.startsWith("https:") ? requestHttps : requestHttp;
    const asking = request(origin + path, {
      agent: false,
      timeout: openMs,
      headers: {
        connection: "Upgrade",
        upgrade: lineProtocol,
        ...(proof === undefined ? {} : { authorization: proof.authorization }),
      },
      ...{ ca: tls?.ca, cert: tls?.cert, key: tls?.key },
    });
    const over = (pauseMs: number) => {
      this.#opening = undefined;
      this.#notBefore = performance.now() + pauseMs;
      this.#pauseMs = Math.min(2 * this.#pauseMs, longestPauseMs);
      asking.destroy();
    };
    this.#opening = () => over(0);
    asking.on("upgrade", ({ headers }, socket: Socket) => {
      if (this.#opening === undefined) return void socket.destroy();
      const seal = proof && this.#options.sealOf(proof, String(headers[proofHeader] ?? ""));
      if (proof !== undefined && seal === undefined) {
        socket.destroy();
        return over(longestPauseMs);
      }
      this.#opening = undefined;
      this.#pauseMs = firstPauseMs;
      this.#use(socket, seal);
    });
    asking.on("response", (response) => {
      response.destroy();
      // One that answers as if it had not been asked is of an earlier version.
      if (this.#opening !== undefined) over(response.statusCode === 200 ? Infinity : this.#pauseMs);
    });
    asking.on("timeout", () => asking.destroy(new Error("no answer")));
    asking.on("error", () => {
      if (this.#opening !== undefined) over(this.#pauseMs);
    });
    asking.end();
  }

  #use(socket: Socket, seal: Seal | undefined): void {
    this.#socket = socket;
    this.#usedAt = performance.now();
    this.#lines = new Lines({
      ...{ socket, seal, side: "caller", mostWaiting, words: 3 },
      onLine: ([number, status, text = ""]) => {
        const settle = this.#calls.get(Number(number));
        this.#calls.delete(Number(number));
        settle?.resolve({ status: Number(status), text });
        return true;
      },
    });
    socket.on("close", () => {
      if (this.#socket === socket) this.#end();
    });
  }
}
