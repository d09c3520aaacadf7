/** One instance as the client sees it: its connection, its calls under way, and whether it is fit for calls. */
import type { Logger } from "../log.ts";
import { pause } from "../pause.ts";
import type { OutgoingCall } from "./bind.ts";
import { InstanceFault } from "./faults.ts";
import { RpcError } from "./contract.ts";
import type { TlsFiles } from "../http/serve.ts";
import { LineClient } from "./line_client.ts";
import { type CallProof, proofHeader, Prover } from "./proof.ts";
import { errorOf, excerpt, readAnswer, timeoutHeader } from "./wire.ts";

export interface PeerOptions {
  readonly service: string;
  readonly name: string;
  /** `http://host:port` */
  readonly origin: string;
  readonly clusterKey: string | undefined;
  /**
   * Opens an HTTP client for this instance only, so that a connection that hangs can be closed without affecting other
   * instances.
   */
  readonly openHttp: () => Deno.HttpClient;
  readonly tls: Partial<TlsFiles> | undefined;
  readonly onEjected: () => void;
  /** Called when a call at this instance has ended. */
  readonly onFreed: (peer: Peer) => void;
  /** Called after a reconnect: no call is under way. */
  readonly onReconnected: () => void;
  readonly log: Logger | undefined;
}

const failuresAllowed = 3;
const firstPauseMs = 250;
const longestPauseMs = 10_000;
const probeTimeoutMs = 1000;
const overloadPauseMs = 100;
/** An abandoned call is still waited for, this long after its deadline. */
const graceMs = 1000;

interface Answer {
  readonly status: number;
  readonly text: string;
}

/** A call under way. */
export interface Sending {
  readonly output: Promise<unknown>;
  /**
   * The caller no longer waits for the output. The stream is not reset: a server takes a hundred resets at once for an
   * attack and ends the connection, with all its calls. The server itself ends the call at its deadline.
   */
  abandon(): void;
}

export class Peer {
  readonly name: string;
  readonly origin: string;
  /** Calls sent over the present connection and not answered. */
  underWay = 0;
  /** When anything last arrived from the instance, on the clock of `performance.now()`. */
  lastAnswerAt = -Infinity;
  /** Counts the connections. A call on an earlier connection that hung says nothing about the present one. */
  connection = 0;

  readonly #options: PeerOptions;
  readonly #closed = new AbortController();
  readonly #prover: Prover | undefined;
  readonly #abandoned = new Set<AbortController>();
  #greeting: Promise<void> | undefined;
  #http: Deno.HttpClient;
  /** For calls of methods that wait. */
  #waitingHttp: Deno.HttpClient | undefined;
  /** For calls of methods that are called often. */
  readonly #line: LineClient;
  #failures = 0;
  #pauseMs = firstPauseMs;
  #restUntil = -Infinity;
  #probing: Promise<void> | undefined;

