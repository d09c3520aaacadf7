/**
 * Fencing for ids. For each worker a compare-and-set cell in the registry holds the ceiling: the first millisecond that
 * no process has reserved yet. The cell outlives every process. A process that raises the ceiling by compare-and-set
 * owns the milliseconds in between for ever, so two processes can never make equal ids, whatever their clocks, pauses
 * and leases do.
 *
 * Only a write with a known outcome counts. After a write with an unknown outcome the cell is read again. If it holds
 * what was to be written, another process may have written the same: this process keeps what it owned and starts its
 * next range above. If it holds anything else that this process has not written, everything is given up.
 *
 * A registry that lost its data has no cell, or an older one. Therefore every process remembers the highest ceiling
 * that it has seen. It starts above that value and writes it back for the other processes.
 */
import { type Cell, ConflictError, type Stored } from "@gru/shared/registry/registry";
import { endMs } from "./snowflake.ts";

/** Milliseconds from `fromMs` (included) to `ceilingMs` (excluded), Unix time. */
export interface Range {
  readonly fromMs: number;
  readonly ceilingMs: number;
}

/** However long the window is, the range is extended this often, milliseconds: so it stays almost the whole window. */
export const topUpMs = 5000;

/** A write whose outcome is unknown. */
interface Doubt {
  readonly before: Stored | undefined;
  readonly value: string;
}

export class Ceiling {
  readonly #cell: Cell;
  readonly #windowMs: number;
  readonly #monotonicMs: () => number;
  #ranges: readonly Range[] = [];
  /** The cell as we left it or found it. Undefined: the cell must be read first. */
  #stored: Stored | undefined;
  #doubt: Doubt | undefined;
  /** The highest ceiling that this process has read or written. 0: none yet. */
  #seenMs = 0;
  #seenAt = -Infinity;

  /** `monotonicMs` returns milliseconds, like `performance.now()`. */
  constructor(cell: Cell, windowMs: number, monotonicMs = () => performance.now()) {
    this.#cell = cell;
    this.#windowMs = windowMs;
    this.#monotonicMs = monotonicMs;
  }

  /**
   * The milliseconds that this process owns, ascending. Mostly one range; empty before the first reservation, after a
   * conflict and after {@linkcode release}.
   */
  get ranges(): readonly Range[] {
    return this.#ranges;
  }

  /** Where the last range ends. 0: there is none. */
  get endMs(): number {
    return this.#ranges.at(-1)?.ceilingMs ?? 0;
  }

