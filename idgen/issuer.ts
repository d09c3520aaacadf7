/**
 * Decides which process may issue ids, and which ids. A process leases one worker. It checks the lease before every id,
 * so a process that was frozen stops before another one starts. The ids come from milliseconds reserved through
 * {@linkcode Ceiling}, so even two processes that both believe they hold the lease make no equal ids.
 *
 * When all nodes share one worker, only one of them is active, and each one starts above what was reserved before: ids
 * stay ordered over a failover. When each node leases a different worker, all of them are active.
 *
 * An issuer that must only keep ids apart (`proof: "ceiling"`) needs no lease to use what it has reserved: nobody else
 * can ever reserve the same milliseconds. It continues while the registry is away, until the reservation ends. The lease
 * then only keeps two nodes from using one worker in turn.
 *
 * Lease and ceiling are stored in the registry. A registry that lost its data grants the lease of an active node to
 * another node. So a new lease holder waits until a forgotten holder has certainly stopped (`validFrom`). It then
 * starts above everything that the forgotten holder may have reserved, as far as running processes have seen it and
 * clocks allow.
 */
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import type { Lease, Registry } from "@gru/shared/registry/registry";
import { RpcError } from "@gru/shared/rpc/contract";
import { Ceiling, storedMs, topUpMs } from "./ceiling.ts";
import { Snowflake } from "./snowflake.ts";

export interface Time {
  /** Whole Unix milliseconds; may jump either way. */
  wallMs(): number;
  /** Milliseconds, like `performance.now()`: never goes back, and continues while the process is stopped. */
  monotonicMs(): number;
  /** Resolves after `ms`, or as soon as `signal` is aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

export function systemTime(wallMs = Date.now): Time {
  return { wallMs, monotonicMs: () => performance.now(), sleep: pause };
}

export interface IssuerOptions {
  readonly registry: Pick<Registry, "acquire" | "cell">;
  /** The name of this node; an operator sees it in the registry. */
  readonly holder: string;
  /** The workers to try, in this order, whenever the node needs a lease. */
  readonly workers: () => Iterable<number>;
  /**
   * What an id needs. `lease`: a lease that is certainly held and a reservation; ids are ordered over all nodes that
   * share the worker. `ceiling`: a reservation; ids are unique.
   */
  readonly proof: "lease" | "ceiling";
  /** How many milliseconds of ids to reserve ahead. */
  readonly ceilingMs: number;
  /** Ids are at this time or later if they can be, Unix milliseconds. */
  readonly floorMs?: () => number;
  /**
   * How far beyond its clock a node starts if it cannot know whether the registry lost its data; another node's clock
   * may be ahead by this much. Milliseconds.
   */
  readonly marginMs: number;
  /** The time between two attempts to get a lease. */
  readonly retryMs: number;
  readonly time: Time;
  readonly log: Logger;
  /** Called with the leased worker when the node becomes active, and with undefined when it no longer is. */
  readonly onChange: (worker: number | undefined) => void;
}

/** One for each number: a worker that is leased again continues above its own ids. */
interface Worker {
  readonly ceiling: Ceiling;
  readonly snowflake: Snowflake;
}

interface Active extends Worker {
  readonly lease: Lease;
}

/** So many workers whose ids are ahead of the clock are passed over before one is taken. */
const passedOverAtMost = 3;

export class Issuer implements AsyncDisposable {
  readonly #options: IssuerOptions;
  readonly #run: Promise<void>;
  #active: Active | undefined;
  /**
   * No id of this process is later, Unix milliseconds. Kept beyond the lease, in case the registry loses the ceiling.
   */
  #usedMs = 0;
  #lastWarning: string | undefined;
  /** Every worker that this process has leased or waits for. Never removed. */
  readonly #workers = new Map<number, Worker>();
  #rememberedAt = -Infinity;
  #isWaiting = false;
  readonly #closing = new AbortController();
  /** A call aborts it when the reservation is used up. */
  #wanted = new AbortController();
  /** Resolved and replaced whenever waiting calls should check again. */
  #turn = Promise.withResolvers<void>();

  constructor(options: IssuerOptions) {
    this.#options = options;
    this.#run = this.#loop();
  }

  /** The worker of this node's ids. Undefined while the node is standing by. */
  get worker(): number | undefined {
    return this.#active?.snowflake.worker;
  }

  /**
   * This node has the lease and does not issue yet, because a holder that the registry has forgotten may still issue.
   */
  get isWaiting(): boolean {
    return this.#isWaiting;
  }

  /** No id of this process is later, Unix milliseconds. */
  get usedMs(): number {
    return this.#usedMs;
  }

  /** The lease is certainly held. */
  get isConfirmed(): boolean {
    const { time } = this.#options;
    return this.#active !== undefined && time.monotonicMs() < this.#active.lease.validUntil();
  }

