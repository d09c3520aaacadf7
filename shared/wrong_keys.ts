/**
 * Counts who comes with a wrong key or password, so that each address is noted once a minute with its count, and nobody can
 * fill a log by guessing. Never sees the keys themselves.
 */
import { RateLimit } from "./rate_limit.ts";

export interface WrongKeys {
  /** `several`: of more addresses than are noted one by one. */
  readonly address: string;
  /** Who they say they are; `unknown` where they do not say, or nobody has that name. */
  readonly who: string;
  readonly count: number;
}

export interface WrongKeysOptions {
  /** Notes what came in a period, at its end. */
  readonly note: (wrong: WrongKeys) => Promise<void>;
  readonly periodMs?: number;
  /** Default: the clock. Milliseconds that only grow. */
  readonly now?: () => number;
}

const several = "several";
const unknown = "unknown";
const addressesCounted = 1000;
/** Of notes: at most about 600 a day, so that what else is in the log stays there. */
const rate = { perSecond: 1 / 180, burst: 60 };
const rateOfSeveral = { perSecond: 1 / 600, burst: 1 };

export class WrongKeysCount implements AsyncDisposable {
  readonly #options: WrongKeysOptions;
  readonly #now: () => number;
  readonly #limit = new RateLimit(rate);
  readonly #limitOfSeveral = new RateLimit(rateOfSeveral);
  readonly #counts = new Map<string, WrongKeys>();
  readonly #noting = new Set<Promise<void>>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Of the others, which are noted together. */
  #others = 0;

  constructor(options: WrongKeysOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** True when it is the first one of this address in this period. */
  add(address: string, who = unknown): boolean {
    this.#arm();
    const key = `${address} ${who}`;
    const known = this.#counts.get(key);
    if (known === undefined && this.#counts.size >= addressesCounted) {
      this.#others++;
      return false;
    }
    this.#counts.set(key, { address, who, count: (known?.count ?? 0) + 1 });
    return known === undefined;
  }

  /** Notes what came until now. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end();
    clearTimeout(this.#timer);
    this.#noteOthers();
    await Promise.all(this.#noting);
  }

  #arm(): void {
    this.#timer ??= setTimeout(() => this.#end(), this.#options.periodMs ?? 60_000);
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const counts = [...this.#counts.values()].sort((a, b) => b.count - a.count);
    this.#counts.clear();
    for (const wrong of counts) {
      if (this.#limit.take(this.#now()) === 0) this.#note(wrong);
      else this.#others += wrong.count;
    }
    if (this.#others === 0) return;
    if (this.#limitOfSeveral.take(this.#now()) === 0) this.#noteOthers();
    else this.#arm();
  }

  #noteOthers(): void {
    if (this.#others === 0) return;
    this.#note({ address: several, who: unknown, count: this.#others });
    this.#others = 0;
  }

  #note(wrong: WrongKeys): void {
    const noting = this.#options.note(wrong).finally(() => this.#noting.delete(noting));
    this.#noting.add(noting);
  }
}
