/** One call from its first attempt to its result: which instance, when the next one, when to give up. */
import type { OutgoingCall } from "./bind.ts";
import { RpcError } from "./contract.ts";
import type { Peer } from "./peer.ts";

/** Where the peers come from. */
export interface Pool {
  readonly service: string;
  /** The best peer for which `spent` is false. */
  pick(only: string | undefined, spent: (peer: Peer) => boolean): Peer | undefined;
  /** Calls with nobody to go to; woken when the set of instances changes. */
  readonly waiting: Set<() => void>;
  /** An idempotent call whose instance is silent for so long goes to another one as well. */
  readonly patienceMs: number;
  /** How long a call waits for a first instance to appear. */
  readonly appearMs: number;
  readonly onRetry: () => void;
}

interface Attempt {
  readonly peer: Peer;
  readonly connection: number;
  readonly startedAt: number;
}

const firstRestMs = 20;
const longestRestMs = 500;
/** Less says nothing about an instance, however little time a call has. */
const shortestSilenceMs = 100;

/**
 * Resolves to the output's JSON. Attempts that failed without effect are repeated elsewhere whatever the method;
 * those of which nobody knows (a lost connection, a silent instance) only when the method is idempotent.
 */
export class Outgoing {
  readonly #pool: Pool;
  readonly #call: OutgoingCall;
  readonly #only: string | undefined;
  readonly #done = Promise.withResolvers<string>();
  readonly #abort = new AbortController();
  readonly #underWay = new Set<Attempt>();
  readonly #spent = new Map<Peer, number>();
  readonly #patienceMs: number;
  #finished = false;
  #attempts = 0;
  #restMs = firstRestMs;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastError: RpcError | undefined;

  constructor(pool: Pool, call: OutgoingCall, only: string | undefined) {
    this.#pool = pool;
    this.#call = call;
    this.#only = only;
    this.#patienceMs = Math.min(pool.patienceMs, (call.deadline - call.started) / 3);
  }

  run(): Promise<string> {
    const { signal } = this.#call;
    if (signal?.aborted) this.#onAbort();
    else {
      signal?.addEventListener("abort", this.#onAbort, { once: true });
      this.#next();
    }
    return this.#done.promise;
  }

  /** Ends it from outside, for a client that is closed. */
  fail(error: RpcError): void {
    if (this.#finish()) this.#done.reject(error);
  }

  readonly #onAbort = () => {
    this.fail(new RpcError("cancelled", `${this.#what}: the caller gave up`));
  };

  readonly #onChange = () => {
    this.#pool.waiting.delete(this.#onChange);
    this.#next();
  };

  get #what(): string {
    const { service } = this.#pool;
    return `${service}.${this.#call.method}${this.#only === undefined ? "" : ` at ${this.#only}`}`;
  }

  #next(): void {
    if (this.#finished) return;
    const now = performance.now();
    if (now >= this.#call.deadline) return this.#giveUp();
    const peer = this.#pool.pick(
      this.#only,
      (peer) => this.#spent.get(peer) === peer.connection,
    );
    if (peer !== undefined) this.#launch(peer, now);
    else if (this.#underWay.size === 0) this.#rest(now);
    this.#arm(now);
  }

  #launch(peer: Peer, now: number): void {
    if (++this.#attempts > 1) this.#pool.onRetry();
    const attempt: Attempt = { peer, connection: peer.connection, startedAt: now };
    this.#spent.set(peer, peer.connection);
    this.#underWay.add(attempt);
    peer.send(this.#call, this.#call.deadline - now, this.#abort.signal).then(
      (text) => {
        this.#underWay.delete(attempt);
        if (this.#finish()) this.#done.resolve(text);
      },
      (error) => {
        this.#underWay.delete(attempt);
        this.#onError(error);
      },
    );
  }

  #onError(error: RpcError): void {
    if (this.#finished) return;
    this.#lastError = error;
    const again = error.retryable || (this.#call.idempotent && error.code === "unavailable");
    if (!again) return this.fail(error);
    this.#next();
  }

  /** Every instance has been tried, or there is none. */
  #rest(now: number): void {
    const error = this.#lastError;
    // More calls are the last thing that overloaded instances need.
    if (error?.code === "overloaded") return this.fail(error);
    if (this.#attempts === 0 && now - this.#call.started >= this.#pool.appearMs) {
      return this.#giveUp();
    }
    this.#spent.clear();
    this.#pool.waiting.add(this.#onChange);
  }

  #arm(now: number): void {
    clearTimeout(this.#timer);
    if (this.#finished) return;
    const resting = this.#underWay.size === 0;
    const waitMs = resting ? this.#restMs * (0.5 + Math.random()) : this.#patienceMs;
    if (resting) this.#restMs = Math.min(longestRestMs, this.#restMs * 2);
    this.#timer = setTimeout(this.#onTimer, Math.min(waitMs, this.#call.deadline - now));
  }

  readonly #onTimer = () => {
    this.#pool.waiting.delete(this.#onChange);
    const now = performance.now();
    const answering = this.#suspectTheSilent(now);
    if (this.#underWay.size === 0 || now >= this.#call.deadline) return this.#next();
    // An instance that answers others is slow with this one: asking again would only add to its work.
    if (this.#call.idempotent && !answering) this.#next();
    else this.#arm(now);
  };

  /** Whether any instance that this call waits for has answered something since. */
  #suspectTheSilent(now: number): boolean {
    let answering = false;
    for (const { peer, connection, startedAt } of this.#underWay) {
      const silentMs = now - Math.max(startedAt, peer.lastAnswerAt);
      if (peer.lastAnswerAt >= startedAt) answering = true;
      else if (peer.connection === connection && silentMs >= shortestSilenceMs) {
        peer.suspect(silentMs);
      }
    }
    return answering;
  }

  #giveUp(): void {
    if (this.#underWay.size === 0) {
      this.fail(this.#lastError ?? this.#nobody());
    } else {
      const tookMs = Math.round(this.#call.deadline - this.#call.started);
      const before = this.#lastError === undefined ? "" : `; before: ${this.#lastError.message}`;
      this.fail(
        new RpcError("deadline_exceeded", `${this.#what} took longer than ${tookMs} ms${before}`),
      );
    }
  }

  #nobody(): RpcError {
    const now = performance.now();
    return now >= this.#call.deadline && this.#call.deadline <= this.#call.started
      ? new RpcError("deadline_exceeded", `${this.#what}: no time is left for it`)
      : new RpcError("unavailable", `${this.#what}: no live instance is known`);
  }

  #finish(): boolean {
    if (this.#finished) return false;
    this.#finished = true;
    clearTimeout(this.#timer);
    this.#pool.waiting.delete(this.#onChange);
    this.#call.signal?.removeEventListener("abort", this.#onAbort);
    if (this.#underWay.size > 0) this.#abort.abort();
    return true;
  }
}
