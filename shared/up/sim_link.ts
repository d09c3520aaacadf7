/** A client's end of one connection, as the stock client keeps it: polling, WebSocket, and the way from one to the other. */
import { Buffer } from "node:buffer";
import { type Socket as EngineSocket, transports } from "engine.io";
import { connectionOn } from "../../spear/socket/connection.ts";
import type { EngineSocket as SpearSocket } from "../../spear/socket/engine_io.ts";
import {
  engineOptions,
  type Item,
  type SimGateway,
  SimRequest,
  SimResponse,
  SimTcp,
  SimWebSocket,
} from "./sim_gateway.ts";
import { Pipe, type Way } from "./sim_network.ts";
import type { Actor, VirtualTime } from "./sim_time.ts";

export type TransportKind = "websocket" | "polling" | "upgrade";

interface PollingTransport {
  readonly name: string;
  onRequest?(request: SimRequest): void;
}

export interface LinkEvents {
  open(): void;
  /** A packet of socket.io. */
  packet(text: string): void;
  closed(): void;
}

export class SimLink {
  readonly gateway: SimGateway;
  readonly #time: VirtualTime;
  readonly #actor: Actor;
  readonly #way: Way;
  readonly #events: LinkEvents;
  readonly #pipes: Pipe[] = [];
  #conn: EngineSocket | undefined;
  #socket: SimWebSocket | undefined;
  #up: Pipe | undefined;
  #polling = false;
  #paused: (() => void) | undefined;
  #pollRequest: SimRequest | undefined;
  #posting = false;
  /** What is to be sent when a post or the upgrade is over. */
  #waiting: string[] = [];
  #upgrading = false;
  /** Bytes of one request. */
  #maxPayload = Infinity;
  #reading = true;
  readonly #unread: (() => void)[] = [];
  #vanished = false;
  #heardAt: number;
  #watch: ReturnType<typeof setInterval> | undefined;
  isOpen = false;
  ended = false;

