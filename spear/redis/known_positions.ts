/**
 * Where this node knows its targets to have been, for a while after the last message: a Redis that comes back with less must not give
 * those a second time. What its server may still lose is kept.
 */
import type { KnownPosition } from "../broker/broker.ts";
import type { Target } from "../wire.ts";

export interface KnownPositionsOptions {
  readonly keepMs: number;
  /** When the server of the target was found to have all that is known, on the clock of `performance.now()`; undefined: it is away. */
  readonly provenAt: (target: Target) => number | undefined;
}

export class KnownPositions implements Disposable {
  readonly #options: KnownPositionsOptions;
  /** The highest of each epoch, by target and epoch, oldest first. */
  readonly #known = new Map<string, { readonly position: KnownPosition; readonly at: number }>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(options: KnownPositionsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#sweep(), options.keepMs / 10);
  }

  note(position: KnownPosition): void {
    const { target, epoch, seq } = position;
    const key = `${target} ${epoch}`;
    const known = this.#known.get(key);
    // What is known to have been given must not be forgotten for what was given before it.
    if (known !== undefined && known.position.seq > seq) return;
    this.#known.delete(key);
    this.#known.set(key, { position, at: performance.now() });
  }

  [Symbol.iterator](): Iterator<KnownPosition> {
    return this.#known.values().map(({ position }) => position);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }

  #sweep(): void {
    const oldest = performance.now() - this.#options.keepMs;
    for (const [key, { position, at }] of this.#known) {
      if (at > oldest) break;
      if ((this.#options.provenAt(position.target) ?? Infinity) < oldest) this.#known.delete(key);
    }
  }
}
