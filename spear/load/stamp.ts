/** The time at which a message was sent, written in its content, so that any process of the machine knows its latency. */
import type { Buffer } from "node:buffer";

/** Marks the microseconds in a message, and their number of digits. */
const stamp = { mark: "@t", digits: 12 } as const;
const [mark0, mark1] = [...stamp.mark].map((letter) => letter.charCodeAt(0));

/** The least characters of a content that begins with a stamp. */
export const stampLength = stamp.mark.length + stamp.digits;

/** The stamp of now. */
export function stampOfNow(): string {
  return stamp.mark + String(Math.round(now() * 1000)).slice(-stamp.digits)
    .padStart(stamp.digits, "0");
}

/** Reads stamps, many from one chunk of bytes, which have arrived at the same time. */
export class StampReader {
  /** The last place of the stamp: it rarely changes within a group. */
  #stampAt = 0;
  #chunk: Buffer | undefined;
  #chunkAt = 0;

  /** Microseconds since the first stamp in these bytes was written; undefined: there is none. */
  ageUs(data: Buffer, start: number, end: number): number | undefined {
    if (this.#chunk !== data) {
      this.#chunk = data;
      this.#chunkAt = Math.round(now() * 1000) % 10 ** stamp.digits;
    }
    let at = start + this.#stampAt;
    if (data[at] !== mark0 || data[at + 1] !== mark1) {
      at = data.indexOf(stamp.mark, start);
      if (at < 0 || at >= end) return undefined;
      this.#stampAt = at - start;
    }
    let sentAt = 0;
    for (let i = at + 2; i < at + 2 + stamp.digits; i++) {
      sentAt = sentAt * 10 + (data[i] ?? 48) - 48;
    }
    return this.#chunkAt - sentAt;
  }
}

/** Milliseconds on a clock that all processes of a machine share. */
function now(): number {
  return performance.timeOrigin + performance.now();
}
