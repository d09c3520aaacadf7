/** One connection of an attacker: either transport and protocol, over bare sockets, which it reads or does not. For tests. */
import { Buffer } from "node:buffer";
import { connect, type Socket } from "node:net";

/** What kind of client it is. */
export interface Form {
  readonly transport: "websocket" | "polling";
  readonly engine: 3 | 4;
  /** It authenticates first. */
  readonly known: boolean;
  readonly reads: boolean;
}

const both = [true, false] as const;

export const forms: readonly Form[] = (["websocket", "polling"] as const).flatMap((transport) =>
  ([4, 3] as const).flatMap((engine) =>
    both.flatMap((known) => both.map((reads) => ({ transport, engine, known, reads })))
  )
);

export function nameOf({ transport, engine, known, reads }: Form): string {
  const who = known ? "authenticated" : "unauthenticated";
  return `${who}, ${transport}, EIO${engine}, ${reads ? "reads" : "does not read"}`;
}

export interface Endpoint {
  readonly host: string;
  readonly port: number;
}

/** How long an attacker waits for anything before it begins again. */
const patienceMs = 3000;

/** A socket, and the last of what came. */
class Wire {
  readonly socket: Socket;
  #text = "";

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on("data", (chunk: Buffer) => {
      this.#text = (this.#text + chunk.toString("latin1")).slice(-100_000);
    });
  }

  static async dial(endpoint: Endpoint): Promise<Wire | undefined> {
    const socket = await dial(endpoint);
    return socket === undefined ? undefined : new Wire(socket);
  }

  get ended(): boolean {
    return this.socket.destroyed;
  }

  /** Writes, and waits for what was written to be answered so. */
  async ask(bytes: string | Buffer, pattern: RegExp): Promise<RegExpExecArray | undefined> {
    this.#text = "";
    this.socket.write(bytes);
    return await this.until(pattern);
  }

  async until(pattern: RegExp, timeoutMs = patienceMs): Promise<RegExpExecArray | undefined> {
    const found = () => pattern.exec(this.#text) ?? undefined;
    let look = () => {};
    if (found() === undefined && !this.ended) {
      await within(timeoutMs, (resolve) => {
        look = () => {
          if (found() !== undefined || this.ended) resolve();
        };
        this.socket.on("data", look);
        this.socket.on("close", look);
      });
      this.socket.off("data", look);
      this.socket.off("close", look);
    }
    return found();
  }
}

export class Line implements Disposable {
  readonly form: Form;
  /** Path and query, with its `sid`. */
  readonly query: string;
  readonly #out: Wire;
  /** By polling another socket, which asks while the first one posts. */
  readonly #in: Wire;

  private constructor(form: Form, query: string, out: Wire, answers: Wire) {
    this.form = form;
    this.query = query;
    this.#out = out;
    this.#in = answers;
  }

