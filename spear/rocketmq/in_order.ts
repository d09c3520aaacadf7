/**
 * Restores the order of messages that overtook each other by moments on different paths: much cheaper than reading the
 * seemingly missing ones from history.
 */
import type { Position, Target } from "../wire.ts";

type Deliver = (target: Target, epoch: string, seq: number, body: string) => void;

interface Line {
  epoch: string;
  /** The next seq to deliver. */
  next: number;
  readonly held: Map<number, string>;
  timer: ReturnType<typeof setTimeout> | undefined;
}

const heldPerTarget = 1000;

export class InOrder implements Disposable {
  readonly #deliver: Deliver;
  readonly #holdMs: number;
  readonly #lines = new Map<Target, Line>();

  /** @param holdMs how long a message waits for earlier ones before it is delivered without them */
  constructor(deliver: Deliver, holdMs: number) {
    this.#deliver = deliver;
    this.#holdMs = holdMs;
  }

  /** From this position on the target's messages are put in order; before, they are delivered as they arrive. */
  begin(target: Target, { epoch, seq }: Position): void {
    this.end(target);
    this.#lines.set(target, { epoch, next: seq + 1, held: new Map(), timer: undefined });
  }

  /** Drops the messages that are held of this target. */
  end(target: Target): void {
    clearTimeout(this.#lines.get(target)?.timer);
    this.#lines.delete(target);
  }

  message(target: Target, epoch: string, seq: number, body: string): void {
    const line = this.#lines.get(target);
    if (line === undefined) return this.#deliver(target, epoch, seq, body);
    if (epoch !== line.epoch) {
      this.#release(target, line);
      line.epoch = epoch;
      line.next = seq;
    }
    if (seq < line.next) return;
    line.held.set(seq, body);
    this.#releaseDue(target, line);
    if (line.held.size > heldPerTarget) this.#release(target, line);
    else if (line.held.size > 0) {
      line.timer ??= setTimeout(() => this.#release(target, line), this.#holdMs);
    }
  }

  [Symbol.dispose](): void {
    for (const target of [...this.#lines.keys()]) this.end(target);
  }

  #releaseDue(target: Target, line: Line): void {
    for (let body; (body = line.held.get(line.next)) !== undefined; line.next++) {
      line.held.delete(line.next);
      this.#deliver(target, line.epoch, line.next, body);
    }
    if (line.held.size > 0) return;
    clearTimeout(line.timer);
    line.timer = undefined;
  }

  #release(target: Target, line: Line): void {
    clearTimeout(line.timer);
    line.timer = undefined;
    const { epoch } = line;
    const held = [...line.held].sort(([a], [b]) => a - b);
    line.held.clear();
    for (const [seq, body] of held) {
      line.next = seq + 1;
      this.#deliver(target, epoch, seq, body);
    }
  }
}
