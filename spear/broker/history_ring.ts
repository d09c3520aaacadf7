/** The stored messages of one epoch of a target, in memory. */
import { Buffer } from "node:buffer";
import { historyBytes, type HistoryLimits } from "./broker.ts";

/** A run of bytes. Positions count from the first byte ever stored. */
interface Segment {
  readonly begin: number;
  readonly bytes: Buffer;
}

/** A target starts with few bytes. Each new segment is as long as all earlier ones together, up to the maximum. */
const [leastBytes, mostBytes] = [256, 16_384];

/**
 * The latest messages in a ring, and their bodies in byte segments. On the heap, the garbage collector would scan
 * everything that is stored, and run more often.
 */
export class HistoryRing {
  readonly #size: number;
  readonly #bytes: number;
  /** The seq at the first place of the ring. */
  readonly #first: number;
  readonly #keptUntil: number[] = [];
  /** The start of each body, which ends where the next one starts. */
  readonly #begin: number[] = [];
  readonly #segments: Segment[] = [];
  /** A segment that is no longer needed, for reuse. */
  #spare: Buffer | undefined;
  #end = 0;
  #count = 0;
  #last: number;

  /** @param bytes of bodies: beyond it the oldest messages are removed; the newest one stays whatever its length */
  constructor({ size, bytes = historyBytes }: Omit<HistoryLimits, "ageMs">, first: number) {
    this.#size = size;
    this.#bytes = bytes;
    this.#first = first;
    this.#last = first - 1;
  }

  /** `seq` is the one after the previous `seq`. */
  add(seq: number, body: string, keptUntil: number): void {
    if (this.#count === this.#size) this.#dropOldest();
    const at = this.#at(seq);
    this.#begin[at] = this.#end;
    this.#keptUntil[at] = keptUntil;
    this.#append(body);
    this.#last = seq;
    this.#count++;
    while (this.#count > 1 && this.#end - this.#beginOf(this.#oldest) > this.#bytes) {
      this.#dropOldest();
    }
  }

  /**
   * The first messages after `from` that are not too old, ascending: up to the given number and bytes, but at least
   * one. `reached` is the last seq checked.
   */
  page(
    from: number,
    now: number,
    { count, bytes }: { readonly count: number; readonly bytes: number },
  ): {
    readonly found: { readonly seq: number; readonly body: string }[];
    readonly reached: number;
  } {
    const found: { seq: number; body: string }[] = [];
    let room = bytes;
    let seq = Math.max(from + 1, this.#oldest);
    for (; seq <= this.#last; seq++) {
      if (this.#keptUntilOf(seq) <= now) continue;
      room -= this.#beginOf(seq + 1) - this.#beginOf(seq);
      if (found.length > 0 && (room < 0 || found.length === count)) break;
      found.push({ seq, body: this.#bodyOf(seq) });
    }
    return { found, reached: seq - 1 };
  }

  /** Removes messages that are too old. @returns how many are left */
  dropBefore(now: number): number {
    while (this.#count > 0 && this.#keptUntilOf(this.#oldest) <= now) this.#dropOldest();
    return this.#count;
  }

  get #oldest(): number {
    return this.#last - this.#count + 1;
  }

  #dropOldest(): void {
    this.#count--;
    const begin = this.#beginOf(this.#oldest);
    // The first segment contains no message any more.
    while ((this.#segments[1]?.begin ?? Infinity) <= begin) {
      this.#spare = this.#segments.shift()?.bytes;
    }
  }

  #append(body: string): void {
    const length = Buffer.byteLength(body);
    let segment = this.#segments.at(-1);
    if (segment === undefined || this.#end + length > segment.begin + segment.bytes.length) {
      segment = { begin: this.#end, bytes: this.#room(length) };
      this.#segments.push(segment);
    }
    segment.bytes.write(body, this.#end - segment.begin);
    this.#end += length;
  }

  #room(length: number): Buffer {
    const spare = this.#spare;
    if (spare === undefined || spare.length < length) {
      const usual = Math.min(Math.max(this.#end, leastBytes), mostBytes);
      return Buffer.allocUnsafeSlow(Math.max(usual, length));
    }
    this.#spare = undefined;
    return spare;
  }

  #bodyOf(seq: number): string {
    const [begin, end] = [this.#beginOf(seq), this.#beginOf(seq + 1)];
    const segment = this.#segments.findLast((segment) => segment.begin <= begin);
    return segment?.bytes.toString("utf8", begin - segment.begin, end - segment.begin) ?? "";
  }

  /** Also for the next message to be added. */
  #beginOf(seq: number): number {
    return seq > this.#last ? this.#end : this.#begin[this.#at(seq)] ?? 0;
  }

  #keptUntilOf(seq: number): number {
    return this.#keptUntil[this.#at(seq)] ?? 0;
  }

  #at(seq: number): number {
    return (seq - this.#first) % this.#size;
  }
}
