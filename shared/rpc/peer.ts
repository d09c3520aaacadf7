/** One instance as a client sees it: its connection, what is under way on it, and whether it is fit for calls. */
import type { Logger } from "../log.ts";
import { RpcError } from "./contract.ts";
import { errorOf, timeoutHeader } from "./wire.ts";

export interface PeerOptions {
  readonly service: string;
  readonly name: string;
  /** `http://host:port` */
  readonly origin: string;
  readonly clusterKey: string | undefined;
  /** A client of its own: a connection that hangs is thrown away without harm to other instances. */
  readonly openHttp: () => Deno.HttpClient;
  readonly onBenched: () => void;
  readonly log: Logger | undefined;
}

const failuresAllowed = 3;
const firstPauseMs = 250;
const longestPauseMs = 10_000;
const probeTimeoutMs = 1000;
const overloadPauseMs = 100;

export class Peer {
  readonly name: string;
  readonly origin: string;
  /** Calls sent and not answered. */
  underWay = 0;
  /** When anything last came from it, on the clock of `performance.now()`. */
  lastAnswerAt = -Infinity;
  /** Counts the connections; one that hung is never the reason to spare its successor. */
  connection = 0;

  readonly #options: PeerOptions;
  readonly #closed = new AbortController();
  readonly #headers: [string, string][];
  #http: Deno.HttpClient;
  #failures = 0;
  #pauseMs = firstPauseMs;
  #restUntil = -Infinity;
  #probing: Promise<void> | undefined;

  constructor(options: PeerOptions) {
    this.name = options.name;
    this.origin = options.origin;
    this.#options = options;
    this.#http = options.openHttp();
    this.#headers = [["content-type", "application/json"]];
    if (options.clusterKey !== undefined) {
      this.#headers.push(["authorization", `Bearer ${options.clusterKey}`]);
    }
  }

  /** Whether calls should come here as long as there is another choice. */
  get fit(): boolean {
    return this.#probing === undefined && this.#restUntil <= performance.now();
  }

  /** Rejects with {@linkcode RpcError}; `retryable` there says that the call had no effect. */
  async send(
    method: string,
    body: string,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<string> {
    this.underWay++;
    try {
      const text = await this.#exchange(method, body, timeoutMs, signal);
      this.#failures = 0;
      this.#pauseMs = firstPauseMs;
      return text;
    } catch (error) {
      if (!signal.aborted) this.#judge(error as RpcError);
      throw error;
    } finally {
      this.underWay--;
    }
  }

  async #exchange(method: string, body: string, timeoutMs: number, signal: AbortSignal) {
    const { service } = this.#options;
    let status;
    let text;
    try {
      const response = await fetch(`${this.origin}/${service}/${method}`, {
        method: "POST",
        client: this.#http,
        headers: [...this.#headers, [timeoutHeader, String(Math.max(1, Math.floor(timeoutMs)))]],
        body,
        signal,
        redirect: "manual",
      });
      status = response.status;
      text = await response.text();
    } catch (cause) {
      throw transportError(`${service} at ${this.name} (${this.origin})`, cause);
    }
    this.lastAnswerAt = performance.now();
    if (status === 200) return text;
    throw errorOf(status, text);
  }

  #judge(error: RpcError): void {
    if (error.code === "overloaded") {
      this.#restUntil = performance.now() + overloadPauseMs;
    } else if (error.code === "unavailable") {
      const refused = error.retryable && error.cause !== undefined;
      if (refused || ++this.#failures >= failuresAllowed) this.#bench(error.message, this.#pauseMs);
    }
  }

  /** It has been silent for too long: no calls until it has answered a probe, which is sent at once. */
  suspect(silentMs: number): void {
    this.#bench(`no answer for ${Math.round(silentMs)} ms`, 0);
  }

  #bench(reason: string, pauseMs: number): void {
    if (this.#probing !== undefined || this.#closed.signal.aborted) return;
    const { service, log, onBenched } = this.#options;
    log?.warn("{service} at {name} gets no calls for now: {reason}", {
      service,
      name: this.name,
      reason,
    });
    onBenched();
    this.#probing = this.#probe(pauseMs).finally(() => {
      this.#probing = undefined;
    });
  }

  async #probe(firstMs: number): Promise<void> {
    const { service, log } = this.#options;
    for (let pauseMs = firstMs; !this.#closed.signal.aborted;) {
      await pause(pauseMs, this.#closed.signal);
      if (this.#closed.signal.aborted) return;
      if (await this.#answers()) {
        // On trial: the next failure benches it again, for longer.
        this.#failures = failuresAllowed - 1;
        log?.info("{service} at {name} gets calls again", { service, name: this.name });
        return;
      }
      this.#reconnect();
      pauseMs = this.#pauseMs = Math.min(longestPauseMs, this.#pauseMs * 2);
    }
  }

  async #answers(): Promise<boolean> {
    const limit = new AbortController();
    const stop = () => limit.abort();
    const timer = setTimeout(stop, probeTimeoutMs);
    this.#closed.signal.addEventListener("abort", stop, { once: true });
    try {
      const response = await fetch(`${this.origin}/${this.#options.service}`, {
        client: this.#http,
        headers: this.#headers,
        signal: limit.signal,
        redirect: "manual",
      });
      await response.body?.cancel();
      this.lastAnswerAt = performance.now();
      return response.status === 200;
    } catch {
      return false;
    } finally {
      clearTimeout(timer);
      this.#closed.signal.removeEventListener("abort", stop);
    }
  }

  #reconnect(): void {
    if (this.#closed.signal.aborted) return;
    this.#http.close();
    this.#http = this.#options.openHttp();
    this.connection++;
  }

  /** Calls under way go on to their end. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    await this.#probing;
    this.#http.close();
  }
}

function transportError(what: string, cause: unknown): RpcError {
  const text = String((cause as Error).cause ?? cause);
  // Never sent, since there was no connection: the one failure of fetch that surely had no effect.
  const retryable = text.includes("client error (Connect)");
  return new RpcError(
    "unavailable",
    retryable ? `Cannot connect to ${what}: ${text}` : `Lost the connection to ${what}: ${text}`,
    { retryable, cause },
  );
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal.aborted) done();
    else signal.addEventListener("abort", done, { once: true });
  });
}
