/**
 * Fencing. A cell that outlives everyone holds, for one worker, the first millisecond that nobody has reserved yet. Who
 * moves it on by compare-and-set owns what it moved over, alone and for ever, so no two processes can make equal
 * ids, whatever their clocks, pauses and leases do.
 *
 * Only a compare-and-set that was answered counts. After one in doubt nothing is guessed: the next reservation reads
 * the cell again and starts at what it finds there, so at worst a window of milliseconds is left unused.
 */
import type { Cell } from "@gru/shared/registry";
import { endMs } from "./snowflake.ts";

/** Milliseconds from `fromMs` (included) to `ceilingMs` (excluded), Unix time. */
export interface Range {
  readonly fromMs: number;
  readonly ceilingMs: number;
}

export class Ceiling {
  readonly #cell: Cell;
  readonly #windowMs: number;
  #range: Range | undefined;
  /** The cell's version after our last answered write; undefined: to be read first. */
  #version: number | undefined;

  constructor(cell: Cell, windowMs: number) {
    this.#cell = cell;
    this.#windowMs = windowMs;
  }

  /** What is ours; undefined until the first reservation. */
  get range(): Range | undefined {
    return this.#range;
  }

  /**
   * Makes the range reach `windowMs` beyond `usedMs`, and writes nothing while two thirds of that are left. Rejects with
   * ConflictError when another process wrote the cell, and with RegistryUnavailableError when the
   * outcome is unknown, and with Error when no milliseconds are left or the cell holds none; the range is then what it was before.
   */
  async reserve(usedMs: number): Promise<void> {
    const range = this.#range;
    if (range === undefined || this.#version === undefined) return await this.#claim(usedMs);
    if (range.ceilingMs - usedMs > this.#windowMs * 2 / 3) return;
    const ceilingMs = this.#above(usedMs);
    const version = this.#version;
    this.#version = undefined;
    this.#version = await this.#cell.write(`${ceilingMs}`, version);
    this.#range = { fromMs: range.fromMs, ceilingMs };
  }

  async #claim(usedMs: number): Promise<void> {
    const stored = await this.#cell.read();
    // Our own ceiling counts too: the cell may have been lost with the registry's data.
    const fromMs = Math.max(
      usedMs,
      stored === undefined ? 0 : parse(stored.value),
      this.#range?.ceilingMs ?? 0,
    );
    const ceilingMs = this.#above(fromMs);
    const version = await this.#cell.write(`${ceilingMs}`, stored?.version);
    this.#version = version;
    this.#range = { fromMs, ceilingMs };
  }

  #above(ms: number): number {
    const ceilingMs = ms + this.#windowMs;
    if (ceilingMs <= endMs) return ceilingMs;
    throw new Error(
      `Ids end at ${endMs} ms of Unix time; this node's clock or the ceiling is at ${ms}`,
    );
  }
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
