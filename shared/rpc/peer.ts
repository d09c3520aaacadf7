/** One instance as a client sees it: its connection, what is under way on it, and whether it is fit for calls. */
import type { Logger } from "../log.ts";
import type { OutgoingCall } from "./bind.ts";
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

  /**
   * 0: fit for calls. 1: overloaded a moment ago. 2: silent or failing, and called only when nobody is any better.
   */
  get grade(): 0 | 1 | 2 {
    if (this.#probing !== undefined) return 2;
    return this.#restUntil > performance.now() ? 1 : 0;
  }

  /** Rejects with {@linkcode RpcError}; `retryable` there says that the call had no effect. */
  async send(call: OutgoingCall, timeoutMs: number, signal: AbortSignal): Promise<string> {
    this.underWay++;
    try {
      const text = await this.#exchange(call, timeoutMs, signal);
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

  async #exchange(call: OutgoingCall, timeoutMs: number, signal: AbortSignal) {
    const { service } = this.#options;
    const { method, idempotent, body } = call;
    let status;
    let text;
    try {
      const response = await fetch(`${this.origin}/${service}/${method}`, {
        method: "POST",
        client: this.#http,
        headers: [...this.#headers, [timeoutHeader, String(Math.max(1, Math.floor(timeoutMs)))]],
        body: idempotent ? body : sentOnce(body),
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
      // No connection at all says more than a single call that failed.
      const refused = error.retryable && error.cause !== undefined;
      if (refused || ++this.#failures >= failuresAllowed) {
        this.#startProbing(() => this.#bench(error.message));
      }
    }
  }

  /** It has been silent for so long: no calls until it answers a probe, which is sent at once. */
  suspect(silentMs: number): void {
    this.#startProbing(async () => {
      // When it does answer, it is the call that is slow and nothing is wrong with the instance.
      if (await this.#answers()) return;
      this.#reconnect();
      await this.#bench(`no answer for ${Math.round(silentMs)} ms, nor to a probe`);
    });
  }

  #startProbing(probe: () => Promise<void>): void {
    if (this.#probing !== undefined || this.#closed.signal.aborted) return;
    this.#probing = probe().finally(() => {
      this.#probing = undefined;
    });
  }

  /** Until a probe is answered; the pauses between probes grow. */
  async #bench(reason: string): Promise<void> {
    const { service, log, onBenched } = this.#options;
    const { signal } = this.#closed;
    if (signal.aborted) return;
    const who = { service, name: this.name };
    log?.warn("{service} at {name} gets no calls for now: {reason}", { ...who, reason });
    onBenched();
    for (;;) {
      await pause(this.#pauseMs, signal);
      this.#pauseMs = Math.min(longestPauseMs, this.#pauseMs * 2);
      if (signal.aborted) return;
      if (await this.#answers()) break;
      this.#reconnect();
    }
    // On trial: the next failure benches it again, for longer.
    this.#failures = failuresAllowed - 1;
    log?.info("{service} at {name} gets calls again", who);
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

/**
 * When a connection breaks, `fetch` in Deno 2.9 sends a request whose body it still has a second time by itself, also one that
 * was served (denoland/deno issue 35610). It does not have a stream any more.
 */
function sentOnce(body: string): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(body));
      controller.close();
    },
  });
}

/** How `fetch` says that a request cannot have had an effect: it was not sent, or the server declined it unseen. */
const noEffect = [
  "client error (Connect)",
  "refused stream before processing any application logic",
  "connection error received: not a result of an error",
];

function transportError(what: string, cause: unknown): RpcError {
  const text = String((cause as Error).cause ?? cause);
  const retryable = noEffect.some((sign) => text.includes(sign));
  return new RpcError(
    "unavailable",
    retryable ? `Cannot reach ${what}: ${text}` : `Lost the connection to ${what}: ${text}`,
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
