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
        "/getGroupStat?groupId=%00",
        "/spear/kickUser",
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
        // As much memory, for who believes it.
        "Content-Length: 17592186044416",
        "Content-Type: application/json",
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

  /** Valid packets in numbers and orders in which no client sends them. */
  storm(): string[] {
    const id = () => this.below(100);
    const attachments = () => this.below(4);
    const event = () =>
      this.pick([
        `["auth",{"id":${1 + this.below(3)}}]`,
        '["subscribe",{"userId":1,"subscribeGroups":[{"id":10,"presence":true}]}]',
        '["unsubscribe",{"userId":1,"subscribeGroups":[{"id":10}]}]',
        '["msg",{"type":1,"target":{"id":10},"content":"x"}]',
        '["online",10]',
      ]);
    const kinds: Record<string, () => string> = {
      comingAndGoing: () =>
        this.pick(["40", "41", "40", "40{}", "41/", "40/admin,{}", "41/admin,"]),
      acknowledgements: () =>
        this.pick([`43${id()}[]`, `43${id()}[{"a":[1]}]`, `461-${id()}[]`, "b4AAAA"]),
      attachments: () =>
        this.pick([
          `45${attachments()}-["msg",{"_placeholder":true,"num":${attachments()}}]`,
          `45${attachments()}-${id()}${event()}`,
          "b4AAAA",
          "b4",
        ]),
      events: () => `42${this.pick(["", `${id()}`])}${event()}`,
      heartbeats: () => this.pick(["2", "3", "3", "2probe", "3probe"]),
      ofTransports: () => this.pick(["5", "6", "1", "0", "0{}", "2probe", "5"]),
    };
    const all = Object.values(kinds);
    const some = this.pick([[this.pick(all)], [this.pick(all), this.pick(all)], all]);
    // Most come in, so that what follows reaches further.
    const opening = this.pick([[], ["40"], ["40", '420["auth",{"id":1}]']]);
    const length = this.pick([3, 10, 100]);
    return [...opening, ...Array.from({ length }, () => this.pick(some)())];
  }

  frame(): Buffer {
    const payload = Buffer.from(this.packet());
    if (this.below(3) > 0) return frameOf(0x81, payload, this.below(4));
    return this.pick([
      // Any opcode and reserved bits, masked or not, of this or another length.
      () => {
        const first = this.pick([0x01, 0x80, 0x82, 0x89, 0x8a, 0xc1, 0xf1, 0x83, this.below(256)]);
        const length = this.pick([payload.length, 0, 3, 126, 70_000]);
        return frameOf(first, payload, this.below(4), { masked: this.below(4) > 0, length });
      },
      // In parts, with a ping between, or the end missing, or a new beginning in the middle.
      () => {
        const at = this.below(payload.length + 1);
        return Buffer.concat([
          frameOf(0x01, payload.subarray(0, at), this.below(4)),
          this.pick([Buffer.alloc(0), frameOf(0x89, "x"), frameOf(0x81, "2"), frameOf(0x00, "")]),
          this.pick([frameOf(0x80, payload.subarray(at), 7), Buffer.alloc(0)]),
        ]);
      },
      // Longer than anything, in 64 bits.
      () => {
        const length = this.pick([
          [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
          [0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
          [0, 0x20, 0, 0, 0, 0, 0, 0],
          [0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff],
          [0, 0, 0, 0, 0, 0, 0, 1],
        ]);
        return Buffer.concat([Buffer.from([0x81, 0xff, ...length, 0, 0, 0, 0]), payload]);
      },
      // Closing, with a good code, a bad one, or half of one.
      () =>
        frameOf(
          0x88,
          this.pick([
            Buffer.from([]),
            Buffer.from([3]),
            Buffer.from([0x03, 0xe8]),
            Buffer.from([0x03, 0xed]),
            Buffer.concat([Buffer.from([this.below(256), this.below(256)]), this.bytes(200)]),
          ]),
          this.below(4),
        ),
    ])();
  }

  /** A body for polling: packets of Engine.IO 4, or of 3 as text or as bytes. */
  polled(engine: 3 | 4): { readonly body: Buffer; readonly contentType: string } {
    const packets = Array.from({ length: 1 + this.below(4) }, () => Buffer.from(this.packet()));
    const contentType = this.pick([
      "text/plain;charset=UTF-8",
      "application/octet-stream",
      "x",
      "",
    ]);
    const honest = this.below(2) === 0;
    const parts = packets.flatMap((packet) => {
      if (engine === 4) return [packet, Buffer.from("\x1e")];
      const length = honest ? packet.length : this.pick([0, -1, 3, 1e9, 1e300, NaN]);
      const head = contentType.startsWith("text")
        ? Buffer.from(`${length}:`)
        : Buffer.from([this.below(3), ...[...String(packet.length)].map(Number), 255]);
      return [head, packet];
    });
    const body = Buffer.concat(parts);
    return { contentType, body: honest ? body : this.mutated(body) };
  }
}

/** A frame of a WebSocket; the mask repeats one byte. */
function frameOf(
  first: number,
  text: Buffer | string,
  mask = 0,
  { masked = true, length = Buffer.byteLength(text) } = {},
): Buffer {
  const payload = Buffer.from(text);
  const bit = masked ? 0x80 : 0;
  const head = length < 126
    ? [first, bit | length]
    : length < 65_536
    ? [first, bit | 126, length >> 8, length & 255]
    : [first, bit | 127, 0, 0, 0, 0, 0, length >> 16, (length >> 8) & 255, length & 255];
  if (!masked) return Buffer.concat([Buffer.from(head), payload]);
  return Buffer.concat([
    Buffer.from(head),
    Buffer.alloc(4, mask),
    payload.map((byte) => byte ^ mask),
  ]);
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
    let timer = setTimeout(end, 5000);
    socket.on("connect", () => {
      for (const part of parts) socket.write(part);
      clearTimeout(timer);
      timer = setTimeout(end, lingerMs);
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

export function textFrame(text: string): Buffer {
  return frameOf(0x81, text);
}

/** Begins a connection by polling. @throws {Error} with what was answered instead. */
export async function beginPolling(
  { hostname, port }: Target,
  engine: 3 | 4,
): Promise<(body: Buffer, contentType: string) => Buffer> {
  const query = `/socket.io/?EIO=${engine}&transport=polling`;
  const response = await fetch(`http://${hostname}:${port}${query}`);
  const text = await response.text();
  const sid = /"sid":"([^"]+)"/.exec(text)?.[1];
  if (sid === undefined) throw new Error(`no connection by polling: ${text}`);
  return (body, contentType) => {
    const head =
      `POST ${query}&sid=${sid} HTTP/1.1\r\nHost: x\r\nContent-Type: ${contentType}\r\n` +
      `Content-Length: ${body.length}\r\n\r\n`;
    return Buffer.concat([Buffer.from(head), body]);
  };
}

/** How a client may be in two minds: what it sends, over which connections, and what of it is an input. */
interface Confused {
  readonly inputs: number;
  /** Requests and frames for each TCP connection, which are opened one after the other. */
  readonly connections: readonly (readonly Buffer[])[];
}

type Handshake = (engine: 3 | 4) => Promise<string>;

/**
 * Valid packets and requests where they do not belong: storms of packets, upgrades half done, polls and requests that
 * overlap, two `sid`s, and another protocol or transport in the middle. @returns how many inputs that were
 */
export async function confuse(target: Target, random: Fuzzer, lingerMs: number): Promise<number> {
  const { inputs, connections } = await confusion(random, (engine) => handshake(target, engine));
  await Promise.all(connections.map((parts) => throwAt(target, parts, lingerMs)));
  return inputs;
}

async function handshake({ hostname, port }: Target, engine: 3 | 4): Promise<string> {
  const query = `/socket.io/?EIO=${engine}&transport=polling`;
  const text = await (await fetch(`http://${hostname}:${port}${query}`)).text();
  return /"sid":"([^"]+)"/.exec(text)?.[1] ?? "none";
}

