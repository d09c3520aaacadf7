/**
 * Snowflake ids: 42 bits of milliseconds since {@linkcode epochMs}, 10 bits of worker, 12 bits of sequence, as decimal
 * strings. Pure: it has no clock and no storage; the caller passes the time and the limit.
 */

export const epochMs = 1_330_328_109_047;
export const maxWorker = 1023;
const idsPerMs = 4096;
/**
 * The 42nd bit is the sign of a signed 64-bit integer in many databases and languages, so it is never set (no clock
 * reaches it before 2081).
 */
export const endMs = epochMs + 2 ** 41;

export interface DecodedId {
  /** Unix milliseconds. */
  readonly timeMs: number;
  /** 0–1023 */
  readonly worker: number;
  /** 0–4095 */
  readonly sequence: number;
}

export class Snowflake {
  readonly worker: number;
  #ms = epochMs;
  #sequence = 0;

  /** @throws RangeError for a worker other than 0–1023. */
  constructor(worker: number) {
    if (!Number.isInteger(worker) || worker < 0 || worker > maxWorker) {
      throw new RangeError(`worker is ${worker}; expected 0–${maxWorker}`);
    }
    this.worker = worker;
  }

  /** No id so far is later, Unix milliseconds. */
  get usedMs(): number {
    return this.#ms;
  }

  /**
   * Up to `count` ids, ascending and greater than all before; fewer when `ceilingMs` (Unix milliseconds, exclusive) is
   * reached. If the clock went back or a millisecond is used up, the ids continue from the time of the last id.
   */
  next(count: number, nowMs: number, ceilingMs = endMs): string[] {
    const wholeMs = Math.floor(nowMs);
    if (wholeMs > this.#ms) {
      this.#ms = wholeMs;
      this.#sequence = 0;
    }
    const ids: string[] = [];
    const endOfRangeMs = Math.min(ceilingMs, endMs);
    while (ids.length < count) {
      if (this.#sequence === idsPerMs) {
        this.#ms++;
        this.#sequence = 0;
      }
      if (this.#ms >= endOfRangeMs) break;
      const run = Math.min(count - ids.length, idsPerMs - this.#sequence);
      let id = BigInt(this.#ms - epochMs) << 22n | BigInt(this.worker << 12 | this.#sequence);
      for (let i = 0; i < run; i++) ids.push(`${id++}`);
      this.#sequence += run;
    }
    return ids;
  }
}

export function decodeId(id: string): DecodedId {
  const bits = BigInt(id);
  return {
    timeMs: Number(bits >> 22n) + epochMs,
    worker: Number(bits >> 12n & 1023n),
    sequence: Number(bits & 4095n),
  };
}
