/**
 * What a node takes on of what clients and business systems ask for: all, or as much as it can do in time. It sees how late it is by
 * taking the way of a message itself, ten times a second: a timer, and a place among what is to be written. What waits unread in the
 * kernel waits for the same thread.
 */
import { pause } from "@gru/shared/pause";
import { RpcError } from "@gru/shared/rpc/contract";
import type { Priority } from "../broker/broker.ts";
import { code, type Result, type Target } from "../wire.ts";
import { type Submit, targetOf } from "./submit.ts";
import { type Lateness, Overload, periodMs, price } from "./overload.ts";

/** What made the node late: its thread, which reads and writes, or the broker, which answers. */
export type Cause = "thread" | "broker";

/** What may be refused: a message, a list of users, a page of history. */
export type Asked = "msg" | "online" | "history";

export interface IntakeOptions {
  /** Calls back when all that waits to be written now has been written. */
  readonly behindWrites: (callback: () => void) => void;
  /** How long a message waits for others while the node keeps up, milliseconds. */
  readonly windowMs: number;
  /** How many on this node get what is sent to the target. */
  readonly members: (target: Target) => number;
  readonly onRefused: (asked: Asked, cause: Cause) => void;
  /** How late the node is, in parts of how late it may be, in place of what is measured: for tests. */
  readonly late?: (() => Lateness) | undefined;
}

/** A message may wait so long for its turn to be written, besides its window, and for the broker's answer. */
const mostLateMs = { thread: 250, broker: 250 };
/** What is written in less time says little of what can be written in a second. */
const leastMeasuredMs = 250;
/** A recovery waits so long at most before it reads on, so that it comes to an end. */
const mostCalmMs = 1000;

/** When, how long it took, and what had been accepted before it began. */
interface Returned {
  readonly at: number;
  readonly ms: number;
  readonly accepted: number;
}

/** An answer that costs little: no error, whose stack alone costs as much as a message. */
export interface Refusal {
  readonly result: Result;
}

export function overloaded(event: Asked, retryAfterMs: number): Refusal {
  const ms = Math.ceil(retryAfterMs);
  const msg = `${event}: ${sayOverloaded(ms)}`;
  return {
    result: { success: false, errorCode: code.logicError, msg, data: { retryAfterMs: ms } },
  };
}

/** The same for a call of another program. */
export function overloadedCall(retryAfterMs: number): RpcError {
  return new RpcError("overloaded", sayOverloaded(retryAfterMs));
}

/** The same submissions of business systems, as far as they are taken on; else they reject with an {@linkcode RpcError}. */
export function takenOn(submit: Submit, intake: Pick<Intake, "takeMessage">): Submit {
  return async (submission) => {
    const retryAfterMs = intake.takeMessage(targetOf(submission), "system");
    if (retryAfterMs > 0) throw overloadedCall(retryAfterMs);
    return await submit(submission);
  };
}

function sayOverloaded(retryAfterMs: number): string {
  return `not accepted: this node has more to do than it can; try again in ${
    Math.ceil(retryAfterMs / 100) / 10
  } s`;
}

export class Intake implements Disposable {
  readonly #options: IntakeOptions;
  readonly #overload = new Overload();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #lookedAt = 0;
  #isAsked = false;
  #cause: Cause = "thread";
  /** What the broker has accepted so far, in deliveries. */
  #accepted = 0;
  /** The shortest that the broker took since the last look. */
  #brokerMs = Infinity;
  /** When those began that have not come back, on the clock of `performance.now()`. */
  readonly #probes: number[] = [];
  /** The last one that came back. */
  #returned: Returned = { at: 0, ms: 0, accepted: 0 };
  /** The last one that was looked at. */
  #seen = this.#returned;

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** Of a message that is about to be sent. @returns as {@linkcode Overload.take} */
  takeMessage(target: Target, priority: Priority): number {
    return this.#take("msg", target, price.ofMessage(this.#options.members(target)), priority);
  }

  /** Of a question about a target. @returns as {@linkcode Overload.take} */
  takeReading(asked: Exclude<Asked, "msg">, target: Target): number {
    const cost = price.ofReading(this.#options.members(target));
    return this.#take(asked, `${asked} ${target}`, cost, "normal");
  }

  /** A message was accepted, `ms` after it was sent on. */
  accepted(target: Target, ms: number): void {
    this.#accepted += price.ofMessage(this.#options.members(target));
    this.#brokerMs = Math.min(this.#brokerMs, ms);
  }

  /** Resolves when the node keeps up, or after a second: what can wait lets others go first. */
  async calm(hasEnded: () => boolean): Promise<void> {
    const until = performance.now() + mostCalmMs;
    while (this.#overload.limits && performance.now() < until && !hasEnded()) await pause(periodMs);
  }

  #take(asked: Asked, key: string, cost: number, priority: Priority): number {
    this.#isAsked = true;
    if (this.#timer === undefined) this.#start();
    const retryAfterMs = this.#overload.take(key, cost, priority);
    if (retryAfterMs > 0) this.#options.onRefused(asked, this.#cause);
    return retryAfterMs;
  }

  #start(): void {
    const now = performance.now();
    this.#lookedAt = now;
    this.#returned = this.#seen = { at: now, ms: 0, accepted: this.#accepted };
    this.#lookAt(now + periodMs);
  }

  #lookAt(due: number): void {
    this.#timer = setTimeout(() => this.#look(due), due - performance.now());
  }

  #look(due: number): void {
    const now = performance.now();
    const { lates, cause } = this.#lateness(now);
    this.#cause = cause;
    this.#overload.look(
      this.#options.late?.() ?? lates[cause],
      this.#donePerSecond(),
      now - this.#lookedAt,
    );
    this.#lookedAt = now;
    if (!this.#isAsked && !this.#overload.limits && this.#probes.length === 0) {
      this.#timer = undefined;
      return;
    }
    if (this.#isAsked || this.#overload.limits) this.#probe(due);
    this.#isAsked = false;
    this.#lookAt(now + periodMs);
  }

  #lateness(now: number) {
    const threadMs = Math.max(this.#returned.ms, now - (this.#probes[0] ?? now));
    const lates: Readonly<Record<Cause, Lateness>> = {
      thread: threadMs / (mostLateMs.thread + this.#options.windowMs),
      // While it gives no answer at all, what was sent waits for it, as at other times.
      broker: this.#brokerMs === Infinity ? 0 : this.#brokerMs / mostLateMs.broker,
    };
    this.#brokerMs = Infinity;
    const cause: Cause = lates.broker > lates.thread ? "broker" : "thread";
    return { lates, cause };
  }

  /** @param began before now where the timer is late, as what came meanwhile is */
  #probe(began: number): void {
    this.#probes.push(began);
    const accepted = this.#accepted;
    this.#options.behindWrites(() => {
      this.#probes.shift();
      const at = performance.now();
      this.#returned = { at, ms: at - began, accepted };
    });
  }

  /** What had been accepted before one that came back has been written then. */
  #donePerSecond(): number | undefined {
    const [before, last] = [this.#seen, this.#returned];
    const tookMs = last.at - before.at;
    if (tookMs < leastMeasuredMs) return;
    this.#seen = last;
    return (last.accepted - before.accepted) * 1000 / tookMs;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}