  /** Joined, but not authenticated. Undefined: it was not let in. */
  static async open(endpoint: Endpoint, form: Form): Promise<Line | undefined> {
    const { transport, engine } = form;
    const query = `/socket.io/?EIO=${engine}&transport=${transport}`;
    const out = await Wire.dial(endpoint);
    if (out === undefined) return undefined;
    if (transport === "websocket") {
      const line = new Line(form, query, out, out);
      const opened = await out.ask(upgradeTo(query), /"sid"|HTTP\/1.1 [45]/);
      if (opened?.[0] === '"sid"' && await line.#join()) return line;
      return void line[Symbol.dispose]();
    }
    const answers = await Wire.dial(endpoint);
    if (answers === undefined) return void out.socket.destroy();
    const opened = await answers.ask(get(query), /"sid":"([^"]+)"|HTTP\/1.1 [45]/);
    const line = new Line(form, `${query}&sid=${opened?.[1]}`, out, answers);
    if (opened?.[1] !== undefined && await line.#join()) return line;
    return void line[Symbol.dispose]();
  }

  get ended(): boolean {
    return this.#out.ended || this.#in.ended;
  }

  /** Resolves with the answer, or undefined. */
  async enter(userId: number, token2: string): Promise<string | undefined> {
    const result = /\["auth_result",.*\}\]/;
    await this.send(this.batch([`42["auth",${JSON.stringify({ id: userId, token2 })}]`]));
    if (this.form.transport === "websocket") return (await this.#in.until(result))?.[0];
    for (let polls = 0; polls < 4 && !this.ended; polls++) {
      const answer = await this.#in.ask(get(this.query), /HTTP\/1.1 .*\r\n\r\n.+/s);
      const found = result.exec(answer?.[0] ?? "");
      if (found !== null) return found[0];
    }
    return undefined;
  }

  /**
   * From now on it reads all that comes, or nothing, as its form says.
   * @param asks by polling, one that does not read asks for one answer more
   */
  settle(asks: boolean): void {
    const { reads, transport } = this.form;
    const { socket } = this.#in;
    if (transport === "polling") {
      if (reads) socket.on("data", () => socket.write(get(this.query)));
      if (reads || asks) socket.write(get(this.query));
    }
    if (!reads) socket.pause();
  }

  /** Engine.IO's packets in a row, as {@linkcode send} takes them: frames, or one request. */
  batch(packets: readonly string[]): Buffer {
    const { transport, engine } = this.form;
    if (transport === "websocket") return Buffer.concat(packets.map((packet) => frame(packet)));
    return postOf(this.query, payload(packets, engine));
  }

  /** Resolves when it may send more, to false when it cannot any longer. */
  async send(bytes: Buffer): Promise<boolean> {
    if (this.ended) return false;
    const { socket } = this.#out;
    if (this.form.transport === "polling") {
      return (await this.#out.ask(bytes, /HTTP\/1.1 (\d+)/))?.[1] === "200" && !this.ended;
    }
    if (!socket.write(bytes)) {
      let done = () => {};
      await within(patienceMs, (resolve) => {
        done = resolve;
        socket.on("drain", done);
        socket.on("close", done);
      });
      socket.off("drain", done);
      socket.off("close", done);
    }
    return !this.ended && !socket.writableNeedDrain;
  }

  [Symbol.dispose](): void {
    this.#out.socket.destroy();
    this.#in.socket.destroy();
  }

  /** In Engine.IO 3 the server lets it join unasked. */
  async #join(): Promise<boolean> {
    return this.form.engine === 3 || await this.send(this.batch(["40"]));
  }
}

export async function dial({ host, port }: Endpoint): Promise<Socket | undefined> {
  const socket = connect({ host, port, noDelay: true });
  socket.on("error", () => socket.destroy());
  await within(patienceMs, (resolve) => {
    socket.once("connect", resolve);
    socket.once("close", resolve);
  });
  if (!socket.connecting && !socket.destroyed) return socket;
  return void socket.destroy();
}

/** A frame of a WebSocket, masked with 0. */
export function frame(text: string, first = 0x81): Buffer {
  const payload = Buffer.from(text);
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14);
  head[0] = first;
  head[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (head.length === 8) head.writeUInt16BE(length, 2);
  if (head.length === 14) head.writeUInt32BE(length, 6);
  return Buffer.concat([head, payload]);
}

export function payload(packets: readonly string[], engine: 3 | 4): string {
  return engine === 4
    ? packets.join("\x1e")
    : packets.map((packet) => `${packet.length}:${packet}`).join("");
}

export function get(query: string): string {
  return `GET ${query} HTTP/1.1\r\nHost: x\r\n\r\n`;
}

export function upgradeTo(query: string): string {
  return `GET ${query} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n";
}

export function postOf(query: string, body: string): Buffer {
  return Buffer.from(
    `POST ${query} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain;charset=UTF-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
}

/** Resolves when it does, or after so many milliseconds. */
async function within(ms: number, wait: (resolve: () => void) => void): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  wait(resolve);
  await promise;
  clearTimeout(timer);
}