async function confusion(random: Fuzzer, begin: Handshake): Promise<Confused> {
  const engine = random.pick([3, 4, 4] as const);
  const packets = random.storm();
  const frames = packets.map((packet) => textFrame(packet));
  if (random.below(3) === 0) {
    return { inputs: packets.length, connections: [[upgradeTo(`EIO=${engine}`), ...frames]] };
  }
  const sid = await begin(engine);
  const own = `EIO=${engine}&sid=${sid}`;
  const other = random.below(4) === 0 ? await begin(random.pick([3, 4])) : sid;
  const otherEngine = engine === 3 ? 4 : 3;
  /** Mostly its own. */
  const query = () =>
    random.pick([
      ...[own, own, own, own],
      `EIO=${otherEngine}&sid=${sid}`,
      `EIO=${engine}&sid=${other}&sid=${sid}`,
      `EIO=${engine}&sid=${sid}&sid=${other}`,
      `EIO=${engine}&EIO=${otherEngine}&sid=${sid}`,
      `EIO=${engine}&sid=${sid}&j=0`,
    ]);
  const chunks = [packets];
  if (random.below(2) === 0) {
    const at = random.below(packets.length);
    chunks.splice(0, 1, packets.slice(0, at), packets.slice(at));
  }
  const posts = chunks.map((part) =>
    post(query(), part, random.pick([engine, engine, otherEngine]))
  );
  const polls = Array.from({ length: random.below(4) }, () => request("GET", query()));
  const upgrades = Array.from({ length: random.below(3) }, () => [
    upgradeTo(query()),
    ...random.pick([
      [],
      [textFrame("2probe")],
      [textFrame("2probe"), textFrame("5"), ...frames],
      [textFrame("5"), ...frames],
      [textFrame("2probe"), textFrame("2probe"), textFrame("5"), textFrame("5")],
      [textFrame("2probe"), ...frames, textFrame("5")],
      frames,
    ]),
  ]);
  const requests = [...posts, ...polls];
  // One after the other on one connection, or all at once.
  const connections = random.below(2) === 0 ? [requests] : requests.map((one) => [one]);
  return {
    inputs: packets.length + polls.length + upgrades.length,
    connections: random.below(2) === 0
      ? [...connections, ...upgrades]
      : [...upgrades, ...connections],
  };
}

function upgradeTo(query: string): Buffer {
  return Buffer.from(
    `GET /socket.io/?${query}&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n` +
      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
      "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
  );
}

function post(query: string, packets: readonly string[], engine: 3 | 4): Buffer {
  const body = engine === 4
    ? packets.join("\x1e")
    : packets.map((packet) => `${packet.length}:${packet}`).join("");
  return request("POST", query, body);
}

function request(method: string, query: string, body = ""): Buffer {
  return Buffer.from(
    `${method} /socket.io/?${query}&transport=polling HTTP/1.1\r\nHost: x\r\n` +
      `Content-Type: text/plain\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}
