/**
 * Which users were kicked when: what was issued to them before lets nobody in any more. Kept by stat as bans are, and followed by every
 * node; a node that cannot ask takes nothing that is older than its knowledge.
 */
import type { FollowedClock } from "@gru/shared/clock";
import type { Logger } from "@gru/shared/log";
import { repeat, type Repeated } from "@gru/shared/repeat";
import { RpcError } from "@gru/shared/rpc/contract";
import { within } from "@gru/shared/within";
import { disconnects } from "../disconnects.ts";
import { code, EventError } from "../wire.ts";

export interface KickedUser {
  readonly userId: string;
  /** Unix milliseconds, on the clock of stat's store. */
  readonly at: number;
}

/** No token lives longer: rights stand for a day at most, and clocks differ by five minutes at most. */
const keptMs = 86_400_000 + 600_000;

export class Kicks {
  readonly #clock: FollowedClock;
  /** When each was kicked, and when that was heard of (`performance.now()`). */
  readonly #known = new Map<string, { readonly at: number; readonly heardAt: number }>();
  #sweepAt = 1000;

  /** @param clock of stat's store */
  constructor(clock: FollowedClock) {
    this.#clock = clock;
  }

  /** Those from a moment on that were heard of by `askedAt` (`performance.now()`). */
  since(from: number, askedAt: number): KickedUser[] {
    return [...this.#known].flatMap(([userId, { at, heardAt }]) =>
      at >= from && heardAt <= askedAt ? [{ userId, at }] : []
    );
  }

