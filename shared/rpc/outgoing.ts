/**
 * One call from its first attempt to its result: chooses the instance, decides when to try the next one and when to
 * give up.
 */
import type { OutgoingCall } from "./bind.ts";
import { RpcError } from "./contract.ts";
import { InstanceFault } from "./faults.ts";
import type { Peer, Sending } from "./peer.ts";

/** The set of peers that a call chooses from. */
export interface Pool {
  readonly service: string;
  /** The best peer for which `spent` is false. `full`: there is one, but it has as many calls as its limit allows. */
  pick(
    only: string | undefined,
    spent: (peer: Peer) => boolean,
    waits: boolean,
  ): Peer | "full" | undefined;
  /** Calls that wait for a peer, the oldest first. Each function returns true when it took one (`at`, if given). */
  readonly queue: Set<(at?: Peer) => boolean>;
  /** The most calls that may wait there. */
  readonly queueLimit: number;
  /** How long answers have taken recently, milliseconds; 0 while none is known. */
  readonly answerMs: number;
  /** Reports how long an answer took. */
  onAnswer(ms: number): void;
  /** Calls without any instance; woken when the set of instances changes. */
  readonly waiting: Set<() => void>;
  /** An idempotent call whose instance sends nothing for this long is sent to another one as well. */
  readonly patienceMs: number;
  /** How long a call waits for a first instance to appear. */
  readonly appearMs: number;
  readonly onRetry: () => void;
}

interface Attempt {
  readonly peer: Peer;
  readonly connection: number;
  readonly startedAt: number;
  readonly sending: Sending;
}

const firstRestMs = 20;
const longestRestMs = 500;
/** A shorter silence says nothing about an instance, however little time a call has. */
const shortestSilenceMs = 100;

/**
 * Resolves to the output. An attempt that failed without effect is repeated at another instance, whatever the method.
 * An attempt with an unknown outcome (lost connection, silent instance) is repeated only if the method is idempotent.
 */
export class Outgoing {
  readonly #pool: Pool;
  readonly #call: OutgoingCall;
  readonly #only: string | undefined;
  readonly #done = Promise.withResolvers<unknown>();
  readonly #underWay = new Set<Attempt>();
  readonly #spent = new Map<Peer, number>();
  readonly #patienceMs: number;
  #finished = false;
  #attempts = 0;
  #restMs = firstRestMs;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lastError: RpcError | undefined;
  /** An attempt ended in something other than a fault of the instance. */
  #metService = false;

  constructor(pool: Pool, call: OutgoingCall, only: string | undefined) {
    this.#pool = pool;
    this.#call = call;
    this.#only = only;
    this.#patienceMs = Math.min(pool.patienceMs, (call.deadline - call.started) / 3);
  }

  run(): Promise<unknown> {
    const { signal } = this.#call;
    if (signal?.aborted) this.#onAbort();
    else {
      signal?.addEventListener("abort", this.#onAbort, { once: true });
      this.#next();
    }
    return this.#done.promise;
  }

  /** Ends the call from outside, when the client is closed. */
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
    // First come, first served. A second attempt of one call never takes a place from a call that has none.
    const { waits } = this.#call;
    if (!waits && this.#pool.queue.size > 0 && this.#underWay.size === 0) return this.#line(now);
    const peer = this.#pick();
    if (peer === "full") {
      if (this.#underWay.size === 0) return this.#line(now);
    } else if (peer !== undefined) this.#launch(peer, now);
    else if (this.#underWay.size === 0) this.#rest(now);
    this.#arm(now);
  }

  #pick(): Peer | "full" | undefined {
    return this.#pool.pick(
      this.#only,
      (peer) => this.#spent.get(peer) === peer.connection,
      this.#call.waits,
    );
  }

  #line(now: number): void {
    const { queue, queueLimit } = this.#pool;
    if (queue.size >= queueLimit) return this.fail(this.#overloaded());
    queue.add(this.#onPlace);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.#onTimer, this.#call.deadline - now);
  }

  readonly #onPlace = (at?: Peer): boolean => {
    if (at !== undefined && this.#only !== undefined && this.#only !== at.name) return false;
    const peer = this.#pick();
    if (peer === "full") return false;
    const now = performance.now();
    // The answer would come too late, and the call would take a place from calls that still have time.
    if (this.#call.deadline - now <= 2 * this.#pool.answerMs) {
      this.fail(this.#overloaded());
      return false;
    }
    this.#pool.queue.delete(this.#onPlace);
    // undefined: its instance has left, or all instances have been tried.
    if (peer === undefined) this.#rest(now);
    else this.#launch(peer, now);
    this.#arm(now);
    return peer !== undefined;
  };

  #overloaded(): RpcError {
    const { service, queue } = this.#pool;
    return new RpcError(
      "overloaded",
      `${this.#what}: all instances of ${service} have as many calls of this program as the limit allows, ` +
        `and ${queue.size} wait`,
    );
  }

  #launch(peer: Peer, now: number): void {
    if (++this.#attempts > 1) this.#pool.onRetry();
    const sending = peer.send(this.#call, this.#call.deadline - now);
    const attempt: Attempt = { peer, connection: peer.connection, startedAt: now, sending };
    this.#spent.set(peer, peer.connection);
    this.#underWay.add(attempt);
    sending.output.then(
      (output) => {
        this.#underWay.delete(attempt);
        if (!this.#call.waits) this.#pool.onAnswer(performance.now() - now);
        if (this.#finish()) this.#done.resolve(output);
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
    const fault = error instanceof InstanceFault;
    if (!fault) this.#metService = true;
    const again = error.retryable || (fault && error.noEffect) ||
      (this.#call.idempotent && (fault || error.code === "unavailable"));
    if (!again) return this.fail(this.#orUnknown(error));
    this.#next();
  }

  /** The call was sent, has no answer and must not be repeated: its outcome is unknown. */
  #orUnknown(error: RpcError): RpcError {
    const { code, message, retryable, cause } = error;
    const isLost = code === "deadline_exceeded" || code === "unavailable" && !retryable;
    if (this.#call.idempotent || !isLost) return error;
    return new RpcError("unknown", message, { cause: cause ?? error });
  }

  /** Every instance has been tried, or there is none. */
  #rest(now: number): void {
    const error = this.#lastError;
    // More calls would only make overloaded instances worse.
    if (error?.code === "overloaded") return this.fail(error);
    // Instances that are impostors do not count.
    if (!this.#metService && now - this.#call.started >= this.#pool.appearMs) {
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
    // An instance that answers other calls is only slow with this one: a second call would add to its work.
    if (this.#call.idempotent && !answering) this.#next();
    else this.#arm(now);
  };

  /** Returns true when an instance that this call waits for has answered anything since. */
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
    if (this.#pool.queue.has(this.#onPlace)) {
      this.fail(this.#overloaded());
    } else if (this.#underWay.size === 0) {
      this.fail(this.#lastError ?? this.#nobody());
    } else {
      const tookMs = Math.round(this.#call.deadline - this.#call.started);
      const before = this.#lastError === undefined ? "" : `; before: ${this.#lastError.message}`;
      const message = `${this.#what} took longer than ${tookMs} ms${before}`;
      this.fail(this.#orUnknown(new RpcError("deadline_exceeded", message)));
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
    this.#pool.queue.delete(this.#onPlace);
    for (const { sending } of this.#underWay) sending.abandon();
    return true;
  }
}
