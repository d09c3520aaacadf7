/**
 * Lets people watch the messages of targets without being members. A listener keeps a bounded number of the newest
 * frames and counts the rest, so that whoever reads slowly, or not at all, costs next to nothing.
 */
import { pause } from "@gru/shared/pause";
import type { Hub, Member } from "./hub.ts";
import type { Frame } from "../packets.ts";
import type { Target } from "../wire.ts";

export interface Heard {
  /** All that came since the last reading, also what is not among `frames`. */
  readonly seen: number;
  /** The newest, oldest first. */
  readonly frames: readonly Frame[];
}

/** A listener that nobody reads for so long is let go. */
const forgottenMs = 30_000;

export class Listeners<M extends Member> implements Disposable {
  readonly #hub: Hub<M>;
  readonly #listeners = new Map<string, Listener>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(hub: Hub<M>) {
    this.#hub = hub;
    this.#timer = setInterval(() => this.#forget(), forgottenMs / 3);
  }

  get count(): number {
    return this.#listeners.size;
  }

  /** Begins at its first call. Resolves with what there is, as soon as there is something, or when the wait is over. */
  async read(
    id: string,
    targets: readonly Target[],
    options: { readonly limit: number; readonly waitMs: number; readonly signal: AbortSignal },
  ): Promise<Heard> {
    const listener = this.#listeners.getOrInsertComputed(id, () => new Listener(options.limit));
    listener.readAt = performance.now();
    await listener.follow(targets, this.#hub);
    await listener.something(options.waitMs, options.signal);
    listener.readAt = performance.now();
    return listener.take();
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }

  #forget(): void {
    for (const [id, listener] of this.#listeners) {
      if (performance.now() - listener.readAt < forgottenMs) continue;
      listener.close();
      this.#listeners.delete(id);
    }
  }
}

class Listener {
  readAt = performance.now();
  readonly #limit: number;
  readonly #watches = new Map<Target, Promise<Disposable>>();
  #newest: Frame[] = [];
  #seen = 0;
  #wake: (() => void) | undefined;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Rejects when a target cannot be listened to; what could is kept. */
  async follow<M extends Member>(targets: readonly Target[], hub: Hub<M>): Promise<void> {
    const wanted = new Set(targets);
    for (const target of this.#watches.keys()) if (!wanted.has(target)) this.#unwatch(target);
    await Promise.all([...wanted].map(async (target) => {
      const watch = this.#watches.getOrInsertComputed(
        target,
        () => hub.watch(target, (frame) => this.#take(frame)),
      );
      try {
        await watch;
      } catch (error) {
        this.#watches.delete(target);
        throw error;
      }
    }));
  }

  async something(waitMs: number, signal: AbortSignal): Promise<void> {
    if (this.#seen > 0 || signal.aborted) return;
    const woken = new AbortController();
    this.#wake = () => woken.abort();
    await pause(waitMs, AbortSignal.any([signal, woken.signal]));
    this.#wake = undefined;
  }

  take(): Heard {
    const heard = { seen: this.#seen, frames: this.#newest.slice(-this.#limit) };
    this.#newest = [];
    this.#seen = 0;
    return heard;
  }

  close(): void {
    for (const target of [...this.#watches.keys()]) this.#unwatch(target);
    this.#wake?.();
  }

  #take(frame: Frame): void {
    this.#seen++;
    this.#newest.push(frame);
    // Cut now and then, so that no message of a flood costs more than a push.
    if (this.#newest.length >= 2 * this.#limit) this.#newest = this.#newest.slice(-this.#limit);
    this.#wake?.();
  }

  #unwatch(target: Target): void {
    void this.#watches.get(target)?.then((watch) => watch[Symbol.dispose](), () => {});
    this.#watches.delete(target);
  }
}
