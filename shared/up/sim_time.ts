/**
 * Time and chance of a simulated cluster. While it is installed, timers, clocks and random numbers of the whole process are the
 * simulation's: nothing waits for real, and one seed always plays the same history.
 */

import process from "node:process";
import timers from "node:timers";

/** Numbers that look random and follow from a name: one stream for each use, so that one more event here moves nothing there. */
export class Chance {
  #a: number;
  #b = 0x9e3779b9;

  constructor(name: string) {
    let hash = 2166136261;
    for (let i = 0; i < name.length; i++) {
      hash = Math.imul(hash ^ name.charCodeAt(i), 16777619);
    }
    this.#a = hash >>> 0;
    for (let i = 0; i < 4; i++) this.next();
  }

  /** From 0 to 1. */
  next(): number {
    this.#a = (this.#a + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#a ^ this.#a >>> 15, 1 | this.#a);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    this.#b = (this.#b ^ t) | 0;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  }

  below(n: number): number {
    return Math.floor(this.next() * n);
  }

  between(from: number, to: number): number {
    return from + this.next() * (to - from);
  }

  happens(share: number): boolean {
    return this.next() < share;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }
}

/**
 * A process of the cluster. Everything that happens belongs to one: what is due for it waits while it is frozen, and never
 * happens when it has died.
 */
export class Actor {
  readonly name: string;
  frozen = false;
  dead = false;
  readonly parked: Due[] = [];

  constructor(name: string) {
    this.name = name;
  }
}

export interface Due {
  readonly at: number;
  readonly order: number;
  readonly actor: Actor;
  /** Undefined: it has happened or is called off. */
  run: (() => void) | undefined;
}

const real = {
  setTimeout,
  clearTimeout,
  setInterval,
  clearInterval,
  setImmediate,
  clearImmediate,
  Date,
  now: performance.now,
  random: Math.random,
  randomUUID: crypto.randomUUID,
  nextTick: process.nextTick,
  threadCpuUsage: process.threadCpuUsage,
  memoryUsage: Deno.memoryUsage,
  stackTraceLimit: Error.stackTraceLimit,
  /** Engine.IO takes them from here. */
  timers: { ...timers },
};

/** Unix milliseconds of the beginning. */
const epochMs = 1_800_000_000_000;

/** A history takes some 2000 turns, and the longest ones 15 000. */
const turnsAtMost = 300_000;
/** Within one turn. */
const ticksAtMost = 300_000;

export class VirtualTime implements Disposable {
  /** Milliseconds since the beginning. */
  now = 0;
  /** Whose turn it is; what is begun in a turn belongs to the same one. */
  current = new Actor("world");
  /** What was thrown where nobody catches it. */
  readonly uncaught: unknown[] = [];
  readonly #heap: Due[] = [];
  readonly #chance: Chance;
  #orders = 0;
  #turns = 0;
  #ticks = 0;
  #ticksAtMost = ticksAtMost;
  /** It goes on for ever: nothing happens any more. */
  #isEndless = false;

  constructor(seed: string) {
    this.#chance = new Chance(`${seed} process`);
    this.#install();
  }

  get turns(): number {
    return this.#turns;
  }

  after(ms: number, run: () => void, actor: Actor = this.current): Due {
    return this.at(this.now + Math.max(0, ms), run, actor);
  }

