/**
 * The order in which sockets are written to. Packets that are due on a socket together leave in one write, and sockets that are
 * due the same ones share the bytes of that write. When little happens a packet leaves at the end of the turn; while the
 * thread is busy, messages wait for others, up to a window, and answers do not.
 */
import process from "node:process";
import { Aside, Batch, Frame, Missed, type Packet } from "../packets.ts";

/** What fan-out needs of a socket. */
export interface Sink {
  /** False while what was written before has not left. */
  readonly writable: boolean;
  /** Bytes that were written, by the outlet or by others, and have not left. */
  readonly heldBytes: number;
  /** What applies to it at present. */
  readonly slow: SlowConsumer;
  write(batch: Batch): void;
  /** Calls back once, when it may be writable again. */
  whenWritable(callback: () => void): void;
  /** Its client does not read: ends the connection. */
  cutOff(): void;
  /** What tells the client of frames that it does not get, and of those of which it was to be told already. */
  missed(dropped: readonly (Frame | Missed)[]): readonly Packet[];
}

/** What becomes of a connection whose client does not read. */
export interface SlowConsumer {
  /**
   * More than this waiting is too much, in the outlet and below it. Half of it is always there for what comes while a
   * large batch is on its way: else it would end a connection whose client reads as fast as it can.
   */
  readonly waitingBytes: number;
  /** Ends the connection, or keeps the newest and tells of the dropped. */
  readonly policy: "disconnect" | "skip";
}

/** What is on its way to one socket: frames, and what else this client is told, in one order. */
export class Outlet {
  readonly #scheduler: WriteScheduler;
  readonly #sink: Sink;
  /** As it was when the sink was asked last, which is when much waits. */
  #slow: SlowConsumer;
  #batch: Batch | undefined;
  #blocked = false;
  #closed = false;
  #drains: Drain[] | undefined;
  /** Where the fan-out has it in its list: who comes after it, and since when it has been due; undefined: it is not in the list. */
  next: Outlet | undefined;
  dueMs: number | undefined;
  /** When the scheduler counted it last among the outlets that were given a frame. */
  countedIn = 0;

  constructor(scheduler: WriteScheduler, sink: Sink, slow: SlowConsumer) {
    this.#scheduler = scheduler;
    this.#sink = sink;
    this.#slow = slow;
  }

  get waitingBytes(): number {
    return this.#batch?.bytesLength ?? 0;
  }

