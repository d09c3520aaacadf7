/**
 * Who may issue ids, and which. One worker id is leased: the lease says who is active and is asked before every id, so
 * that a process that slept stops before another starts. The ids themselves come from milliseconds reserved through
 * {@linkcode Ceiling}, so that even two processes that both believed in their lease would make no equal ids.
 *
 * Where all nodes share one worker only one can be active, and every one starts above what was reserved before: order
 * over failover. Where each leases another worker all are active.
 */
import type { Logger } from "@gru/shared/log";
import { ConflictError, type Lease, type Registry } from "@gru/shared/registry";
import { RpcError } from "@gru/shared/rpc/contract";
import { Ceiling } from "./ceiling.ts";
import { Snowflake } from "./snowflake.ts";

export interface Time {
  /** Whole Unix milliseconds; may jump either way. */
  wallMs(): number;
  /** Milliseconds of `performance.now()`; never goes back, and goes on while the process is stopped. */
  monotonicMs(): number;
  /** Resolves after `ms`, or as soon as `signal` is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export function systemTime(wallMs = Date.now): Time {
  return { wallMs, monotonicMs: () => performance.now(), sleep };
}

export function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    function wake(): void {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
      resolve();
    }
    const timer = setTimeout(wake, ms);
    if (signal.aborted) wake();
    else signal.addEventListener("abort", wake);
  });
}

export interface IssuerOptions {
  readonly registry: Pick<Registry, "acquire" | "cell">;
  /** The name of this node, for people who look into the registry. */
  readonly holder: string;
  /** The workers to try, in this order, whenever one is wanted. */
  readonly workers: () => Iterable<number>;
  /** How far ahead milliseconds are reserved. */
  readonly ceilingMs: number;
  /** Between two tries to get a lease. */
  readonly retryMs: number;
  readonly time: Time;
  readonly log: Logger;
  /** Told when the node becomes active (the worker it leased) and when it no longer is (undefined). */
  readonly onChange: (worker: number | undefined) => void;
}

interface Active {
  readonly lease: Lease;
  readonly ceiling: Ceiling;
  readonly snowflake: Snowflake;
}

export class Issuer implements AsyncDisposable {
  readonly #options: IssuerOptions;
  readonly #run: Promise<void>;
  #active: Active | undefined;
  /** No id of this process is later; it outlives the lease, should the registry lose what it stored. */
  #usedMs = 0;
  #complaint: string | undefined;
  readonly #closing = new AbortController();
  /** Aborted by a call that finds the reservation used up. */
  #wanted = new AbortController();
  /** Resolved, and replaced, whenever calls that wait should look again. */
  #turn = Promise.withResolvers<void>();

  constructor(options: IssuerOptions) {
    this.#options = options;
    this.#run = this.#loop();
  }

  /** The worker leased; undefined: standing by. */
  get worker(): number | undefined {
    return this.#active?.snowflake.worker;
  }

  /** Unix milliseconds: no id of this process is later. */
  get usedMs(): number {
    return this.#usedMs;
  }

  /** Resolves at the next change: a lease or a reservation won, lost, or tried for in vain. */
  changed(): Promise<void> {
    return this.#turn.promise;
  }

  /**
   * `count` new ids, ascending; each is greater than every id of a call that this issuer (or, where nodes share
   * a worker, any of them) answered before this one began. Rejects with RpcError `unavailable` while this node is
   * not the one to ask. `isDropped` says that the caller no longer waits.
   */
  async next(count: number, isDropped = () => false): Promise<string[]> {
    let ids = this.#take(count);
    while (ids.length < count) {
      this.#wanted.abort();
      await this.#turn.promise;
      if (isDropped()) throw new RpcError("deadline_exceeded", "The caller no longer waits");
      ids = ids.concat(this.#take(count - ids.length));
    }
    return ids;
  }

  #take(count: number): string[] {
    const active = this.#active;
    if (active === undefined) throw unavailable("this node is standing by");
    const { time } = this.#options;
    if (time.monotonicMs() >= active.lease.validUntil()) {
      throw unavailable("the lease cannot be confirmed");
    }
    const range = active.ceiling.range;
    const nowMs = time.wallMs();
    // A clock beyond the ceiling may mean that the whole machine slept, its monotonic clock too: reserve anew first.
    if (range === undefined || nowMs >= range.ceilingMs) return [];
    const ids = active.snowflake.next(count, Math.max(nowMs, range.fromMs), range.ceilingMs);
    this.#usedMs = Math.max(this.#usedMs, active.snowflake.usedMs);
    return ids;
  }

  async #loop(): Promise<void> {
    const { retryMs, time } = this.#options;
    while (!this.#closing.signal.aborted) {
      try {
        const active = await this.#acquire();
        if (active !== undefined) {
          await this.#serve(active);
          continue;
        }
      } catch (error) {
        this.#complain("cannot get a lease for ids", error);
      }
      this.#announce();
      await time.sleep(retryMs, this.#closing.signal);
    }
  }

  async #acquire(): Promise<Active | undefined> {
    const { registry, holder, workers, ceilingMs } = this.#options;
    for (const worker of workers()) {
      if (this.#closing.signal.aborted) return undefined;
      const lease = await registry.acquire(`idgen/leases/${worker}`, holder);
      if (lease === undefined) continue;
      const cell = registry.cell(`idgen/workers/${worker}`);
      return {
        lease,
        ceiling: new Ceiling(cell, ceilingMs),
        snowflake: new Snowflake(worker),
      };
    }
    return undefined;
  }

  /** Issues until the lease is lost, another writes the cell, or we close. */
  async #serve(active: Active): Promise<void> {
    const { onChange, ceilingMs, retryMs, time } = this.#options;
    const { lease, ceiling, snowflake } = active;
    const over = AbortSignal.any([lease.lost, this.#closing.signal]);
    try {
      while (!over.aborted) {
        let failed = false;
        this.#wanted = new AbortController();
        try {
          await ceiling.reserve(Math.max(time.wallMs(), this.#usedMs + 1));
        } catch (error) {
          if (error instanceof ConflictError) throw error;
          this.#complain("cannot reserve milliseconds for ids", error);
          failed = true;
        }
        if (over.aborted) break;
        if (this.#active === undefined && ceiling.range !== undefined) {
          this.#active = active;
          this.#complaint = undefined;
          onChange(snowflake.worker);
        }
        this.#announce();
        // After a failure calls cannot hurry the next try: the registry has enough to do.
        if (failed) await time.sleep(retryMs, over);
        else await time.sleep(ceilingMs / 3, AbortSignal.any([over, this.#wanted.signal]));
      }
    } finally {
      if (this.#active !== undefined) {
        this.#active = undefined;
        onChange(undefined);
      }
      this.#announce();
      await lease[Symbol.asyncDispose]();
    }
  }

  /** Once for each cause, not at every try. */
  #complain(what: string, error: unknown): void {
    const complaint = `${what}: ${error}`;
    if (complaint !== this.#complaint) this.#options.log.warn(complaint);
    this.#complaint = complaint;
  }

  #announce(): void {
    this.#turn.resolve();
    this.#turn = Promise.withResolvers();
  }

  /** Stops issuing and gives the lease back. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#run;
  }
}

function unavailable(why: string): RpcError {
  return new RpcError("unavailable", `No ids here: ${why}`);
}
