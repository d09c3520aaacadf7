/** What is kept of one epoch of a target, in memory. */
import { Buffer } from "node:buffer";

/** A run of bytes; positions are counted from the first byte ever kept. */
interface Segment {
  readonly begin: number;
  readonly bytes: Buffer;
}

/** A target begins with few bytes; each segment is as long as all before it, up to the greatest. */
const [leastBytes, mostBytes] = [256, 16_384];

/**
 * The latest messages in a ring, and their bodies in segments of bytes: on the heap the garbage collector would walk over all that
 * is kept, and would be called the sooner.
 */
export class HistoryRing {
  readonly #size: number;
  /** The seq whose place is the first. */
  readonly #first: number;
  readonly #keptUntil: number[] = [];
  /** The position of each body, which ends where the next one begins. */
  readonly #begin: number[] = [];
  readonly #segments: Segment[] = [];
  /** Of a segment that is no longer needed. */
  #spare: Buffer | undefined;
  #end = 0;
  #count = 0;
  #last: number;

  constructor(size: number, first: number) {
    this.#size = size;
    this.#first = first;
    this.#last = first - 1;
  }

  /** `seq` follows on the one before. */
  add(seq: number, body: string, keptUntil: number): void {
    if (this.#count === this.#size) this.#dropOldest();
    const at = this.#at(seq);
    this.#begin[at] = this.#end;
    this.#keptUntil[at] = keptUntil;
    this.#append(body);
    this.#last = seq;
    this.#count++;
  }

  /** Those after `from` up to `end` that are not too old, ascending. */
  between(
    from: number,
    end: number,
    now: number,
  ): { readonly seq: number; readonly body: string }[] {
    const found = [];
    for (let seq = Math.max(from + 1, this.#oldest); seq <= end; seq++) {
      if (this.#keptUntilOf(seq) > now) found.push({ seq, body: this.#bodyOf(seq) });
    }
    return found;
  }

  /** Lets go of what is too old. @returns how many are left */
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
    // Nothing that is left lies in the first one.
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

  /** Also of the one that will be next. */
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
