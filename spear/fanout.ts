/**
 * From one message to the bytes of many sockets. A frame is encoded once. Frames that are due on a socket together leave
 * in one write, and sockets that are due the same frames share the bytes of that write. When little happens a frame leaves
 * at the end of the turn; while writing takes much of the time, frames wait for others, up to a window.
 */
import { Buffer } from "node:buffer";
import process from "node:process";
import type { Target } from "./wire.ts";

/** A socket.io packet without attachments, encoded once. */
export class Packet {
  readonly text: string;
  #bytes: Buffer | undefined;

  constructor(text: string) {
    this.text = text;
  }

  /** As an Engine.IO message in a WebSocket frame. */
  get bytes(): Buffer {
    return this.#bytes ??= webSocketFrame(`4${this.text}`);
  }
}

/** One message of one target, as it goes to every member. */
export class Frame extends Packet {
  readonly target: Target;
  readonly epoch: string;
  readonly seq: number;

  constructor(target: Target, epoch: string, seq: number, text: string) {
    super(text);
    this.target = target;
    this.epoch = epoch;
    this.seq = seq;
  }
}

/** A sequence of packets that are due together: a path in a tree that all sockets of a round share. */
export class Batch {
  readonly #before: Batch | undefined;
  readonly last: Packet;
  readonly bytesLength: number;
  readonly #count: number;
  #joined: Buffer | undefined;
  #next: Batch | undefined;

  constructor(before: Batch | undefined, last: Packet) {
    this.#before = before;
    this.last = last;
    this.bytesLength = (before?.bytesLength ?? 0) + last.bytes.length;
    this.#count = (before === undefined ? 0 : before.#count) + 1;
  }

  /** This sequence and one packet more; the same object for all who add the same one. */
  with(packet: Packet): Batch {
    if (this.#next?.last !== packet) this.#next = new Batch(this, packet);
    return this.#next;
  }

  /** Oldest first. */
  packets(): Packet[] {
    const packets = new Array<Packet>(this.#count);
    let at: Batch | undefined = this as Batch;
    for (let i = this.#count - 1; at !== undefined; i--, at = at.#before) packets[i] = at.last;
    return packets;
  }

  /** All packets in one piece. */
  get joined(): Buffer {
    if (this.#joined !== undefined) return this.#joined;
    return this.#joined = this.#count === 1
      ? this.last.bytes
      : Buffer.concat(this.packets().map(({ bytes }) => bytes), this.bytesLength);
  }
}

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
    if (this.#batch === undefined) {
      this.#batch = this.#fanOut.first(packet);
      if (!this.#blocked) this.#fanOut.schedule(this);
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

export interface FanOutOptions {
  /** The longest that a frame waits for others, milliseconds; 0: none waits. */
  readonly windowMs: number;
  /** Milliseconds on a clock that never goes back. */
  readonly now?: () => number;
}

/**
 * Written in one go. Small: after each the event loop gets its turn, and it looks at its sockets only every sixtieth time that
 * something is due at once (the reactor below Deno, Tokio, does so).
 */
const outletsPerSlice = 8;
/** A timer takes a millisecond or two, however little it is asked to wait. */
const leastWaitMs = 2;
/** How often it is looked how much of the time writing takes. */
const periodMs = 50;
/** The share of the time that writing may take before anything waits for it to take less, and at which all wait the whole window. */
const [calm, busy] = [0.4, 0.55];

/** The order in which the outlets of a node write: who has waited longest is next, so that no frame waits longer than others. */
export class FanOut {
  readonly #windowMs: number;
  readonly #now: () => number;
  /** Those that are due are a list, so that queueing makes no garbage. */
  #head: Outlet | undefined;
  #last: Outlet | undefined;
  #first: Batch | undefined;
  #scheduled = false;
  /** When it was looked at last, in whole milliseconds. */
  #clock = 0;
  /** How long what is due waits for others at present. */
  #waitMs = 0;
  #writingMs = 0;
  #periodBegan = 0;

  constructor({ windowMs, now = () => performance.now() }: FanOutOptions) {
    this.#windowMs = windowMs;
    this.#now = now;
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
    const began = this.#now();
    const until = began - this.#waitMs + leastWaitMs;
    for (let left = outletsPerSlice; left > 0 && (this.#head?.dueMs ?? Infinity) <= until; left--) {
      this.#takeHead()?.flush();
    }
    const now = this.#now();
    this.#clock = Math.round(now);
    this.#writingMs += now - began;
    if (now - this.#periodBegan > periodMs) this.#adapt(now);
    if (this.#head?.dueMs === undefined) {
      this.#scheduled = false;
      this.#first = undefined;
      return;
    }
    const waitMs = this.#head.dueMs + this.#waitMs - now;
    if (waitMs < leastWaitMs) setImmediate(() => this.#slice());
    else setTimeout(() => this.#slice(), waitMs);
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

  /** Up at once and down slowly: waiting itself makes writing take less. */
  #adapt(now: number): void {
    const share = this.#writingMs / (now - this.#periodBegan);
    const wanted = this.#windowMs * Math.min(Math.max((share - calm) / (busy - calm), 0), 1);
    this.#waitMs = Math.max(wanted, this.#waitMs * 0.9);
    this.#periodBegan = now;
    this.#writingMs = 0;
  }
}

function bytesOf(packets: readonly Packet[]): number {
  return packets.reduce((sum, { bytes }) => sum + bytes.length, 0);
}

/** A text frame of a server, unmasked (RFC 6455, 5.2). */
export function webSocketFrame(text: string): Buffer {
  const length = Buffer.byteLength(text);
  const header = length < 126 ? 2 : length < 65_536 ? 4 : 10;
  const frame = Buffer.allocUnsafe(header + length);
  frame[0] = 0x81;
  if (header === 2) {
    frame[1] = length;
  } else if (header === 4) {
    frame[1] = 126;
    frame.writeUInt16BE(length, 2);
  } else {
    frame[1] = 127;
    frame.writeBigUInt64BE(BigInt(length), 2);
  }
  frame.write(text, header);
  return frame;
}