  /** What is due at the same moment happens in the order of the calls. */
  at(ms: number, run: () => void, actor: Actor): Due {
    const due: Due = { at: ms, order: ++this.#orders, actor, run };
    this.#push(due);
    return due;
  }

  wait(ms: number): Promise<void> {
    return new Promise((resolve) => this.after(ms, resolve));
  }

  /** Everything that is due within the next `ms` happens. */
  async advance(ms: number): Promise<void> {
    const until = this.now + ms;
    await this.#turn();
    for (let due; (due = this.#heap[0]) !== undefined && due.at <= until;) {
      if (this.#turns > turnsAtMost) this.#giveUp(`${turnsAtMost} turns`);
      this.#pop();
      const { run, actor } = due;
      if (run === undefined || actor.dead || this.#isEndless) continue;
      if (actor.frozen) {
        actor.parked.push(due);
        continue;
      }
      this.now = Math.max(this.now, due.at);
      due.run = undefined;
      await this.as(actor, run);
    }
    this.now = until;
  }

  /** Until `done`, or for `ms` at most. @returns whether it is done */
  async until(done: () => boolean, ms: number, stepMs = 20): Promise<boolean> {
    for (const end = this.now + ms; this.now < end && !done();) await this.advance(stepMs);
    return done();
  }

  /** One turn of an actor: the work, and all that follows from it without waiting for anything. */
  async as(actor: Actor, work: () => void): Promise<void> {
    if (this.#isEndless) return;
    const before = this.current;
    this.current = actor;
    try {
      work();
    } catch (error) {
      this.uncaught.push(error);
    }
    await this.#turn();
    this.current = before;
  }

  /** The runtime's own turn: it tells of rejections that nobody has handled. */
  async rest(): Promise<void> {
    await new Promise((resolve) => real.setImmediate(resolve));
  }

  thaw(actor: Actor): void {
    actor.frozen = false;
    for (const { run } of actor.parked.splice(0)) if (run !== undefined) this.after(0, run, actor);
  }

  [Symbol.dispose](): void {
    const { setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, clearImmediate } =
      real;
    Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval });
    Object.assign(globalThis, { setImmediate, clearImmediate, Date: real.Date });
    Object.assign(timers, real.timers);
    performance.now = real.now;
    Math.random = real.random;
    crypto.randomUUID = real.randomUUID;
    process.nextTick = real.nextTick;
    process.threadCpuUsage = real.threadCpuUsage;
    Deno.memoryUsage = real.memoryUsage;
    Error.stackTraceLimit = real.stackTraceLimit;
    globalThis.removeEventListener("unhandledrejection", this.#onUnhandled);
  }

  readonly #onUnhandled = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    this.uncaught.push(event.reason);
  };

  /** Until nothing is left to do. Ticks come after all microtasks: where none has come beside ours, there are neither. */
  async #turn(): Promise<void> {
    this.#turns++;
    this.#ticksAtMost = this.#ticks + ticksAtMost;
    for (let before = -1; before !== this.#ticks;) {
      before = this.#ticks;
      await new Promise<void>((resolve) => real.nextTick(resolve));
    }
  }

  #giveUp(what: string): void {
    if (this.#isEndless) return;
    this.#isEndless = true;
    const where = `at ${Math.round(this.now)} ms, in a turn of ${this.current.name}`;
    this.uncaught.push(new Error(`it never comes to its end: after ${what}, ${where}`));
  }

  #install(): void {
    // deno-lint-ignore no-this-alias
    const time = this;
    const cancel = (due: unknown) => {
      if (due instanceof Timer) due.cancel();
    };
    class VirtualDate extends real.Date {
      constructor(...args: []) {
        super(...(args.length === 0 ? [VirtualDate.now()] as unknown as [] : args));
      }
      static override now(): number {
        return Math.floor(epochMs + time.now);
      }
    }
    const timer =
      (again: boolean) => (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
        new Timer(time, () => run(...args), Math.max(again ? 1 : 0, Number(ms) || 0), again);
    Object.assign(globalThis, {
      setTimeout: timer(false),
      setInterval: timer(true),
      setImmediate: (run: (...args: unknown[]) => void, ...args: unknown[]) =>
        new Timer(time, () => run(...args), 0, false),
      clearTimeout: cancel,
      clearInterval: cancel,
      clearImmediate: cancel,
      Date: VirtualDate,
    });
    const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis;
    Object.assign(timers, { setTimeout, clearTimeout, setInterval, clearInterval });
    performance.now = () => time.now;
    // What is really used up must not decide anything, and costs time to ask for.
    process.threadCpuUsage = () => ({ user: 0, system: 0 });
    Deno.memoryUsage = () => ({ rss: 1, heapTotal: 1, heapUsed: 1, external: 1 });
    Error.stackTraceLimit = 4;
    process.nextTick = (run: (...args: unknown[]) => void, ...args: unknown[]) => {
      this.#ticks++;
      if (this.#ticks > this.#ticksAtMost) this.#giveUp(`${ticksAtMost} ticks of one turn`);
      // What ticks without end lets nothing else happen, not even a promise.
      else real.nextTick(run, ...args);
    };
    Math.random = () => this.#chance.next();
    crypto.randomUUID = () => {
      const hex = () =>
        Math.floor(this.#chance.next() * 0x1_0000_0000).toString(16).padStart(8, "0");
      const [a, b, c, d] = [hex(), hex(), hex(), hex()];
      return `${a}-${b.slice(0, 4)}-${b.slice(4)}-${c.slice(0, 4)}-${c.slice(4)}${d}`;
    };
    globalThis.addEventListener("unhandledrejection", this.#onUnhandled);
  }

  #push(due: Due): void {
    const heap = this.#heap;
    let at = heap.push(due) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(due, heap[parent] as Due)) break;
      heap[at] = heap[parent] as Due;
      at = parent;
    }
    heap[at] = due;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Due;
    if (heap.length === 0) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Due, heap[child] as Due)) child++;
      if (!isBefore(heap[child] as Due, last)) break;
      heap[at] = heap[child] as Due;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(a: Due, b: Due): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** What `setTimeout` gives, as Node's. */
class Timer {
  readonly #time: VirtualTime;
  readonly #run: () => void;
  readonly #ms: number;
  readonly #again: boolean;
  readonly #actor: Actor;
  #due: Due;

  constructor(time: VirtualTime, run: () => void, ms: number, again: boolean) {
    this.#time = time;
    this.#run = run;
    this.#ms = ms;
    this.#again = again;
    this.#actor = time.current;
    this.#due = this.#schedule();
  }

  cancel(): void {
    this.#due.run = undefined;
  }

  refresh(): this {
    this.cancel();
    this.#due = this.#schedule();
    return this;
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  #schedule(): Due {
    return this.#time.after(this.#ms, () => {
      if (this.#again) this.#due = this.#schedule();
      this.#run();
    }, this.#actor);
  }
}
