/**
 * The order in which sockets are written to. Packets that are due on a socket together leave in one write, and sockets that are
 * due the same ones share the bytes of that write. When little happens a packet leaves at the end of the turn; while the
 * thread is busy, messages wait for others, up to a window, and answers do not.
 */
import process from "node:process";
import { Batch, Frame, type Packet } from "./packets.ts";

/** What fan-out needs of a socket. */
export interface Sink {
  /** False while what was written before has not left. */
  readonly writable: boolean;
  write(batch: Batch): void;
  /** Calls back once, when it may be writable again. */
  whenWritable(callback: () => void): void;
  /** Its client does not read: ends the connection. */
  cutOff(): void;
  /** Tells the client of frames that it does not get; goes out before what is kept. */
  dropped(frames: readonly Frame[]): void;
}

/** What becomes of a connection whose client does not read. */
export interface SlowConsumer {
  /** More than this waiting is too much. */
  readonly waitingBytes: number;
  /** Ends the connection, or keeps the newest and tells of the dropped. */
  readonly policy: "disconnect" | "skip";
}

/** What is on its way to one socket: frames, and what else this client is told, in one order. */
export class Outlet {
  readonly #fanOut: FanOut;
  readonly #sink: Sink;
  readonly #slow: SlowConsumer;
  #batch: Batch | undefined;
  #blocked = false;
  #closed = false;
  /** Where the fan-out has it in its list: who comes after it, and since when it has been due; undefined: it is not in the list. */
  next: Outlet | undefined;
  dueMs: number | undefined;

  constructor(fanOut: FanOut, sink: Sink, slow: SlowConsumer) {
    this.#fanOut = fanOut;
    this.#sink = sink;
    this.#slow = slow;
  }

  push(packet: Packet): void {
    if (this.#closed) return;
    // What is meant for this client alone has nothing to wait for, and who asked waits for the answer.
    const isAnswer = !(packet instanceof Frame);
    if (isAnswer) process.nextTick(flush, this);
    if (this.#batch === undefined) {
      this.#batch = isAnswer ? new Batch(undefined, packet) : this.#fanOut.first(packet);
      if (!isAnswer && !this.#blocked) this.#fanOut.schedule(this);
    } else {
      this.#batch = this.#batch.with(packet);
      if (this.#batch.bytesLength > this.#slow.waitingBytes) this.#tooSlow(this.#batch);
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
  }

  #waitForSink(): void {
    if (this.#blocked) return;
    this.#blocked = true;
    this.#sink.whenWritable(() => {
      this.#blocked = false;
      this.flush();
    });
  }

  #tooSlow(batch: Batch): void {
    const { waitingBytes, policy } = this.#slow;
    // Much at once is not slow as long as the socket takes it.
    if (this.#sink.writable) return this.flush();
    if (policy === "disconnect") return this.#disconnect();
    const packets = batch.packets();
    // Half, so that this is not done again for the next one.
    let room = waitingBytes / 2;
    let from = packets.length;
    for (; from > 0; from--) {
      room -= packets[from - 1]?.bytes.length ?? 0;
      if (room < 0) break;
    }
    const older = packets.slice(0, from);
    const dropped = older.filter((packet) => packet instanceof Frame);
    const others = older.filter((packet) => !(packet instanceof Frame));
    // It asks and never reads.
    if (bytesOf(others) > waitingBytes / 2) return this.#disconnect();
    this.#batch = undefined;
    for (const packet of others) this.push(packet);
    this.#sink.dropped(dropped);
    for (const packet of packets.slice(from)) this.push(packet);
  }

  #disconnect(): void {
    this.close();
    this.#sink.cutOff();
  }
}

function flush(outlet: Outlet): void {
  outlet.flush();
}

export interface FanOutOptions {
  /** The longest that a frame waits for others, milliseconds; 0: none waits. */
  readonly windowMs: number;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
  /** Milliseconds of a core that this thread has used. */
  readonly usedMs?: () => number;
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
 * The share of a core that the thread may use before anything waits for it to use less, and at which all wait the whole window.
 * Not the share of the time in which it writes: where others want the core too, a write takes as long as they are let in meanwhile.
 */
const [calm, busy] = [0.6, 0.8];

/** The order in which the outlets of a node write: who has waited longest is next, so that no frame waits longer than others. */
export class FanOut implements Disposable {
  readonly #windowMs: number;
  readonly #now: () => number;
  readonly #usedMs: () => number;
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

  constructor({ windowMs, now = () => performance.now(), usedMs = usedByThread }: FanOutOptions) {
    this.#windowMs = windowMs;
    this.#now = now;
    this.#usedMs = usedMs;
  }

  /** The batch of one packet; shared by all who begin with it. */
  first(packet: Packet): Batch {
    if (this.#first?.last !== packet) this.#first = new Batch(undefined, packet);
    return this.#first;
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

  #slice(): void {
    const until = this.#now() - this.#waitMs + leastWaitMs;
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
    const share = (usedMs - this.#usedBefore) / (now - this.#periodBegan);
    const wanted = this.#windowMs * Math.min(Math.max((share - calm) / (busy - calm), 0), 1);
    this.#waitMs = Math.max(wanted, this.#waitMs * 0.7);
    this.#periodBegan = now;
    this.#usedBefore = usedMs;
  }

  /** What still waits is not written: its connections are closed. */
  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
    this.#head = this.#last = undefined;
  }
}

function usedByThread(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function bytesOf(packets: readonly Packet[]): number {
  return packets.reduce((sum, { bytes }) => sum + bytes.length, 0);
}