  /** `true`: this was not known. */
  add({ userId, at }: KickedUser, heardAt = performance.now()): boolean {
    if (at <= (this.#known.get(userId)?.at ?? 0)) return false;
    if (this.#known.size >= this.#sweepAt) this.#sweep();
    this.#known.set(userId, { at, heardAt });
    return true;
  }

  /** @param issuedAt Unix milliseconds; undefined: the scheme's tokens do not say, and a kick ends connections only */
  isVoid(userId: string, issuedAt: number | undefined): boolean {
    return issuedAt !== undefined && issuedAt <= (this.#known.get(userId)?.at ?? -Infinity);
  }

  /** @throws {EventError} */
  check(userId: string, issuedAt: number | undefined): void {
    if (!this.isVoid(userId, issuedAt)) return;
    throw new EventError(
      code.parameterError,
      `auth: the tokens are not valid for user ${userId}: they are from before the user was kicked`,
      { ends: disconnects.refused },
    );
  }

  #sweep(): void {
    const from = this.#clock.now() - keptMs;
    for (const [userId, { at }] of this.#known) if (at < from) this.#known.delete(userId);
    this.#sweepAt = Math.max(1000, 2 * this.#known.size);
  }
}

/** As stat answers. */
export interface KicksPage {
  readonly kicks: readonly KickedUser[];
  readonly now: number;
  readonly more: boolean;
  readonly count?: number | undefined;
  readonly from?: number | undefined;
}

export interface FollowKicksOptions {
  readonly kicks: Kicks;
  /** Of stat. */
  readonly read: (since: number, signal: AbortSignal) => Promise<KicksPage>;
  /** Brings kicks back that the store has lost. */
  readonly restore: (kicks: readonly KickedUser[], signal: AbortSignal) => Promise<void>;
  /** Of the store; learns from its answers. */
  readonly clock: FollowedClock;
  readonly periodMs: number;
  /** A kick that this node has not been told: it was away. */
  readonly onMissed: (kicked: KickedUser) => void;
  readonly log: Logger;
}

/** Read again each time: a store's clock may go back when a replica takes over. */
const overlapMs = 60_000;
/** What is known may be so much older than the period: a reading takes its time. */
const lateMs = 1000;
/** How long a client waits for a reading when what is known is too old. */
const patienceMs = 1000;

export class KicksFollower implements AsyncDisposable {
  readonly #options: FollowKicksOptions;
  readonly #stopped = new AbortController();
  /** The last complete reading began then, on `performance.now()`'s clock and as Unix milliseconds. */
  #knownAt = -Infinity;
  #knownUntil: number;
  #failedAt = -Infinity;
  /** From which moment of the store's clock the next reading is to be. */
  #since = 0;
  #reading: Promise<void> | undefined;
  #following: Repeated | undefined;

  constructor(options: FollowKicksOptions) {
    this.#options = options;
    this.#knownUntil = options.clock.now();
  }

  start(): void {
    this.#following ??= repeat(async () => {
      await this.#read();
      return this.#options.periodMs;
    });
  }

  /** The store may have lost its data: does not wait for the period to end. */
  hurry(): void {
    if (this.#following !== undefined) void this.#read();
  }

  /** @throws {EventError} when the token is void, or may be and that cannot be found out now. */
  async require(userId: string, issuedAt: number): Promise<void> {
    const { kicks } = this.#options;
    if (!this.#isCurrent() && performance.now() - this.#failedAt > patienceMs) {
      await within(this.#read(), patienceMs);
    }
    kicks.check(userId, issuedAt);
    if (this.#isCurrent() || issuedAt > this.#knownUntil) return;
    throw new EventError(
      code.systemError,
      "auth: not accepted: this node cannot find out now who was kicked; come back later, or with a new ticket",
      { ends: disconnects.tryLater, retryAfterMs: patienceMs },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped.abort();
    await this.#following?.[Symbol.asyncDispose]();
    await this.#reading;
  }

  #isCurrent(): boolean {
    return performance.now() - this.#knownAt <= this.#options.periodMs + lateMs;
  }

  /** One at a time; never rejects. */
  #read(): Promise<void> {
    return this.#reading ??= this.#readAll().catch((error) => {
      this.#failedAt = performance.now();
      // That stat is away, the reports say.
      this.#options.log.debug("kicks: {error}", { error });
    }).finally(() => this.#reading = undefined);
  }

  async #readAll(): Promise<void> {
    const { kicks, onMissed, clock } = this.#options;
    const knownAt = performance.now();
    let knownUntil: number | undefined;
    let since = this.#since;
    for (;;) {
      const askedAt = performance.now();
      const page = await this.#page(since);
      if (page.now > 0) clock.learn(page.now, askedAt);
      knownUntil ??= clock.now();
      for (const kicked of page.kicks) if (kicks.add(kicked, knownAt)) onMissed(kicked);
      const last = page.kicks.at(-1)?.at ?? since;
      if (!page.more || last <= since) {
        this.#since = Math.max(0, page.now - overlapMs);
        this.#knownAt = knownAt;
        this.#knownUntil = knownUntil;
        return await this.#compare(page, askedAt);
      }
      since = last;
    }
  }

  /** Whichever side has fewer has lost some, or has not read what another node brought back. */
  async #compare({ count: stored, from }: KicksPage, askedAt: number): Promise<void> {
    if (stored === undefined || from === undefined) return;
    const { kicks, restore, log } = this.#options;
    // What a command has brought since then it may not have had yet.
    const known = kicks.since(from, askedAt);
    if (known.length < stored) this.#since = 0;
    if (known.length <= stored) return;
    try {
      await restore(known, this.#stopped.signal);
      const { length: count } = known;
      log.info("stat lacked some of the {count} kicks that this node has, and has them again", {
        count,
      });
    } catch (error) {
      // The next reading shows it again.
      log.debug("kicks: {error}", { error });
    }
  }

  async #page(since: number): Promise<KicksPage> {
    try {
      return await this.#options.read(since, this.#stopped.signal);
    } catch (error) {
      // A stat of before there were kicks has none.
      if (!(error instanceof RpcError) || error.code !== "not_found") throw error;
      return { kicks: [], now: 0, more: false };
    }
  }
}
