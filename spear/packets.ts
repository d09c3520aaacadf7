/** What is sent to clients, encoded once for all who get it. */
import { Buffer } from "node:buffer";
import { encodePassed, missedEvent, type Target } from "./wire.ts";

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

/**
 * Says nothing of how far its client is in a target, nor that it has joined or left one: what is told of dropped frames
 * may stand before it or behind it.
 */
export class Aside extends Packet {}

/** One message of one target, as it goes to every member. An ephemeral one has seq 0. */
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

/** The place of a message without the message. */
export function passedFrame({ target, epoch, seq }: Frame): Frame {
  return new Frame(target, epoch, seq, encodePassed(target, epoch, seq));
}

/** Says that messages of one target, from one `seq` to another, do not come. */
export class Missed extends Packet {
  readonly target: Target;
  readonly epoch: string;
  readonly from: number;
  readonly to: number;

  constructor(target: Target, epoch: string, from: number, to: number) {
    super(`2${JSON.stringify(["missed", missedEvent(target, epoch, from, to)])}`);
    this.target = target;
    this.epoch = epoch;
    this.from = from;
    this.to = to;
  }
}

/** What says that these frames do not come, and what was to be said so already: as little as possible. */
export function missedOf(dropped: readonly (Frame | Missed)[]): Missed[] {
  type Span = Pick<Missed, "target" | "epoch" | "from"> & { to: number };
  const spans: Span[] = [];
  const last = new Map<string, Span>();
  for (const packet of dropped) {
    // An ephemeral one is nothing that could be asked for.
    if ("seq" in packet && packet.seq === 0) continue;
    const { target, epoch } = packet;
    const { from, to } = packet instanceof Missed ? packet : { from: packet.seq, to: packet.seq };
    const key = `${target} ${epoch}`;
    const span = last.get(key);
    if (span?.to === from - 1) {
      span.to = to;
      continue;
    }
    const next = { target, epoch, from, to };
    spans.push(next);
    last.set(key, next);
  }
  return spans.map(({ target, epoch, from, to }) => new Missed(target, epoch, from, to));
}

/** A sequence of packets that are due together: a path in a tree that all sockets share which are due the same ones. */
export class Batch {
  readonly #before: Batch | undefined;
  readonly last: Packet;
  readonly bytesLength: number;
  readonly #count: number;
  #joined: Buffer | undefined;
  #joinedWithPing: Buffer | undefined;
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

  /** And behind them Engine.IO's packet `ping`. */
  get joinedWithPing(): Buffer {
    return this.#joinedWithPing ??= Buffer.concat([this.joined, pingFrame]);
  }
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

/** Engine.IO's packet `ping`. */
export const pingFrame = webSocketFrame("2");
