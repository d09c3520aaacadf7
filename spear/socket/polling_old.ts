/**
 * Polling of Engine.IO 3 as its clients have known it, where the server's library does otherwise:
 * - A client that asks without `b64` gets the binary form of payloads. In browsers the first ones read no other.
 * - Any other one gets ASCII: socket.io-client 1 decodes a text payload from UTF-8 once more than those of 2 do, and there is
 *   no telling them apart before they send.
 * - What socket.io-client 1 sends has been encoded once more, too.
 */
import { Buffer } from "node:buffer";

interface Packet {
  readonly type: string;
  readonly data?: unknown;
}

/** How a transport on polling writes and reads several packets at once, in protocol 3. */
export interface PayloadParser {
  encodePayload(
    packets: readonly Packet[],
    supportsBinary: boolean,
    callback: (payload: string | Buffer) => void,
  ): void;
  /** @param callback is given each packet, its index and their number; `false`: the rest is not wanted */
  decodePayload(
    payload: string | Buffer,
    callback: (packet: Packet, index: number, total: number) => unknown,
  ): void;
}

const types = ["open", "close", "ping", "pong", "message", "upgrade", "noop"];

/** The library's parser, but for what is said above. One for each connection: it learns what its client is. */
export function oldPolling(parser: PayloadParser): PayloadParser {
  const client = new OldText();
  return {
    ...parser,
    encodePayload: (packets, supportsBinary, callback) => {
      const texts = packets.map(({ type, data }) => `${types.indexOf(type)}${data ?? ""}`);
      callback(supportsBinary ? binaryPayload(texts) : textPayload(texts));
    },
    decodePayload: (data, callback) =>
      parser.decodePayload(data, (packet, index, total) => {
        const isText = typeof data === "string" && typeof packet.data === "string";
        const read = isText ? { ...packet, data: client.read(String(packet.data)) } : packet;
        return callback(read, index, total);
      }),
  };
}

/** Of each packet: 0 for a text, the digits of its length in bytes, 255, and its bytes. */
function binaryPayload(texts: readonly string[]): Buffer {
  return Buffer.concat(texts.flatMap((text) => {
    const bytes = Buffer.from(text);
    const digits = [...String(bytes.length)].map(Number);
    return [Buffer.from([0, ...digits, 255]), bytes];
  }));
}

function textPayload(texts: readonly string[]): string {
  return texts.map((text) => {
    const plain = ascii(text);
    return `${plain.length}:${plain}`;
  }).join("");
}

/** What is not ASCII is in strings of JSON. */
function ascii(text: string): string {
  return text.replace(
    /[\u0080-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** What one client sends as text. */
class OldText {
  /** Whether it encodes it once more; undefined: it has sent ASCII only. */
  #isTwice: boolean | undefined;

  read(text: string): string {
    if (this.#isTwice === false || !/[\u0080-\uffff]/.test(text)) return text;
    const once = decoded(text);
    // Its first text beyond ASCII says it: whole bytes of UTF-8 are written by nobody who means them as letters.
    this.#isTwice ??= once !== undefined;
    return this.#isTwice && once !== undefined ? once : text;
  }
}

/** @returns undefined where the text is not one of bytes, or these are not UTF-8; lone surrogates are let through. */
function decoded(text: string): string | undefined {
  if (/[\u0100-\uffff]/.test(text)) return undefined;
  const parts = text.split(loneSurrogate).map((part, i) => {
    if (i % 2 === 0) return utf8(Buffer.from(part, "latin1"));
    const [, high = 0, low = 0] = Buffer.from(part, "latin1");
    return String.fromCharCode(0xd000 | (high & 0x3f) << 6 | low & 0x3f);
  });
  return parts.includes(undefined) ? undefined : parts.join("");
}

const loneSurrogate = /(\xed[\xa0-\xbf][\x80-\xbf])/;
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function utf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}
