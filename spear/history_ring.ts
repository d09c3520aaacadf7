/** What is kept of one epoch of a target, in memory. */
import { Buffer } from "node:buffer";

/** With which the bytes of a target begin. */
const leastBytes = 256;

/**
 * The latest messages of one epoch of a target, in a ring, and their bodies in a ring of bytes: on the heap the garbage collector
 * would walk over all that is kept, and would be called the sooner.
 */
export class HistoryRing {
  readonly #size: number;
  /** The seq whose place is the first. */
  readonly #first: number;
  readonly #keptUntil: number[] = [];
  /** Where each body begins and where it ends, as if all bytes were kept; its place is the rest of the division by the capacity. */
  readonly #begin: number[] = [];
  readonly #end: number[] = [];
  #bytes = Buffer.allocUnsafeSlow(leastBytes);
  #count = 0;
  #last = 0;

  constructor(size: number, first: number) {
    this.#size = size;
    this.#first = first;
  }

  /** `seq` follows on the one before. */
  add(seq: number, body: string, keptUntil: number): void {
    if (this.#count === this.#size) this.#count--;
    const length = Buffer.byteLength(body);
    let begin = this.#place(length);
    if (begin === undefined) {
      this.#grow(length);
      begin = this.#place(length) ?? 0;
    }
    const at = this.#at(seq);
    this.#bytes.write(body, begin % this.#bytes.length);
    this.#begin[at] = begin;
    this.#end[at] = begin + length;
    this.#keptUntil[at] = keptUntil;
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
    for (let seq = Math.max(from, this.#last - this.#count) + 1; seq <= end; seq++) {
      const at = this.#at(seq);
      if ((this.#keptUntil[at] ?? 0) > now) {
        found.push({ seq, body: this.#bodyAt(at).toString("utf8") });
      }
    }
    return found;
  }

  /** Lets go of what is too old. @returns how many are left */
  dropBefore(now: number): number {
    for (; this.#count > 0; this.#count--) {
      if ((this.#keptUntil[this.#at(this.#oldest)] ?? 0) > now) break;
    }
    return this.#count;
  }

  get #oldest(): number {
    return this.#last - this.#count + 1;
  }

  /** Where so many bytes follow on the newest body in one piece; undefined: there is no room. */
  #place(length: number): number | undefined {
    const capacity = this.#bytes.length;
    const end = this.#count === 0 ? 0 : this.#end[this.#at(this.#last)] ?? 0;
    const begin = end % capacity + length <= capacity ? end : Math.ceil(end / capacity) * capacity;
    const oldest = this.#count === 0 ? begin : this.#begin[this.#at(this.#oldest)] ?? 0;
    return begin + length - oldest <= capacity ? begin : undefined;
  }

  /** Makes room for twice as much, or for `length` more bytes. */
  #grow(length: number): void {
    const needed = Math.max(2 * this.#bytes.length, this.#bytes.length + length);
    const bytes = Buffer.allocUnsafeSlow(2 ** Math.ceil(Math.log2(needed)));
    let end = 0;
    for (let seq = this.#oldest; seq <= this.#last && this.#count > 0; seq++) {
      const at = this.#at(seq);
      const copied = this.#bodyAt(at).copy(bytes, end);
      this.#begin[at] = end;
      this.#end[at] = end += copied;
    }
    this.#bytes = bytes;
  }

  #bodyAt(at: number): Buffer {
    const begin = (this.#begin[at] ?? 0) % this.#bytes.length;
    return this.#bytes.subarray(begin, begin + (this.#end[at] ?? 0) - (this.#begin[at] ?? 0));
  }

  #at(seq: number): number {
    return (seq - this.#first) % this.#size;
  }
}
