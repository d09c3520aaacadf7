/** A TCP proxy for tests that can pass, delay, hold back, swallow, cut or truncate data. */

import { pause } from "../pause.ts";

export interface FaultyProxyOptions {
  /** The delay in each direction, milliseconds. Default 0. */
  readonly delayMs?: number;
  /** Is called with what a read from the server has brought, before that is passed on. */
  readonly onAnswer?: (bytes: Uint8Array) => void;
}

/** Disposing closes the proxy and all its connections. */
export class FaultyProxy implements AsyncDisposable {
  #target: Deno.ConnectOptions;
  readonly #delayMs: number;
  readonly #onAnswer: ((bytes: Uint8Array) => void) | undefined;
  readonly #listener: Deno.TcpListener;
  readonly #pairs = new Set<Pair>();
  readonly #serving: Promise<void>;
  #closed = false;
  #mode: "pass" | "freeze" | "swallow" | "refuse" = "pass";
  #thawed = Promise.withResolvers<void>();
  #truncateAfter: number | undefined;
  #answerBytes = 0;
  #lastRequest: ((request: Uint8Array) => boolean) | undefined;

  constructor(
    target: { readonly hostname?: string; readonly port: number },
    { delayMs = 0, onAnswer }: FaultyProxyOptions = {},
  ) {
    const { hostname = "127.0.0.1", port } = target;
    this.#target = { hostname, port };
    this.#delayMs = delayMs;
    this.#onAnswer = onAnswer;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.#serving = this.#serve();
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** `host:port` */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** The number of connections through the proxy now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** All bytes that it has passed on from the server. */
  get answerBytes(): number {
    return this.#answerBytes;
  }

  /** Works normally again; data that was held back is delivered. */
  pass(): void {
    this.#mode = "pass";
    this.#thawed.resolve();
    this.#thawed = Promise.withResolvers();
  }

  /** Connections stay open and new ones are accepted, but no data moves in either direction until {@linkcode pass}. */
  freeze(): void {
    this.#mode = "freeze";
  }

  /** Connections stay open and new ones are accepted; all data sent is read and discarded. */
  swallow(): void {
    this.#mode = "swallow";
  }

  /** Ends all connections, and every new one at once. */
  refuse(): void {
    this.#mode = "refuse";
    this.cut();
  }

  /** Ends all connections; new ones are accepted. */
  cut(): void {
    for (const pair of [...this.#pairs]) this.#end(pair);
  }

  /** Ends the connection that is the oldest. */
  cutOldest(): void {
    const [pair] = this.#pairs;
    if (pair !== undefined) this.#end(pair);
  }

  /** New connections are made to this server. */
  retarget(target: { readonly hostname?: string; readonly port: number }): void {
    const { hostname = "127.0.0.1", port } = target;
    this.#target = { hostname, port };
  }

  /**
   * Passes on this many more bytes from the server, counted over all connections, then ends the connection that reached
   * the limit.
   */
  truncateAfter(bytes: number): void {
    this.#truncateAfter = bytes;
  }

  /**
   * Delivers the next request that matches, lets the server answer it, and ends the connection instead of passing on
   * the answer.
   */
  cutAnswerTo(matches: (request: Uint8Array) => boolean): void {
    this.#lastRequest = matches;
  }

  /** True after the cut requested by {@linkcode cutAnswerTo} or {@linkcode truncateAfter} has happened. */
  get cutDone(): boolean {
    return this.#lastRequest === undefined && this.#truncateAfter === undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#closed) this.#listener.close();
    this.#closed = true;
    this.#mode = "refuse";
    this.cut();
    this.#thawed.resolve();
    await this.#serving;
  }

  async #serve(): Promise<void> {
    const pumps: Promise<void>[] = [];
    for await (const client of this.#listener) {
      if (this.#mode === "refuse") client.close();
      else pumps.push(this.#join(client));
    }
    await Promise.all(pumps);
  }

  async #join(client: Deno.Conn): Promise<void> {
    let server;
    try {
      server = await Deno.connect({ ...this.#target, transport: "tcp" });
    } catch {
      client.close();
      return;
    }
    const pair: Pair = { client, server, answerless: false };
    this.#pairs.add(pair);
    // The test may have called `refuse` while the proxy was connecting.
    if (this.#refusing()) this.#end(pair);
    await Promise.all([this.#pump(pair, "request"), this.#pump(pair, "answer")]);
  }

  async #pump(pair: Pair, direction: "request" | "answer"): Promise<void> {
    const [from, to] = direction === "request"
      ? [pair.client, pair.server]
      : [pair.server, pair.client];
    const read = this.#delayMs === 0 ? readerOf(from) : delayedReaderOf(from, this.#delayMs);
    try {
      for (let chunk; (chunk = await read()) !== null;) {
        while (this.#mode === "freeze") await this.#thawed.promise;
        if (this.#mode === "swallow") continue;
        let isLast = false;
        if (direction === "request") {
          if (this.#lastRequest?.(chunk)) {
            this.#lastRequest = undefined;
            pair.answerless = true;
          }
        } else {
          this.#onAnswer?.(chunk);
          if (pair.answerless) break;
          if (this.#truncateAfter !== undefined) {
            chunk = chunk.subarray(0, this.#truncateAfter);
            this.#truncateAfter -= chunk.length;
            // Known at once: while this is written another connection may spring it, and this one would go on with a hole.
            isLast = this.#truncateAfter === 0;
            if (isLast) this.#truncateAfter = undefined;
          }
        }
        for (let sent = 0; sent < chunk.length;) sent += await to.write(chunk.subarray(sent));
        if (direction === "request") continue;
        this.#answerBytes += chunk.length;
        if (isLast) break;
      }
    } catch {
      // Either side ended the connection.
    }
    this.#end(pair);
  }

  #refusing(): boolean {
    return this.#mode === "refuse";
  }

  #end(pair: Pair): void {
    if (!this.#pairs.delete(pair)) return;
    pair.client.close();
    pair.server.close();
  }
}

/** Returns the next bytes, which are valid until the next call. Null at the end. */
type Reader = () => Promise<Uint8Array | null>;

function readerOf(connection: Deno.Conn): Reader {
  const buffer = new Uint8Array(65_536);
  return async () => {
    const length = await connection.read(buffer);
    return length === null ? null : buffer.subarray(0, length);
  };
}

/** Delays all bytes and the end equally. Any number of bytes may be on their way at once, as on a real line. */
function delayedReaderOf(connection: Deno.Conn, delayMs: number): Reader {
  const read = readerOf(connection);
  const arrivals = new ReadableStream<{ readonly chunk: Uint8Array | null; readonly at: number }>({
    pull: async (controller) => {
      const chunk = await read();
      controller.enqueue({ chunk: chunk?.slice() ?? null, at: performance.now() });
      if (chunk === null) controller.close();
    },
  }, { highWaterMark: 64 }).getReader();
  return async () => {
    const { value } = await arrivals.read();
    if (value === undefined) return null;
    await pause(Math.max(0, value.at + delayMs - performance.now()));
    return value.chunk;
  };
}

interface Pair {
  readonly client: Deno.Conn;
  readonly server: Deno.Conn;
  /** The connection ends with the next answer, which is not passed on. */
  answerless: boolean;
}