  /**
   * Extends the ranges to `windowMs` beyond `usedMs`. Writes nothing while two thirds of the window are left, or all but
   * {@linkcode topUpMs} of a long window.
   *
   * @throws RegistryUnavailableError when the outcome is unknown. The ranges stay as they were.
   * @throws Error when no milliseconds are left, or the stored ceiling is not a number. The ranges stay as they were.
   * @throws ConflictError when another process has written the cell, or the registry has lost it. The ranges are then
   * empty, because another process may own the same milliseconds.
   */
  async reserve(usedMs: number): Promise<void> {
    try {
      if (this.#ranges.length > 0 && this.#stored === undefined) await this.#resolve();
      const stored = this.#stored;
      if (this.#ranges.length === 0 || stored === undefined) return await this.#claim(usedMs);
      this.#ranges = this.#ranges.filter(({ ceilingMs }, i, { length }) =>
        ceilingMs > usedMs || i === length - 1
      );
      const extendedMs = Math.min(this.#windowMs / 3, topUpMs);
      if (this.endMs - usedMs > this.#windowMs - extendedMs) return;
      const fromMs = parse(stored.value);
      // A write of ours with an unknown outcome may have got further than this: then there is time.
      const ceilingMs = this.#above(this.endMs > usedMs ? usedMs : Math.max(usedMs, fromMs));
      if (ceilingMs > fromMs) await this.#write(fromMs, ceilingMs, stored);
    } catch (error) {
      if (error instanceof ConflictError) this.release();
      throw error;
    }
  }

  /** Gives up the ranges. The highest ceiling seen is kept. */
  release(): void {
    this.#ranges = [];
    this.#stored = this.#doubt = undefined;
  }

  /**
   * Gives the ranges up, and what is not used of the last one to later holders: they need not start so far ahead. The
   * caller issues no id from `usedMs` on (Unix milliseconds). If the write fails, nothing more happens.
   */
  async giveBack(usedMs: number): Promise<void> {
    const [range, stored] = [this.#ranges.at(-1), this.#stored];
    this.release();
    if (range === undefined || stored?.value !== `${range.ceilingMs}`) return;
    const value = `${Math.min(Math.max(range.fromMs, usedMs), range.ceilingMs)}`;
    await this.#cell.write(value, stored).catch(() => {});
  }

  /**
   * Reads the ceiling that other processes have reserved, and writes it back if the registry has lost it. A process
   * without a lease calls this regularly.
   */
  async remember(): Promise<void> {
    const stored = await this.#cell.read();
    // A cell that is missing has had no other owner, and is written back below before anybody becomes one.
    if (stored !== undefined && !this.#isOurs(stored)) this.release();
    if (this.#isCurrent(stored)) return this.#note(parse(stored.value));
    if (this.#seenMs === 0) return;
    try {
      await this.#put(Math.min(this.#boundMs(), endMs), stored);
    } catch (error) {
      if (error instanceof ConflictError) this.release();
      throw error;
    }
  }

  /** Reads the cell after a write with an unknown outcome. */
  async #resolve(): Promise<void> {
    const stored = await this.#cell.read();
    if (stored !== undefined && this.#isOurs(stored)) this.#stored = stored;
    else this.release();
  }

  /** Nobody but this process has written the cell since it owns the ranges, or somebody has written just the same. */
  #isOurs(stored: Stored): boolean {
    const [known, doubt] = [this.#stored, this.#doubt];
    const same = (other: Stored | undefined) =>
      stored.value === other?.value && stored.version === other.version;
    if (doubt === undefined) return same(known);
    const version = (doubt.before?.version ?? -1) + 1;
    return same(doubt.before) || same({ value: doubt.value, version });
  }

  async #claim(usedMs: number): Promise<void> {
    const stored = await this.#cell.read();
    const fromMs = Math.max(
      usedMs,
      stored === undefined ? 0 : parse(stored.value),
      this.#isCurrent(stored) ? 0 : this.#boundMs(),
    );
    await this.#write(fromMs, this.#above(fromMs), stored);
  }

  async #write(fromMs: number, ceilingMs: number, stored: Stored | undefined): Promise<void> {
    await this.#put(ceilingMs, stored);
    const last = this.#ranges.at(-1);
    this.#ranges = last?.ceilingMs === fromMs
      ? [...this.#ranges.slice(0, -1), { fromMs: last.fromMs, ceilingMs }]
      : [...this.#ranges, { fromMs, ceilingMs }];
  }

  async #put(ceilingMs: number, stored: Stored | undefined): Promise<void> {
    const value = `${ceilingMs}`;
    this.#stored = undefined;
    this.#doubt = { before: stored, value };
    this.#stored = await this.#cell.write(value, stored);
    this.#doubt = undefined;
    this.#note(ceilingMs);
  }

  /** The cell exists and is not older than the highest ceiling seen. */
  #isCurrent(stored: Stored | undefined): stored is Stored {
    return stored !== undefined && parse(stored.value) >= this.#seenMs;
  }

  #note(ceilingMs: number): void {
    if (ceilingMs < this.#seenMs) return;
    this.#seenMs = ceilingMs;
    this.#seenAt = this.#monotonicMs();
  }

  /**
   * An upper bound of what any process has reserved: since the ceiling was seen, the active process has advanced at
   * most as fast as time, plus one window.
   */
  #boundMs(): number {
    if (this.#seenMs === 0) return 0;
    return this.#seenMs + Math.ceil(this.#monotonicMs() - this.#seenAt) + this.#windowMs;
  }

  #above(ms: number): number {
    const ceilingMs = ms + this.#windowMs;
    if (ceilingMs <= endMs) return ceilingMs;
    throw new Error(
      `Ids end at ${endMs} ms of Unix time, and this node's clock or the stored ceiling is at ${ms}`,
    );
  }
}

/** The ceiling that is stored, Unix milliseconds. 0: none. */
export async function storedMs(cell: Cell): Promise<number> {
  const stored = await cell.read();
  return stored === undefined ? 0 : parse(stored.value);
}

function parse(value: string): number {
  const ceilingMs = Number(value);
  if (!/^\d+$/.test(value) || ceilingMs > endMs) {
    throw new Error(
      `The stored ceiling is ${JSON.stringify(value)}; expected Unix milliseconds up to ${endMs}`,
    );
  }
  return ceilingMs;
}
