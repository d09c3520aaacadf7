/** Tells stat which targets are published to, before it happens: stat reads their logs where a hook wants messages. */
import type { Logger } from "@gru/shared/log";
import { repeat, type Repeated } from "@gru/shared/repeat";
import { within } from "@gru/shared/within";
import type { Position, Target } from "../wire.ts";

export interface ActiveTarget {
  readonly target: Target;
  /** Before the publication. */
  readonly position: Position;
}

export interface ActiveTargetsOptions {
  /** Resolves to whether a hook wants messages; with no targets it only asks. */
  readonly note: (targets: readonly ActiveTarget[], signal: AbortSignal) => Promise<boolean>;
  readonly position: (target: Target) => Promise<Position>;
  readonly log: Logger;
}

interface Noted {
  /** When stat had it last, on the clock of `performance.now()`. */
  at: number;
  triedAt: number;
  /** Publications wait for it, in the order of their calls. */
  wait: Promise<void> | undefined;
}

/** A target is noted again when this has passed: stat goes on reading for a minute. */
const againMs = 5000;
/** A publication waits for a note when the last one is older: well within that minute. */
const staleMs = 30_000;
/** A publication waits for stat no longer than this; the note is repeated until stat has it. */
const waitMs = 1000;
const askMs = 5000;
const retryMs = 500;
/** In one call. */
const together = 100;

export class ActiveTargets implements AsyncDisposable {
  readonly #options: ActiveTargetsOptions;
  readonly #noted = new Map<Target, Noted>();
  readonly #waiting: { readonly active: ActiveTarget; readonly resolve: () => void }[] = [];
  readonly #asked = Promise.withResolvers<void>();
  readonly #asking: Repeated;
  #isWanted: boolean | undefined;
  #failing = false;

  constructor(options: ActiveTargetsOptions) {
    this.#options = options;
    this.#asking = repeat((signal) => this.#send(signal));
  }

  /** Await it before a publication to the target. Undefined: nothing to wait for. */
  before(target: Target): Promise<void> | undefined {
    const known = this.#noted.get(target);
    // First of all: whoever comes later does not overtake.
    if (known?.wait !== undefined) return known.wait;
    if (this.#isWanted === false || (this.#isWanted === undefined && this.#failing)) return;
    const now = performance.now();
    if (known !== undefined && now - known.triedAt < againMs) return;
    const noted: Noted = { at: known?.at ?? -Infinity, triedAt: now, wait: undefined };
    this.#noted.delete(target);
    this.#noted.set(target, noted);
    this.#forgetOld(now);
    const done = this.#note(target, noted);
    if (this.#failing || now - noted.at < staleMs) return;
    const wait = within(done, waitMs);
    noted.wait = wait;
    // The first reaction to it: nobody comes between this and those who wait.
    void wait.then(() => noted.wait = undefined);
    return wait;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#asking[Symbol.asyncDispose]();
    for (const { resolve } of this.#waiting.splice(0)) resolve();
    this.#asked.resolve();
  }

  async #note(target: Target, noted: Noted): Promise<void> {
    try {
      if (this.#isWanted === undefined) await this.#asked.promise;
      if (!this.#isWanted) return;
      const position = await this.#options.position(target);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#waiting.push({ active: { target, position }, resolve });
      this.#asking.hurry();
      await promise;
      noted.at = noted.triedAt;
    } catch (error) {
      // Where there is no position nothing can be published, either.
      this.#options.log.debug("{target} has no position: {error}", { target, error });
    }
  }

  #forgetOld(now: number): void {
    for (const [target, { triedAt }] of this.#noted) {
      if (now - triedAt < staleMs) return;
      this.#noted.delete(target);
    }
  }

  /** @returns when to call it again */
  async #send(signal: AbortSignal): Promise<number> {
    while (!signal.aborted) {
      const some = this.#waiting.slice(0, together);
      try {
        this.#isWanted = await this.#options.note(some.map(({ active }) => active), signal);
      } catch (error) {
        if (!this.#failing) {
          this.#options.log.debug("stat does not learn which targets are active: {error}", {
            error,
          });
        }
        this.#failing = true;
        return retryMs;
      }
      this.#failing = false;
      this.#asked.resolve();
      for (const { resolve } of this.#waiting.splice(0, some.length)) resolve();
      if (this.#waiting.length === 0) break;
    }
    return askMs;
  }
}
