/**
 * Parses the frames of an HTTP/2 connection (RFC 9113), as far as needed to know which requests have begun and not
 * ended.
 */
import { Buffer } from "node:buffer";

export interface FrameHead {
  readonly kind: "data" | "headers" | "reset" | "other";
  readonly stream: number;
  /** This is the request's last frame. */
  readonly endsStream: boolean;
}

const headBytes = 9;
const prefaceBytes = 24;
const [data, headers, reset, goAwayType, continuation] = [0, 1, 3, 7, 9];
const [endStreamFlag, endHeadersFlag] = [0x1, 0x4];

/** Follows one direction of a connection from its first byte, and stores nothing of it. */
export class Frames {
  readonly #onFrame: (frame: FrameHead) => void;
  readonly #head = new Uint8Array(headBytes);
  #headFilled = 0;
  /** Missing bytes of the current frame. */
  #rest: number;
  #frame: FrameHead | undefined;
  /** Headers may come in several frames. Until the last of them this keeps whether they end the request. */
  #open: { readonly stream: number; readonly endsStream: boolean } | undefined;
  #halfSince: number | undefined;

  /** @param onFrame called when a frame is complete; `headers` when all frames of the headers are */
  constructor(from: "client" | "server", onFrame: (frame: FrameHead) => void) {
    this.#rest = from === "client" ? prefaceBytes : 0;
    this.#onFrame = onFrame;
  }

  /** The last frame is complete, and the next one has not begun. */
  get isBetween(): boolean {
    return this.#rest === 0 && this.#headFilled === 0 && this.#open === undefined;
  }

  follow(chunk: Uint8Array): void {
    for (let at = 0; at < chunk.length;) {
      if (this.#rest > 0) {
        const step = Math.min(this.#rest, chunk.length - at);
        this.#rest -= step;
        at += step;
      } else {
        while (this.#headFilled < headBytes && at < chunk.length) {
          this.#head[this.#headFilled++] = chunk[at++] as number;
        }
        if (this.#headFilled < headBytes) return;
        this.#headFilled = 0;
        this.#begin();
      }
      if (this.#rest === 0) this.#finish();
    }
  }

  /**
   * Since when an incomplete frame (or headers in several frames) is waiting for its rest; `now` if there is none. Only
   * measured when called, which is once in a while.
   */
  halfSince(now: number): number {
    if (this.isBetween) return now;
    return this.#halfSince ??= now;
  }

  #begin(): void {
    const [a = 0, b = 0, c = 0, type = 0, flags = 0, s0 = 0, s1 = 0, s2 = 0, s3 = 0] = this.#head;
    this.#rest = (a << 16) | (b << 8) | c;
    const stream = ((s0 & 0x7f) << 24) | (s1 << 16) | (s2 << 8) | s3;
    const endsStream = (flags & endStreamFlag) !== 0;
    this.#frame = { kind: "other", stream, endsStream: false };
    if (type === data) this.#frame = { kind: "data", stream, endsStream };
    if (type === reset) this.#frame = { kind: "reset", stream, endsStream: true };
    if (type !== headers && type !== continuation) return;
    const whole = type === headers ? { stream, endsStream } : this.#open;
    if (whole === undefined) return;
    this.#open = (flags & endHeadersFlag) === 0 ? whole : undefined;
    if (this.#open === undefined) this.#frame = { kind: "headers", ...whole };
  }

  #finish(): void {
    const frame = this.#frame;
    this.#frame = undefined;
    if (this.#open === undefined) this.#halfSince = undefined;
    if (frame !== undefined) this.#onFrame(frame);
  }
}

/** The last frame that a server sends: no error, and no stream above `lastStream` was served. */
export function goAway(lastStream: number): Buffer {
  const frame = Buffer.alloc(headBytes + 8);
  frame.writeUIntBE(8, 0, 3);
  frame[3] = goAwayType;
  frame.writeUInt32BE(lastStream, headBytes);
  return frame;
}
