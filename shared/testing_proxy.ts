/** A TCP proxy for tests that passes, holds back, swallows, cuts or truncates. */

/** Disposing closes it and all that goes through it. */
export class FaultyProxy implements AsyncDisposable {
  readonly #target: Deno.ConnectOptions;
  readonly #listener: Deno.TcpListener;
  readonly #pairs = new Set<Pair>();
  readonly #serving: Promise<void>;
  #mode: "pass" | "freeze" | "swallow" | "refuse" = "pass";
  #thawed = Promise.withResolvers<void>();
  #truncateAfter: number | undefined;
  #answerBytes = 0;
  #lastRequest: ((request: Uint8Array) => boolean) | undefined;

  constructor(target: { readonly hostname?: string; readonly port: number }) {
    this.#target = { hostname: "127.0.0.1", ...target };
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

  /** Connections that go through it now. */
  get connections(): number {
    return this.#pairs.size;
  }

  /** What it has passed on from the server, in all. */
  get answerBytes(): number {
    return this.#answerBytes;
  }

  /** Back to normal; what was held back is delivered. */
  pass(): void {
    this.#mode = "pass";
    this.#thawed.resolve();
    this.#thawed = Promise.withResolvers();
  }

  /** Connections stay and are accepted; nothing moves in either direction until {@linkcode pass}. */
  freeze(): void {
    this.#mode = "freeze";
  }

  /** Connections stay and are accepted; what is sent is read and lost for ever. */
  swallow(): void {
    this.#mode = "swallow";
  }

  /** Ends all connections, and every new one at once. */
  refuse(): void {
    this.#mode = "refuse";
    this.cut();
  }

  /** Ends all connections; new ones are welcome. */
  cut(): void {
    for (const pair of [...this.#pairs]) this.#end(pair);
  }

  /** Passes this many bytes more from the server, to whichever connection, then ends that connection. */
  truncateAfter(bytes: number): void {
    this.#truncateAfter = bytes;
  }

  /** Delivers the next request that matches, lets the server answer it, and ends the connection in place of the answer. */
  cutAnswerTo(matches: (request: Uint8Array) => boolean): void {
    this.#lastRequest = matches;
  }

  /** Whether the one asked for by {@linkcode cutAnswerTo} or {@linkcode truncateAfter} has come to pass. */
  get sprung(): boolean {
    return this.#lastRequest === undefined && this.#truncateAfter === undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#mode = "refuse";
    this.#listener.close();
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
    // The proxy may have been told to refuse while it was connecting.
    if (this.#refusing()) this.#end(pair);
    await Promise.all([this.#pump(pair, "request"), this.#pump(pair, "answer")]);
  }

  async #pump(pair: Pair, direction: "request" | "answer"): Promise<void> {
    const [from, to] = direction === "request"
      ? [pair.client, pair.server]
      : [pair.server, pair.client];
    const buffer = new Uint8Array(65_536);
    try {
      for (let length; (length = await from.read(buffer)) !== null;) {
        while (this.#mode === "freeze") await this.#thawed.promise;
        if (this.#mode === "swallow") continue;
        let chunk = buffer.subarray(0, length);
        if (direction === "request") {
          if (this.#lastRequest?.(chunk)) {
            this.#lastRequest = undefined;
            pair.answerless = true;
          }
        } else {
          if (pair.answerless) break;
          if (this.#truncateAfter !== undefined) {
            chunk = chunk.subarray(0, this.#truncateAfter);
            this.#truncateAfter -= chunk.length;
          }
        }
        for (let sent = 0; sent < chunk.length;) sent += await to.write(chunk.subarray(sent));
        if (direction === "request") continue;
        this.#answerBytes += chunk.length;
        if (this.#truncateAfter === 0) {
          this.#truncateAfter = undefined;
          break;
        }
      }
    } catch {
      // Either side went away, or was cut.
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

interface Pair {
  readonly client: Deno.Conn;
  readonly server: Deno.Conn;
  /** The connection ends with the next answer, which is not passed on. */
  answerless: boolean;
}