  push(packet: Packet): void {
    if (this.#closed) return;
    // What is meant for this client alone has nothing to wait for, and who asked waits for the answer.
    const isAnswer = !(packet instanceof Frame);
    if (isAnswer) process.nextTick(flush, this);
    else this.#scheduler.count(this);
    if (this.#batch === undefined) {
      this.#batch = isAnswer ? new Batch(undefined, packet) : this.#scheduler.first(packet);
      if (!isAnswer && !this.#blocked) this.#scheduler.schedule(this);
    } else {
      const batch = this.#batch.with(packet);
      this.#batch = batch;
      if (batch.bytesLength > this.#slow.waitingBytes / 2) this.#checkWaiting(batch);
    }
  }

  /** Writes what is due, if the socket can take it; else when it can. */
  flush(): void {
    if (this.#batch === undefined) return;
    if (this.#sink.writable) this.flushNow();
    else this.#waitForSink();
  }

  /** Writes what is due, whether the socket can take it or not: it is about to be closed. */
  flushNow(): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch !== undefined) this.#sink.write(batch);
  }

  close(): void {
    this.#closed = true;
    this.#batch = undefined;
    this.#drains?.forEach(({ resolve }) => resolve());
    this.#drains = undefined;
  }

  /** Resolves when all that was pushed until now has left, or when it is closed. */
  drained(): Promise<void> {
    this.flush();
    if (this.#closed || this.#sink.writable) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    (this.#drains ??= []).push({ isWritten: this.#batch === undefined, resolve });
    this.#waitForSink();
    return promise;
  }

  #waitForSink(): void {
    if (this.#blocked) return;
    this.#blocked = true;
    this.#sink.whenWritable(() => {
      this.#blocked = false;
      this.#settleDrains();
      this.flush();
    });
  }

  /** Where the sink is writable, what was written before has left, and what waits is written now. */
  #settleDrains(): void {
    const drains = this.#drains;
    if (drains === undefined) return;
    if (this.#sink.writable) {
      drains.forEach((drain) => drain.isWritten && drain.resolve());
      this.flushNow();
      const left = drains.filter(({ isWritten }) => !isWritten);
      for (const drain of left) drain.isWritten = true;
      this.#drains = left.length === 0 ? undefined : left;
      if (left.length > 0 && this.#sink.writable) return this.#settleDrains();
    }
    if (this.#drains !== undefined) this.#waitForSink();
  }

  #checkWaiting(batch: Batch): void {
    this.#slow = this.#sink.slow;
    const { waitingBytes } = this.#slow;
    const room = Math.max(waitingBytes - this.#sink.heldBytes, waitingBytes / 2);
    if (batch.bytesLength > room) this.#tooSlow(batch, room);
  }

  #tooSlow(batch: Batch, allowed: number): void {
    // Much at once is not slow as long as the socket takes it.
    if (this.#sink.writable) return this.flush();
    if (this.#slow.policy === "disconnect") return this.#disconnect();
    const packets = batch.packets();
    // Half, so that this is not done again for the next one.
    let room = allowed / 2;
    let from = packets.length;
    for (; from > 0; from--) {
      room -= packets[from - 1]?.bytes.length ?? 0;
      if (room < 0) break;
    }
    const kept = this.#withoutFrames(packets.slice(0, from));
    // It asks and never reads.
    if (bytesOf(kept) > allowed / 2) return this.#disconnect();
    this.#batch = undefined;
    for (const packet of [...kept, ...packets.slice(from)]) this.push(packet);
  }

  /**
   * What is dropped is told where it stood: behind an answer that says how far its client is, or that it has left, it would
   * contradict it. What stands between two of those is told in one: else a client that never reads is told ever more.
   */
  #withoutFrames(packets: readonly Packet[]): Packet[] {
    const kept: Packet[] = [];
    let dropped: (Frame | Missed)[] = [];
    for (const packet of packets) {
      if (packet instanceof Frame || packet instanceof Missed) {
        dropped.push(packet);
        continue;
      }
      if (!(packet instanceof Aside)) {
        kept.push(...this.#sink.missed(dropped));
        dropped = [];
      }
      kept.push(packet);
    }
    return [...kept, ...this.#sink.missed(dropped)];
  }

  #disconnect(): void {
    this.close();
    this.#sink.cutOff();
  }
}

function flush(outlet: Outlet): void {
  outlet.flush();
}

/** Somebody who waits until what was pushed before has left. */
interface Drain {
  /** All of it is with the sink; otherwise some of it is still in the batch. */
  isWritten: boolean;
  readonly resolve: () => void;
}

export interface WriteSchedulerOptions {
  /** The longest that a frame waits for others, milliseconds; 0: none waits. */
  readonly windowMs: number;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
  /** Milliseconds of a core that this thread has used. */
  readonly usedMs?: () => number;
  /** Told every {@linkcode periodMs} while something is written: the longest that a frame waited for its turn, milliseconds. */
  readonly onWaited?: (ms: number) => void;
}

/**
 * Written in one go. Small: after each the event loop gets its turn, and it looks at its sockets only every sixtieth time that
 * something is due at once (the reactor below Deno, Tokio, does so).
 */
const outletsPerSlice = 8;
/** A timer takes a millisecond or two, however little it is asked to wait. */
const leastWaitMs = 2;
/** How often it is looked how busy the thread is; Linux counts what a thread uses in steps of 10 ms. */
const periodMs = 200;
/**
 * The share of a core that the thread may use before anything waits for it to use less: the first where waiting saves nearly all
 * writes, as many frames come for each socket within a window, the second where it saves hardly any.
 * Not the share of the time in which it writes: where others want the core too, a write takes as long as they are let in meanwhile.
 */
const [calmEarly, calmLate] = [0.6, 0.9];
/** So much more, and all wait the whole window. */
const calmToBusy = 0.2;

/** The order in which the outlets of a node write: who has waited longest is next, so that no frame waits longer than others. */
export class WriteScheduler implements Disposable {
  readonly #windowMs: number;
  readonly #now: () => number;
  readonly #usedMs: () => number;
  readonly #onWaited: ((ms: number) => void) | undefined;
  /** The longest that one waited in this period. */
  #longestMs = 0;
  /** Those that are due are a list, so that queueing makes no garbage. */
  #head: Outlet | undefined;
  #last: Outlet | undefined;
  #first: Batch | undefined;
  #scheduled = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** When it was looked at last, in whole milliseconds. */
  #clock = 0;
  /** How long what is due waits for others at present. */
  #waitMs = 0;
  #periodBegan = -Infinity;
  #usedBefore = 0;
  #period = 1;
  /** Frames of this period, one for each outlet that was given it, and the outlets that were given any. */
  #frames = 0;
  #outlets = 0;

  constructor(
    { windowMs, now = () => performance.now(), usedMs = usedByThread, onWaited }:
      WriteSchedulerOptions,
  ) {
    this.#windowMs = windowMs;
    this.#now = now;
    this.#usedMs = usedMs;
    this.#onWaited = onWaited;
  }

  /** The batch of one packet; shared by all who begin with it. */
  first(packet: Packet): Batch {
    if (this.#first?.last !== packet) this.#first = new Batch(undefined, packet);
    return this.#first;
  }

  /** The outlet was given a frame. */
  count(outlet: Outlet): void {
    this.#frames++;
    if (outlet.countedIn === this.#period) return;
    outlet.countedIn = this.#period;
    this.#outlets++;
  }

  schedule(outlet: Outlet): void {
    // It may have been flushed before its turn, which is still to come.
    if (outlet.dueMs !== undefined) return;
    if (!this.#scheduled) {
      this.#scheduled = true;
      this.#clock = Math.round(this.#now());
      process.nextTick(() => this.#slice());
    }
    outlet.dueMs = this.#clock;
    if (this.#last === undefined) this.#head = outlet;
    else this.#last.next = outlet;
    this.#last = outlet;
  }

  /** Calls back when all that is due now has had its turn. Costs a place in the order. */
  behind(packet: Frame, callback: () => void): void {
    new Outlet(this, { ...nobody, write: callback }, nobody.slow).push(packet);
  }

  #slice(): void {
    const began = this.#now();
    const until = began - this.#waitMs + leastWaitMs;
    // The head has waited longest of all.
    this.#longestMs = Math.max(this.#longestMs, began - (this.#head?.dueMs ?? began));
    for (let left = outletsPerSlice; left > 0 && (this.#head?.dueMs ?? Infinity) <= until; left--) {
      this.#takeHead()?.flush();
    }
    const now = this.#now();
    this.#clock = Math.round(now);
    if (now - this.#periodBegan > periodMs) this.#adapt(now);
    if (this.#head?.dueMs === undefined) {
      this.#scheduled = false;
      this.#first = undefined;
      return;
    }
    const waitMs = this.#head.dueMs + this.#waitMs - now;
    if (waitMs < leastWaitMs) setImmediate(() => this.#slice());
    else this.#timer = setTimeout(() => this.#slice(), waitMs);
  }

  #takeHead(): Outlet | undefined {
    const head = this.#head;
    if (head === undefined) return;
    this.#head = head.next;
    if (head.next === undefined) this.#last = undefined;
    head.next = undefined;
    head.dueMs = undefined;
    return head;
  }

  /** Up at once and down slowly: waiting itself makes the thread less busy. */
  #adapt(now: number): void {
    const usedMs = this.#usedMs();
    const passedMs = now - this.#periodBegan;
    const share = (usedMs - this.#usedBefore) / passedMs;
    // That come for one socket within a window, beside the one that waits for them.
    const others = this.#frames / Math.max(this.#outlets, 1) * this.#windowMs / passedMs;
    const saved = others / (1 + others);
    const calm = calmLate - saved * (calmLate - calmEarly);
    const wanted = this.#windowMs * Math.min(Math.max((share - calm) / calmToBusy, 0), 1);
    this.#waitMs = Math.max(wanted, this.#waitMs * 0.7);
    this.#periodBegan = now;
    this.#usedBefore = usedMs;
    this.#period++;
    this.#frames = this.#outlets = 0;
    this.#onWaited?.(this.#longestMs);
    this.#longestMs = 0;
  }

  /** What still waits is not written: its connections are closed. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#head = this.#last = undefined;
  }
}

const nobody: Omit<Sink, "write"> = {
  ...{ writable: true, heldBytes: 0, slow: { waitingBytes: Infinity, policy: "skip" } },
  ...{ whenWritable: () => {}, cutOff: () => {}, missed: () => [] },
};

function usedByThread(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function bytesOf(packets: readonly Packet[]): number {
  return packets.reduce((sum, { bytes }) => sum + bytes.length, 0);
}