  constructor(options: PeerOptions) {
    this.name = options.name;
    this.origin = options.origin;
    this.#options = options;
    this.#http = options.openHttp();
    this.#prover = options.clusterKey === undefined
      ? undefined
      : new Prover(options.clusterKey, "rpc", options.origin);
    const path = `/${options.service}`;
    this.#line = new LineClient({
      ...{ origin: options.origin, path, tls: options.tls },
      prove: () => this.#prover?.prove({ method: "GET", path, terms: [""] }, undefined),
      sealOf: (proof, header) =>
        this.#prover?.check(proof, 101, header) === "no" ? undefined : this.#prover?.sealOf(proof),
    });
  }

  /**
   * 0: fit for calls. 1: overloaded a moment ago. 2: silent or failing; called only when no other instance is better.
   */
  get grade(): 0 | 1 | 2 {
    if (this.#probing !== undefined) return 2;
    return this.#restUntil > performance.now() ? 1 : 0;
  }

  /** The output rejects with {@linkcode RpcError}; `retryable` there says that the call had no effect. */
  send(call: OutgoingCall, timeoutMs: number): Sending {
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let abandoned = false;
    const { connection } = this;
    if (!call.waits) this.underWay++;
    const output = this.#call(call, timeoutMs, abort.signal).then((value) => {
      this.#failures = 0;
      if (this.#pauseMs > firstPauseMs) this.#healed();
      this.#pauseMs = firstPauseMs;
      return value;
    }, (error) => {
      if (!abort.signal.aborted) this.#judge(error as RpcError, abandoned);
      throw error;
    }).finally(() => {
      clearTimeout(timer);
      this.#abandoned.delete(abort);
      if (call.waits || connection !== this.connection) return;
      this.underWay--;
      this.#options.onFreed(this);
    });
    return {
      output,
      abandon: () => {
        abandoned = true;
        if (this.#closed.signal.aborted) return abort.abort();
        this.#abandoned.add(abort);
        const restMs = call.deadline - performance.now() + graceMs;
        timer = setTimeout(() => abort.abort(), restMs);
      },
    };
  }

  async #call(call: OutgoingCall, timeoutMs: number, signal: AbortSignal): Promise<unknown> {
    const { service } = this.#options;
    if (this.#prover?.calleeProven === false) await this.#handshake();
    const wholeMs = String(Math.max(1, Math.floor(timeoutMs)));
    const overLine = call.often
      ? this.#line.call(call.method, wholeMs, call.body, signal)
      : undefined;
    const { status, text } =
      await (overLine === undefined
        ? this.#exchange(`/${service}/${call.method}`, signal, {
          method: "POST",
          timeoutMs: wholeMs,
          body: call.body,
          idempotent: call.idempotent,
          waits: call.waits,
        })
        : this.#heard(overLine));
    if (status !== 200) throw this.#failureOf(status, text);
    try {
      return call.read(text);
    } catch (cause) {
      throw this.#fault((cause as Error).message, "", cause);
    }
  }

  async #heard(answer: Promise<Answer>): Promise<Answer> {
    try {
      return await answer;
    } catch (cause) {
      throw transportError(this.#who, cause);
    } finally {
      this.lastAnswerAt = performance.now();
    }
  }

  #failureOf(status: number, text: string): RpcError {
    const error = errorOf(status, text);
    if (error === undefined) return this.#fault(`HTTP ${status}, no RPC error`, text);
    if (error.code !== "not_found" || !error.retryable) return error;
    const message = `${this.#who} does not serve this service: ${error.message}`;
    return new InstanceFault("unavailable", message, { noEffect: true });
  }

  get #who(): string {
    return `${this.#options.service} at ${this.name} (${this.origin})`;
  }

  #fault(what: string, text: string, cause?: unknown): InstanceFault {
    const shown = text === "" ? "" : `: ${excerpt(text)}`;
    return new InstanceFault(
      "unavailable",
      `${this.#who} did not answer as this service does: ${what}${shown}`,
      {
        cause,
      },
    );
  }

  /**
   * The first request to an instance is a harmless probe, and its answer must prove the cluster key. So an impostor
   * gets no call that may have an effect. The answer also contains the clock and the life that later proofs need.
   */
  async #handshake(): Promise<void> {
    await (this.#greeting ??= this.#probe().then(() => {}).finally(() => {
      this.#greeting = undefined;
    }).catch((cause: RpcError) => {
      // Only a probe was sent.
      if (cause instanceof InstanceFault) throw cause.withoutEffect();
      if (cause.retryable) throw cause;
      throw new RpcError("unavailable", cause.message, { retryable: true, cause });
    }));
  }

  /** Sent again when the instance proves that the proof was made for another time or life. */
  async #exchange(path: string, signal: AbortSignal, { method, timeoutMs, body, ...call }: {
    readonly method: "GET" | "POST";
    readonly timeoutMs: string;
    readonly body: string | undefined;
    readonly idempotent: boolean;
    readonly waits: boolean;
  }): Promise<Answer> {
    for (let attempt = 1;; attempt++) {
      const headers: [string, string][] = [["content-type", "application/json"]];
      if (timeoutMs !== "") headers.push([timeoutHeader, timeoutMs]);
      const proof = this.#prover?.prove({ method, path, terms: [timeoutMs] }, body);
      if (proof !== undefined) headers.push(["authorization", proof.authorization]);
      let response;
      let text;
      try {
        response = await fetch(this.origin + path, {
          method,
          client: call.waits ? this.#waitingHttp ??= this.#options.openHttp() : this.#http,
          headers,
          ...(body === undefined ? {} : { body: call.idempotent ? body : sentOnce(body) }),
          signal,
          redirect: "manual",
        });
        text = await readAnswer(response);
      } catch (cause) {
        throw transportError(this.#who, cause);
      }
      this.lastAnswerAt = performance.now();
      const { status } = response;
      if (text === undefined) throw this.#fault("its body is endless or too large", "");
      if (proof === undefined) return { status, text };
      if (!this.#isProved(proof, response, text)) return { status, text };
      if (attempt > 1) return { status, text };
    }
  }

  /** Returns true when the call is to be sent again. Throws when the answer does not come from the instance. */
  #isProved(proof: CallProof, { status, headers }: Response, text: string): boolean {
    const found = this.#prover?.check(proof, status, headers.get(proofHeader), text);
    if (found !== "no") return found === "renewed" && status === 401;
    const what = errorOf(status, text)?.code === "unauthenticated" || status === 200
      ? "it has another cluster key or none, or is not what the registry says"
      : "it is not what the registry says";
    throw new InstanceFault(
      "unauthenticated",
      `${this.#who} did not prove the cluster key (HTTP ${status}): ${what}`,
    );
  }

  #judge(error: RpcError, abandoned: boolean): void {
    if (error instanceof InstanceFault) {
      this.#startProbing(() => this.#eject(error.message));
    } else if (error.code === "overloaded") {
      this.#restUntil = performance.now() + overloadPauseMs;
    } else if (error.code === "unavailable" && !abandoned) {
      // A refused connection says more than a single failed call.
      const refused = error.retryable && error.cause !== undefined;
      if (refused || ++this.#failures >= failuresAllowed) {
        this.#startProbing(() => this.#eject(error.message));
      }
    }
  }

  /** The instance has been silent for this long: it gets no calls until it answers a probe, which is sent at once. */
  suspect(silentMs: number): void {
    this.#startProbing(async () => {
      // If the probe is answered, only the call is slow, and the instance is fine.
      if (await this.#answers()) return;
      this.#reconnect();
      await this.#eject(`no answer for ${Math.round(silentMs)} ms, nor to a probe`);
    });
  }

  #startProbing(probe: () => Promise<void>): void {
    if (this.#probing !== undefined || this.#closed.signal.aborted) return;
    this.#probing = probe().finally(() => {
      this.#probing = undefined;
    });
  }

  /** Ejects the instance until it answers a probe; the pauses between probes grow. */
  async #eject(reason: string): Promise<void> {
    const { service, log, onEjected } = this.#options;
    const { signal } = this.#closed;
    if (signal.aborted) return;
    // One that answers probes and fails with calls goes out and comes back for as long as that lasts: said once.
    const isAgain = this.#pauseMs > firstPauseMs;
    log?.[isAgain ? "debug" : "warn"](
      "{service} at {name} gets no calls until it answers a probe: {reason}",
      { service, name: this.name, reason },
    );
    onEjected();
    for (;;) {
      await pause(this.#pauseMs, signal);
      this.#pauseMs = Math.min(longestPauseMs, this.#pauseMs * 2);
      if (signal.aborted) return;
      if (await this.#answers()) break;
      this.#reconnect();
    }
    // On trial: the next failure ejects it again, for longer.
    this.#failures = failuresAllowed - 1;
  }

  #healed(): void {
    const { service, log } = this.#options;
    log?.info("{service} at {name} answers calls again", { service, name: this.name });
  }

  async #answers(): Promise<boolean> {
    try {
      await this.#probe();
      return true;
    } catch {
      return false;
    }
  }

  /** Resolves when the instance answers as a server of this service. Rejects with {@linkcode RpcError}. */
  async #probe(): Promise<void> {
    const { service } = this.#options;
    const limit = new AbortController();
    const stop = () => limit.abort();
    const timer = setTimeout(stop, probeTimeoutMs);
    this.#closed.signal.addEventListener("abort", stop, { once: true });
    try {
      const path = `/${service}`;
      const words = { method: "GET", timeoutMs: "", body: undefined } as const;
      const { status, text } = await this.#exchange(path, limit.signal, {
        ...words,
        idempotent: true,
        waits: false,
      });
      if (status !== 200) throw this.#failureOf(status, text);
      if (serviceOf(text) !== service) throw this.#fault("it does not serve this service", text);
    } finally {
      clearTimeout(timer);
      this.#closed.signal.removeEventListener("abort", stop);
    }
  }

  #reconnect(): void {
    if (this.#closed.signal.aborted) return;
    this.#http.close();
    this.#line.reset();
    this.#waitingHttp?.close();
    this.#waitingHttp = undefined;
    this.#http = this.#options.openHttp();
    this.connection++;
    this.underWay = 0;
    this.#abortAbandoned();
    this.#options.onReconnected();
  }

  /** Calls under way are finished. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort();
    this.#abortAbandoned();
    await this.#probing;
    this.#http.close();
    this.#line.close();
    this.#waitingHttp?.close();
  }

  #abortAbandoned(): void {
    for (const abort of this.#abandoned) abort.abort();
  }
}

function serviceOf(text: string): unknown {
  try {
    return JSON.parse(text)?.service;
  } catch {
    return undefined;
  }
}

/**
 * When a connection breaks, `fetch` in Deno 2.9 repeats a request by itself if it still has the body, even a request
 * that was served (denoland/deno issue 35610). With a stream as body it cannot.
 */
function sentOnce(body: string): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode(body));
      controller.close();
    },
  });
}

/** Texts of `fetch` errors that mean the request had no effect: it was not sent, or the server declined it unseen. */
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