  constructor(
    time: VirtualTime,
    actor: Actor,
    way: Way,
    gateway: SimGateway,
    kind: TransportKind,
    events: LinkEvents,
  ) {
    this.#time = time;
    this.#actor = actor;
    this.#way = way;
    this.gateway = gateway;
    this.#events = events;
    this.#heardAt = time.now;
    if (kind === "websocket") this.#openWebSocket();
    else this.#openPolling(kind === "upgrade");
    this.#watch = setInterval(() => {
      const { pingInterval, pingTimeout } = engineOptions;
      if (time.now - this.#heardAt > pingInterval + pingTimeout) this.cut();
    }, 5000);
    setTimeout(() => {
      if (!this.isOpen) this.cut();
    }, 5000);
  }

  get bufferedAtServer(): number {
    const conn = this.#conn as unknown as { writeBuffer: { data?: string }[] } | undefined;
    return (conn?.writeBuffer ?? []).reduce((sum, { data = "" }) => sum + data.length, 0);
  }

  /** A packet of socket.io. */
  send(text: string): void {
    if (this.ended || this.#vanished) return;
    this.#waiting.push(`4${text}`);
    this.#flush();
  }

  /** Stops reading, and goes on. */
  stall(): void {
    this.#reading = false;
    if (this.#socket !== undefined) this.#socket._socket.stalled = true;
  }

  resume(): void {
    if (this.#vanished) return;
    this.#reading = true;
    for (const take of this.#unread.splice(0)) take();
    const tcp = this.#socket?._socket;
    if (tcp !== undefined) {
      this.#time.after(this.#way.delay(), () => tcp.resume(), this.gateway.actor);
    }
  }

  /** The client is gone and nobody says so. */
  vanish(): void {
    this.#vanished = true;
    this.stall();
    this.#end();
  }

  /** The connection breaks; both ends notice. */
  cut(): void {
    if (this.ended) return;
    for (const pipe of this.#pipes) pipe.cut();
    const { actor } = this.gateway;
    this.#time.after(this.#way.delay(), () => this.#closeServer(), actor);
    this.#end();
    this.#time.after(this.#way.delay(), () => this.#events.closed(), this.#actor);
  }

  /** Closed in order by the client: what it has sent before arrives before. */
  close(): void {
    if (this.ended) return;
    this.#end();
    if (this.#up !== undefined) this.#up.send(() => this.#closeServer());
    else this.#time.after(this.#way.delay(), () => this.#closeServer(), this.gateway.actor);
    this.#time.after(0, () => this.#events.closed(), this.#actor);
  }

  #closeServer(): void {
    this.#socket?.terminate();
    this.#pollRequest?.emit("close");
    // One that polls for the server, be it that the client has upgraded meanwhile, is found by its silence; here at once.
    if (this.#conn?.transport.name === "polling") this.#conn.close(true);
  }

  #end(): void {
    this.ended = true;
    this.isOpen = false;
    clearInterval(this.#watch);
  }

  /** The server has ended it. */
  #gone(): void {
    if (this.ended) return;
    this.#end();
    this.#events.closed();
  }

  #pipe(to: Actor): Pipe {
    const pipe = new Pipe(this.#time, this.#way, to);
    this.#pipes.push(pipe);
    return pipe;
  }

  #openWebSocket(): void {
    this.#way.pass(() =>
      this.#time.after(this.#way.delay(), () => {
        const request = new SimRequest("GET", "websocket");
        const socket = request.websocket = this.#webSocket();
        const conn = this.gateway.actor.dead ? undefined : this.gateway.accept(request);
        if (conn === undefined) return this.#refused();
        this.#adopt(conn, socket);
      }, this.gateway.actor)
    );
  }

  #refused(): void {
    this.#time.after(this.#way.delay(), () => this.#gone(), this.#actor);
  }

  #adopt(conn: EngineSocket, socket: SimWebSocket | undefined): void {
    this.#conn = conn;
    this.#socket = socket;
    if (socket !== undefined && !this.#reading) socket._socket.stalled = true;
    conn.once("close", () => {
      if (this.#socket !== undefined) return;
      // The next poll of a session that is over is refused.
      this.#time.after(2 * this.#way.delay(), () => this.#gone(), this.#actor);
    });
  }

  /** A WebSocket with pipes to and from this client. */
  #webSocket(): SimWebSocket {
    const [down, up] = [this.#pipe(this.#actor), this.#pipe(this.gateway.actor)];
    const socket: SimWebSocket = new SimWebSocket(
      new SimTcp((item) => down.send(() => this.#read(() => this.#takeItem(item, socket, up)))),
    );
    socket.once("close", () => {
      this.#time.after(this.#way.delay(), () => {
        if (this.#socket === socket) this.#gone();
      }, this.#actor);
    });
    this.#up = up;
    return socket;
  }

  #read(take: () => void): void {
    if (this.#vanished) return;
    if (this.#reading) take();
    else this.#unread.push(take);
  }

  #takeItem(item: Item, socket: SimWebSocket, up: Pipe): void {
    if (!(item instanceof Buffer)) {
      up.send(() => socket.terminate());
      return;
    }
    for (const text of textsOf(item)) this.#takeText(text, socket, up);
  }

  #takeText(text: string, socket: SimWebSocket | undefined, up: Pipe): void {
    if (this.ended) return;
    this.#heardAt = this.#time.now;
    const emit = (data: string) => up.send(() => socket?.receive(data));
    switch (text[0]) {
      case "0":
        this.#maxPayload = JSON.parse(text.slice(1)).maxPayload;
        this.#waiting.unshift("40");
        this.#flush();
        break;
      case "1":
        this.#gone();
        break;
      case "2":
        if (socket === undefined) this.#waiting.push("3"), this.#flush();
        else emit("3");
        break;
      case "3":
        this.#probed(() => emit("5"));
        break;
      case "4":
        if (!this.isOpen && text.startsWith("40")) {
          this.isOpen = true;
          this.#events.open();
        } else {
          this.#events.packet(text.slice(1));
        }
    }
  }

  #flush(): void {
    if (this.#upgrading || this.#waiting.length === 0) return;
    if (!this.#polling) {
      const socket = this.#socket;
      for (const data of this.#waiting.splice(0)) {
        this.#up?.send(() => (socket ?? this.#socket)?.receive(data));
      }
    } else if (!this.#posting && this.#conn !== undefined) {
      this.#post(this.#waiting.splice(0, this.#fitting));
    }
  }

  /** How many packets it sends in one request: no more than the server has said, as Engine.IO's client. */
  get #fitting(): number {
    let size = 0;
    const first = this.#waiting.findIndex((packet, at) => {
      size += packet.length + 1;
      return at > 0 && size > this.#maxPayload;
    });
    return first < 0 ? this.#waiting.length : first;
  }

  #openPolling(upgrade: boolean): void {
    this.#polling = true;
    const up = this.#pipe(this.gateway.actor);
    const down = this.#pipe(this.#actor);
    up.send(() => {
      const request = new SimRequest("GET", "polling");
      const conn = this.gateway.actor.dead ? undefined : this.gateway.accept(request);
      if (conn === undefined) return this.#refused();
      this.#adopt(conn, undefined);
      this.#serve(conn, request, down);
    });
    if (upgrade) this.#upgradeWhenOpen();
  }

  #upgradeWhenOpen(): void {
    const look = setInterval(() => {
      if (this.ended) return clearInterval(look);
      const conn = this.#conn;
      if (conn === undefined || !this.isOpen) return;
      clearInterval(look);
      const socket = this.#webSocket();
      const up = this.#up as Pipe;
      up.send(() => {
        const request = new SimRequest("GET", "websocket", idOf(conn));
        request.websocket = socket;
        // deno-lint-ignore no-explicit-any
        const transport = new (transports as any).websocket(request);
        // deno-lint-ignore no-explicit-any
        (conn as any)._maybeUpgrade(transport);
        socket.receive("2probe");
      });
      this.#probing = socket;
    }, 3);
  }

  #probing: SimWebSocket | undefined;

  /** The server has answered on the WebSocket: over to it when the present poll and post are done. */
  #probed(sendUpgrade: () => void): void {
    this.#upgrading = true;
    this.#paused = () => {
      if (this.#posting || this.#pollRequest !== undefined) return;
      this.#paused = undefined;
      this.#polling = false;
      this.#socket = this.#probing;
      if (!this.#reading && this.#socket !== undefined) this.#socket._socket.stalled = true;
      sendUpgrade();
      this.#upgrading = false;
      this.#flush();
    };
    this.#paused();
  }

  #poll(): void {
    const conn = this.#conn;
    if (this.ended || !this.#polling || conn === undefined) return;
    if (this.#paused !== undefined) return this.#paused();
    const [up, down] = [this.#pipe(this.gateway.actor), this.#pipe(this.#actor)];
    const request = this.#pollRequest = new SimRequest("GET", "polling", idOf(conn));
    up.send(() => this.#serve(conn, request, down));
  }

  #serve(conn: EngineSocket, request: SimRequest, down: Pipe): void {
    this.#pollRequest = request;
    const response = new SimResponse((data) =>
      down.send(() => {
        // The server sees that it has left.
        this.#time.after(0, () => response.emit("close"), this.gateway.actor);
        this.#read(() => {
          this.#pollRequest = undefined;
          for (const text of data.split("\x1e")) this.#takeText(text, undefined, this.#up ?? down);
          this.#poll();
        });
      })
    );
    request.res = response;
    const socket = conn as unknown as SpearSocket;
    const { transport } = socket as unknown as { transport: PollingTransport };
    if (conn.readyState === "closed" || transport.name !== "polling") {
      down.send(() => this.#gone());
      return;
    }
    const passOn = () => transport.onRequest?.(request);
    const connection = connectionOn(socket);
    if (connection === undefined) passOn();
    else connection.poll(response as never, passOn);
  }

  #post(packets: readonly string[]): void {
    const conn = this.#conn;
    if (conn === undefined) return;
    this.#posting = true;
    const [up, down] = [this.#pipe(this.gateway.actor), this.#pipe(this.#actor)];
    up.send(() => {
      const request = new SimRequest("POST", "polling", idOf(conn));
      const done = () =>
        down.send(() => {
          this.#posting = false;
          this.#paused?.();
          this.#flush();
        });
      const refused = () => down.send(() => this.cut());
      request.res = {
        writeHead: (code: number) => ({ end: code < 400 ? done : refused }),
        end: done,
      };
      const transport = conn.transport as unknown as PollingTransport;
      if (conn.readyState === "closed" || transport.name !== "polling") {
        return down.send(() => this.#gone());
      }
      transport.onRequest?.(request);
      request.emit("data", packets.join("\x1e"));
      request.emit("end");
    });
  }
}

/** The texts of a server's WebSocket frames. */
function* textsOf(bytes: Buffer): Generator<string> {
  for (let at = 0; at < bytes.length;) {
    const short = (bytes[at + 1] ?? 0) & 127;
    const start = at + (short === 126 ? 4 : short === 127 ? 10 : 2);
    const length = short === 126
      ? bytes.readUInt16BE(at + 2)
      : short === 127
      ? Number(bytes.readBigUInt64BE(at + 2))
      : short;
    yield bytes.toString("utf8", start, start + length);
    at = start + length;
  }
}

function idOf(conn: EngineSocket): string {
  return (conn as unknown as { readonly id: string }).id;
}
