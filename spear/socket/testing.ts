/**
 * A server of Engine.IO with the connections of a spear on it and nothing behind them, and the clients' side of
 * polling: for tests.
 */
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Server as EngineServer } from "engine.io";
import { connectionOn, SocketConnection } from "./connection.ts";
import { type EngineSocket, LeanWebSocketServer, serveOldPolling } from "./engine_io.ts";
import { type SlowConsumer, WriteScheduler } from "./write_scheduler.ts";
import { Heartbeat } from "./heartbeat.ts";
import { slim } from "./memory.ts";
import { Frame } from "../packets.ts";
import type { Result } from "../wire.ts";

export interface ServedConnection {
  readonly connection: SocketConnection;
  readonly conn: EngineSocket;
  readonly ended: Promise<void>;
}

export interface Sockets extends AsyncDisposable {
  readonly port: number;
  readonly heartbeat: Heartbeat;
  /** The next one that has not been asked for yet. */
  next(): Promise<ServedConnection>;
}

export interface SocketsOptions {
  readonly slow?: SlowConsumer;
  /** Undefined: nobody has authenticated. */
  readonly userId?: string | undefined;
  readonly pingMs?: number;
  readonly ping?: (socket: object) => void;
  readonly handle?: (event: string, argument: unknown, reply: (result: Result) => void) => void;
}

const patient: SlowConsumer = { waitingBytes: 1e9, policy: "disconnect" };

export async function serveSockets(options: SocketsOptions = {}): Promise<Sockets> {
  const { slow = patient, pingMs = 25_000, ping = () => {}, handle = () => {} } = options;
  const userId = "userId" in options ? options.userId : "1";
  await using stack = new AsyncDisposableStack();
  const scheduler = stack.use(new WriteScheduler({ windowMs: 0 }));
  const heartbeat = stack.use(new Heartbeat({ intervalMs: pingMs, timeoutMs: 300, ping }));
  const engine = new EngineServer({
    ...{ allowEIO3: true, wsEngine: LeanWebSocketServer },
    ...{ pingInterval: pingMs, pingTimeout: 300 },
  });
  serveOldPolling(engine);
  const http = createServer((request, response) => {
    const sid = new URL(request.url ?? "", "http://x").searchParams.get("sid") ?? "";
    const { clients } = engine as unknown as { clients: Record<string, EngineSocket> };
    const connection = connectionOn(clients[sid]);
    const pass = () => engine.handleRequest(request as never, response);
    if (request.method === "GET" && connection !== undefined) connection.poll(response, pass);
    else pass();
  });
  http.on("upgrade", (request, socket, head) => {
    engine.handleUpgrade(request as never, socket, head);
  });
  const come: ServedConnection[] = [];
  const asked: ((served: ServedConnection) => void)[] = [];
  engine.on("connection", (socket: unknown) => {
    const conn = socket as EngineSocket;
    const connection = new SocketConnection(conn, { scheduler, slow, payloadBytes: 1_000_000 });
    heartbeat.take(conn);
    const { promise, resolve } = Promise.withResolvers<void>();
    const session = {
      userId,
      handle: async (event: string, argument: unknown, reply: (result: Result) => void) =>
        handle(event, argument, reply),
      acknowledged: () => {},
      noteMissed: () => {},
    };
    connection.serve(session, { ended: () => resolve() });
    slim(conn);
    const served = { connection, conn, ended: promise };
    const taker = asked.shift();
    if (taker === undefined) come.push(served);
    else taker(served);
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  stack.defer(async () => {
    engine.close();
    const closed = once(http, "close");
    http.close();
    http.closeAllConnections();
    await closed;
  });
  const { port } = http.address() as AddressInfo;
  const opened = stack.move();
  return {
    ...{ port, heartbeat },
    next: () => {
      const first = come.shift();
      if (first !== undefined) return Promise.resolve(first);
      return new Promise((resolve) => asked.push(resolve));
    },
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

/** Numbered from 1, each of about so many bytes. */
export function frames(count: number, bytes: number): Frame[] {
  return Array.from({ length: count }, (_, i) => {
    const text = `2["msg",{"seq":${i + 1},"content":"${"x".repeat(bytes)}"}]`;
    return new Frame("g:1", "e", i + 1, text);
  });
}

/** A client on polling that does one request after the other, as it is asked to. */
export class PollingClient {
  readonly #url: string;
  readonly sid: string;
  readonly engine: 3 | 4;

  private constructor(url: string, engine: 3 | 4, sid: string) {
    this.#url = `${url}&sid=${sid}`;
    this.sid = sid;
    this.engine = engine;
  }

  /** @throws {Error} with the answer, where that is no handshake */
  static async open(
    address: string,
    engine: 3 | 4 = 4,
    query = "",
    headers: Record<string, string> = {},
  ): Promise<PollingClient> {
    const url = `${address}/socket.io/?EIO=${engine}&transport=polling`;
    const response = await fetch(`${url}${query}`, { headers });
    const [text = ""] = await packetsOf(response, engine);
    const sid = /"sid":"([^"]+)"/.exec(text)?.[1];
    if (!response.ok || sid === undefined) throw new Error(`${response.status} ${text}`);
    return new PollingClient(url, engine, sid);
  }

  /** Engine.IO packets in one request. */
  async post(...packets: string[]): Promise<string> {
    const body = this.engine === 4
      ? packets.join("\x1e")
      : packets.map((packet) => `${packet.length}:${packet}`).join("");
    const headers = { "content-type": "text/plain;charset=UTF-8" };
    const response = await fetch(this.#url, { method: "POST", body, headers });
    return `${response.status} ${await response.text()}`;
  }

  /** The Engine.IO packets of one poll. @throws {Error} with what was answered instead */
  async poll(): Promise<string[]> {
    const response = await fetch(this.#url);
    const packets = await packetsOf(response, this.engine);
    if (!response.ok) throw new Error(`${response.status} ${packets}`);
    return packets;
  }

  /** Polls until a packet comes that begins so; gives all that came. */
  async pollUntil(begin: string): Promise<string[]> {
    const packets: string[] = [];
    while (!packets.some((packet) => packet.startsWith(begin))) packets.push(...await this.poll());
    return packets;
  }
}

/** Of an answer to polling, in whichever form; of an error its text. */
async function packetsOf(response: Response, engine: 3 | 4): Promise<string[]> {
  if (response.headers.get("content-type") === "application/octet-stream") {
    return binaryPackets(new Uint8Array(await response.arrayBuffer()));
  }
  const text = await response.text();
  if (!response.ok) return [text];
  if (engine === 4) return text.split("\x1e");
  const packets: string[] = [];
  for (let at = 0; at < text.length;) {
    const colon = text.indexOf(":", at);
    const end = colon + 1 + Number(text.slice(at, colon));
    packets.push(text.slice(colon + 1, end));
    at = end;
  }
  return packets;
}

function binaryPackets(bytes: Uint8Array): string[] {
  const packets: string[] = [];
  for (let at = 0; at < bytes.length;) {
    const begin = bytes.indexOf(255, at) + 1;
    const end = begin + Number(bytes.subarray(at + 1, begin - 1).join(""));
    packets.push(new TextDecoder().decode(bytes.subarray(begin, end)));
    at = end;
  }
  return packets;
}