  /** How long the reserved milliseconds last, by the clock. 0: none. */
  get reservedMs(): number {
    const endMs = this.#active?.ceiling.endMs ?? 0;
    return Math.max(0, endMs - Math.max(this.#options.time.wallMs(), this.#usedMs));
  }

  /** Resolves at the next change: a lease or a reservation was won, lost or not granted. */
  changed(): Promise<void> {
    return this.#turn.promise;
  }

  /**
   * `count` new ids, ascending. Each id is greater than every id of a call that was answered before this one began (by
   * this issuer, or by any issuer when all nodes share one worker). Rejects with RpcError `unavailable` while this node
   * does not issue. `isDropped` returns true when the caller has given up.
   */
  async next(count: number, isDropped = () => false): Promise<string[]> {
    let ids = this.#take(count);
    while (ids.length < count) {
      this.#wanted.abort();
      await this.#turn.promise;
      if (isDropped()) {
        throw new RpcError("deadline_exceeded", "The caller gave up before the ids were ready");
      }
      ids = ids.concat(this.#take(count - ids.length));
    }
    return ids;
  }

  #take(count: number): string[] {
    const active = this.#active;
    if (active === undefined) throw unavailable("this node is standing by");
    const { time, proof, floorMs } = this.#options;
    const { isConfirmed } = this;
    if (!isConfirmed && proof === "lease") throw unavailable("the lease cannot be confirmed");
    const { ceiling: { ranges }, snowflake } = active;
    const nowMs = time.wallMs();
    const ahead = ranges.filter(({ ceilingMs }) => nowMs < ceilingMs);
    // A clock beyond the ceiling may mean that the whole machine was suspended, its monotonic clock too: reserve first.
    if (isConfirmed && ahead.length === 0) return [];
    const ids: string[] = [];
    for (const { fromMs, ceilingMs } of ahead.length > 0 ? ahead : ranges) {
      // A time beyond the range is left out: the ids then follow the last one.
      const times = [nowMs, floorMs?.() ?? 0].filter((ms) => ms < ceilingMs);
      ids.push(...snowflake.next(count - ids.length, Math.max(fromMs, ...times), ceilingMs));
      if (ids.length === count) break;
    }
    this.#usedMs = Math.max(this.#usedMs, snowflake.usedMs);
    if (!isConfirmed && ids.length < count) {
      throw unavailable("the registry cannot be reached, and the reserved ids are used up");
    }
    return ids;
  }

  async #loop(): Promise<void> {
    const { retryMs, time } = this.#options;
    while (!this.#closing.signal.aborted) {
      await this.#rememberRegularly();
      try {
        const active = await this.#acquire();
        if (active !== undefined) {
          await this.#serve(active);
          continue;
        }
        // The registry has answered: other nodes hold every worker that this node may use.
        this.#giveUp();
      } catch (error) {
        this.#warnOnce("cannot get a lease for ids", error);
      }
      this.#wakeCalls();
      await time.sleep(retryMs, this.#closing.signal);
    }
  }

  #worker(number: number): Worker {
    const { registry, ceilingMs, time } = this.#options;
    return this.#workers.getOrInsertComputed(number, () => {
      const cell = registry.cell(`idgen/workers/${number}`);
      return {
        ceiling: new Ceiling(cell, ceilingMs, () => time.monotonicMs()),
        snowflake: new Snowflake(number),
      };
    });
  }

  /** {@linkcode Issuer.#remember} while standing by, now and then. */
  async #rememberRegularly(): Promise<void> {
    const { ceilingMs, time } = this.#options;
    if (time.monotonicMs() - this.#rememberedAt < Math.min(ceilingMs / 3, 1000)) return;
    this.#rememberedAt = time.monotonicMs();
    await this.#remember();
  }

  /**
   * Reads the ceilings of what this node has issued or may issue, and writes them back if the registry has lost them.
   * Returns false when one of them could not be read or written.
   */
  async #remember(): Promise<boolean> {
    const { workers } = this.#options;
    const [worker, another] = workers();
    // With a single possible worker, this node needs its ceiling sooner or later.
    if (worker !== undefined && another === undefined) this.#worker(worker);
    let isDone = true;
    for (const { ceiling } of this.#workers.values()) {
      try {
        await ceiling.remember();
      } catch (error) {
        isDone = false;
        this.#warnOnce("cannot read which ids are reserved", error);
      }
    }
    return isDone;
  }

  async #acquire(): Promise<Active | undefined> {
    const { registry, holder, workers, proof } = this.#options;
    const own = this.#active?.snowflake.worker;
    let passedOver = 0;
    for (const number of own === undefined ? workers() : [own, ...workers()]) {
      if (this.#closing.signal.aborted) return undefined;
      const lease = await registry.acquire(`idgen/leases/${number}`, holder);
      if (lease === undefined) continue;
      if (
        proof === "ceiling" && number !== own && passedOver < passedOverAtMost &&
        await this.#isAhead(number)
      ) {
        passedOver++;
        await lease[Symbol.asyncDispose]();
        continue;
      }
      return { lease, ...this.#worker(number) };
    }
    return undefined;
  }

  /** A node that died has reserved milliseconds of this worker that lie ahead, so its next ids would be ahead, too. */
  async #isAhead(number: number): Promise<boolean> {
    const { registry, time } = this.#options;
    try {
      return await storedMs(registry.cell(`idgen/workers/${number}`)) > time.wallMs();
    } catch {
      return true;
    }
  }

  /** Issues ids until the lease is lost or the issuer is closed. */
  async #serve(active: Active): Promise<void> {
    const { ceilingMs, marginMs, retryMs, time, proof, floorMs } = this.#options;
    const { lease, ceiling, snowflake } = active;
    const over = AbortSignal.any([lease.lost, this.#closing.signal]);
    try {
      // What this node still owns needs no wait.
      if (ceiling.ranges.length > 0) this.#begin(active);
      const isInDoubt = await this.#waitForForgottenHolder(lease, over);
      while (!over.aborted) {
        let failed = false;
        this.#wanted = new AbortController();
        try {
          const aheadMs = isInDoubt && this.#active !== active ? marginMs : 0;
          const nowMs = time.wallMs() + aheadMs;
          await ceiling.reserve(Math.max(nowMs, this.#usedMs + 1, floorMs?.() ?? 0));
        } catch (error) {
          this.#warnOnce("cannot reserve milliseconds for ids", error);
          failed = true;
        }
        if (over.aborted) break;
        if (ceiling.ranges.length > 0) this.#begin(active);
        this.#wakeCalls();
        // After a failure calls cannot trigger an earlier attempt: the registry has enough to do.
        if (failed) await time.sleep(retryMs, over);
        else {
          const againMs = Math.min(ceilingMs / 3, topUpMs);
          await time.sleep(againMs, AbortSignal.any([over, this.#wanted.signal]));
        }
      }
    } finally {
      const isActive = this.#active?.snowflake === snowflake;
      if (!isActive) ceiling.release();
      else if (proof === "lease" || this.#closing.signal.aborted) {
        if (proof === "ceiling") await ceiling.giveBack(snowflake.usedMs + 1);
        this.#giveUp();
      }
      this.#wakeCalls();
      await lease[Symbol.asyncDispose]();
    }
  }

  #begin(active: Active): void {
    const last = this.#active;
    if (last === active) return;
    if (last !== undefined && last.ceiling !== active.ceiling) last.ceiling.release();
    this.#active = active;
    this.#lastWarning = undefined;
    if (last?.ceiling !== active.ceiling) this.#options.onChange(active.snowflake.worker);
  }

  #giveUp(): void {
    if (this.#active === undefined) return;
    this.#active.ceiling.release();
    this.#active = undefined;
    this.#options.onChange(undefined);
  }

  /**
   * Waits as long as a holder that the registry has forgotten may still issue. Returns true when such a holder may have
   * existed. It may have been this node, with another worker: whoever gets that one now waits only so long for its ceiling.
   */
  async #waitForForgottenHolder(lease: Lease, over: AbortSignal): Promise<boolean> {
    const { time, log, retryMs } = this.#options;
    const waitMs = () => Math.ceil(lease.validFrom - time.monotonicMs());
    if (waitMs() <= 0) return false;
    log.info(
      "starts to issue ids in {waitMs} ms: until then another node may still issue, if the registry has lost its lease",
      {
        waitMs: waitMs(),
      },
    );
    this.#isWaiting = true;
    this.#wakeCalls();
    let isRemembered = false;
    while (waitMs() > 0 && !over.aborted) {
      isRemembered ||= await this.#remember();
      await time.sleep(isRemembered ? waitMs() : retryMs, over);
    }
    this.#isWaiting = false;
    return true;
  }

  /** Warns once for each cause, not at every attempt. */
  #warnOnce(what: string, error: unknown): void {
    const warning = `${what}: ${error}`;
    if (warning !== this.#lastWarning) this.#options.log.warn(warning);
    this.#lastWarning = warning;
  }

  #wakeCalls(): void {
    this.#turn.resolve();
    this.#turn = Promise.withResolvers();
  }

  /** Stops issuing ids and releases the lease. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#run;
    this.#giveUp();
  }
}

function unavailable(why: string): RpcError {
  return new RpcError("unavailable", `This node issues no ids now: ${why}`);
}
