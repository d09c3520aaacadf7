/**
 * Events that come before `auth`. Stock clients send what they buffered while offline before the handlers of `connect`
 * run, and so before the `auth` that these emit: such events wait for it.
 */
import { code, EventError, type Result, sizeOf } from "../wire.ts";

/** Of one connection. */
const mostEvents = 500;
/** In UTF-16 units, of one connection. */
const mostSize = 65_536;
/** Of all connections of a node together: strangers hold little of its memory. */
const mostSizeOfNode = 16_000_000;
/** Events are parsed, and take more than their text. */
const sizeOfEvent = 50;

/** The room of a node for events that wait for `auth`. */
export class KeptRoom {
  #left: number;

  constructor(size = mostSizeOfNode) {
    this.#left = size;
  }

  /** @returns false when there is not that much left; then nothing is taken. */
  take(size: number): boolean {
    if (size > this.#left) return false;
    this.#left -= size;
    return true;
  }

  giveBack(size: number): void {
    this.#left += size;
  }
}

interface Waiting {
  readonly event: string;
  readonly reply: (result: Result) => void;
  readonly settle: (mayRun: boolean) => void;
}

/** Of one session. */
export class Kept {
  readonly #room: KeptRoom;
  #waiting: Waiting[] = [];
  #size = 0;

  constructor(room: KeptRoom) {
    this.#room = room;
  }

  /**
   * Resolves when the event's turn has come, all in the order of the calls: `true`, it may be acted on; `false`: it has
   * been answered, or its client is gone.
   * @param size of what came beside the argument
   * @throws {EventError} when too much waits already
   */
  keep(
    event: string,
    raw: unknown,
    size: number,
    reply: (result: Result) => void,
  ): Promise<boolean> {
    const own = sizeOf(raw) + size + event.length + sizeOfEvent;
    const fits = this.#waiting.length < mostEvents && this.#size + own <= mostSize;
    if (!fits || !this.#room.take(own)) {
      throw new EventError(
        code.logicError,
        `${event.slice(0, 64)}: not authenticated, and too much waits for auth already`,
        { retryAfterMs: 100 },
      );
    }
    this.#size += own;
    const { promise, resolve } = Promise.withResolvers<boolean>();
    this.#waiting.push({ event, reply, settle: resolve });
    return promise;
  }

  /** `auth` is through. */
  admit(): void {
    for (const { settle } of this.#take()) settle(true);
  }

  /** There will be no `auth`: answers each. */
  refuse(): void {
    for (const { event, reply, settle } of this.#take()) {
      reply(new EventError(code.logicError, `${event.slice(0, 64)}: not authenticated`).result());
      settle(false);
    }
  }

  /** Nobody is left to answer to. */
  drop(): void {
    for (const { settle } of this.#take()) settle(false);
  }

  #take(): Waiting[] {
    this.#room.giveBack(this.#size);
    this.#size = 0;
    return this.#waiting.splice(0);
  }
}
