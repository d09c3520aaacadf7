/** Bytes that no honest client sends, from a seed: HTTP requests, WebSocket frames, Engine.IO and socket.io packets. */
import { Buffer } from "node:buffer";
import { connect } from "node:net";

/** Numbers from 0 to below 1, the same ones for the same seed (mulberry32). */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

export class Fuzzer {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = randomOf(seed);
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  bytes(maxLength: number): Buffer {
    return Buffer.from(Uint8Array.from({ length: this.below(maxLength) }, () => this.below(256)));
  }

  /** A few bytes of it changed, cut, doubled or put in. */
  mutated(text: string | Buffer): Buffer {
    let data = Buffer.from(text);
    for (let times = this.below(5); times > 0; times--) {
      const at = this.below(data.length + 1);
      const rest = data.subarray(at);
      const part = this.pick([
        () => Buffer.concat([this.bytes(8), rest]),
        () => rest.subarray(this.below(8)),
        () => Buffer.concat([rest, rest]).subarray(0, 20_000),
        () => Buffer.alloc(0),
        () => Buffer.from(rest.map((byte, i) => i === 0 ? byte ^ (1 << this.below(8)) : byte)),
      ])();
      data = Buffer.concat([data.subarray(0, at), part]);
    }
    return data;
  }

  request(): Buffer {
    const word = () => this.bytes(20).toString("latin1").replace(/[\r\n ]/g, "x");
    const method = this.pick(["GET", "POST", "PUT", "OPTIONS", "HEAD", "TRACE", "get", word()]);
    const path = this.pick([
      `/socket.io/?EIO=${this.pick(["3", "4", "5", ""])}&transport=${
        this.pick(["polling", "websocket", "x", "__proto__"])
      }&sid=${this.pick(["", "x", word()])}`,
      `/ticket?userId=${word()}&userName=%FF&appType=1&token1=${word()}`,
      ...[
        "/ticket",
        "/nodes",
        "/metrics",
        "/../../etc/passwd",
        "*",
        "http://x/ticket",
        `/${word()}`,
      ],
      `/${"a".repeat(this.below(20_000))}`,
    ]);
    const headers = Array.from({ length: this.below(6) }, () =>
      this.pick([
        "Host: x",
        "Content-Length: 5",
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: x",
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=99",
        "Expect: 100-continue",
        `Authorization: Bearer ${word()}`,
        "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.",
        `X-Forwarded-For: ${word()},,,`,
        "Origin: null",
        `X-${"h".repeat(this.below(30_000))}: 1`,
        word(),
      ]));
    const body = this.pick(["", "5\r\nhello\r\n0\r\n\r\n", "FFFFFFFFF\r\n", '{"userId":', "[[[["]);
    return this.mutated(`${method} ${path} HTTP/1.1\r\n${headers.join("\r\n")}\r\n\r\n${body}`);
  }

  /** An Engine.IO packet that may hold one of socket.io. */
  packet(): string | Buffer {
    const id = this.pick(["", "1", "0", "99999999999999999999", "-1"]);
    const argument = this.pick([
      "{}",
      '{"id":1}',
      '{"id":1,"token2":{}}',
      '{"userId":1,"subscribeGroups":[{"id":10}]}',
      '{"userId":1,"subscribeGroups":{"length":1e9}}',
      '{"type":1,"target":{"id":10},"content":"x"}',
      '{"type":0,"target":null,"content":["x"]}',
      '{"__proto__":{"x":1},"type":1}',
      `${"[".repeat(this.below(5000))}`,
      `"${"x".repeat(this.below(5000))}"`,
      "1e999",
      '"\\ud800"',
    ]);
    const event = this.pick([
      ...["auth", "subscribe", "unsubscribe", "msg", "online"],
      ...["disconnect", "connect", "error", "newListener", "__proto__", ""],
    ]);
    const whole = this.pick([
      `42${id}["${event}",${argument}]`,
      `42/admin,${id}["${event}"]`,
      `45${this.below(9)}-["${event}",{"_placeholder":true,"num":${this.below(3) - 1}}]`,
      `46-${id}[]`,
      `43${id}[${argument}]`,
      `4${this.below(10)}${argument}`,
      ...["2", "3", "2probe", "5", "1", "6", "0", "40", "41", "44", "40/x,{}", "b4AAAA", "", "9"],
    ]);
    return this.below(3) === 0 ? whole : this.mutated(whole);
  }

  frame(): Buffer {
    const payload = Buffer.from(this.packet());
    const honest = this.below(3) > 0;
    const first = honest
      ? 0x81
      : this.pick([0x01, 0x80, 0x82, 0x88, 0x89, 0x8a, 0xc1, 0xf1, 0x83, 0x0f, this.below(256)]);
    const masked = honest || this.below(4) > 0 ? 0x80 : 0;
    const length = honest ? payload.length : this.pick([payload.length, 0, 3, 126, 70_000]);
    const head = length < 126
      ? [first, masked | length]
      : length < 65_536
      ? [first, masked | 126, length >> 8, length & 255]
      : [first, masked | 127, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255];
    return Buffer.concat([Buffer.from(head), Buffer.alloc(masked === 0 ? 0 : 4), payload]);
  }
}

export interface Target {
  readonly hostname: string;
  readonly port: number;
}

/** Writes it all to a connection of its own. Resolves when that is closed, or `lingerMs` after the last byte. */
export function throwAt(
  { hostname, port }: Target,
  parts: readonly Buffer[],
  lingerMs: number,
): Promise<void> {
  return new Promise((resolve) => {
    const socket = connect({ host: hostname, port });
    socket.on("error", () => {});
    const end = () => socket.destroy();
    const timer = setTimeout(end, 5000);
    socket.on("connect", () => {
      for (const part of parts) socket.write(part);
      setTimeout(end, lingerMs);
    });
    socket.on("data", () => {});
    socket.on("close", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

export const upgrade = Buffer.from(
  "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" +
    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
    "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
);

/** A text frame, its mask 0. */
export function textFrame(text: string): Buffer {
  const payload = Buffer.from(text);
  if (payload.length >= 126) throw new RangeError("textFrame: shorter than 126 bytes, please");
  return Buffer.concat([Buffer.from([0x81, 0x80 | payload.length, 0, 0, 0, 0]), payload]);
}
