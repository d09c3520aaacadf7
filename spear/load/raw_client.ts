/**
 * A socket.io client over {@linkcode RawWebSocket}, without polling: for load, where a full client would be the
 * bottleneck, and for tests that must misbehave.
 */
import { Buffer } from "node:buffer";
import { type Address, type OnBytes, RawWebSocket } from "./raw_web_socket.ts";

export type RawClientOptions = Address & Receiver & {
  /** Query parameters of the handshake; default: Engine.IO 4. With `EIO=3` the server joins the namespace by itself. */
  readonly query?: string;
  /**
   * Engine.IO 3, where the client pings: does it, as often as the server asks for. Engine.IO 4 needs no such thing: its server
   * pings, and each ping is answered.
   */
  readonly pings?: boolean;
};

/** Gets each socket.io packet as received (`20["msg",…]`). Engine.IO's own packets are handled here. */
type Receiver =
  & { readonly onClose?: () => void; readonly onCloseFrame?: (code: number) => void }
  & ({ readonly onPacket: (packet: Buffer) => void } | { readonly onBytes: OnBytes });

/** The first character of an Engine.IO packet. */
const engine = { open: 48, ping: 50, message: 52 } as const;
/** The first character of a socket.io packet. */
const connectPacket = 48;

export class RawClient extends RawWebSocket {
  readonly #onBytes: OnBytes;
  readonly #asksToJoin: boolean;
  readonly #pings: boolean;
  readonly #joined = Promise.withResolvers<void>();
  #pingTimer: ReturnType<typeof setInterval> | undefined;

  private constructor(options: RawClientOptions) {
    const { host, port, query = "EIO=4&transport=websocket" } = options;
    super({ ...options, path: `/socket.io/?${query}` });
    this.#asksToJoin = !query.startsWith("EIO=3");
    this.#pings = options.pings ?? false;
    this.#onBytes = "onBytes" in options
      ? options.onBytes
      : (data, start, end) => options.onPacket(Buffer.from(data.subarray(start, end)));
    void this.closed.then(() => {
      clearInterval(this.#pingTimer);
      this.#joined.reject(new Error(`${host}:${port} closed the connection`));
    });
    this.#joined.promise.catch(() => {});
  }

  /** Resolves when the namespace is joined. @throws {Error} with the server's answer otherwise. */
  static async connect(options: RawClientOptions): Promise<RawClient> {
    const client = new RawClient(options);
    await client.upgraded;
    await client.#joined.promise;
    return client;
  }

  /** A socket.io packet, e.g. `2["msg",{…}]`. */
  send(packet: string): void {
    this.sendText(`4${packet}`);
  }

  /** A packet of Engine.IO, e.g. `3`. */
  sendEngine(packet: string): void {
    this.sendText(packet);
  }

  protected override onText(data: Buffer, start: number, end: number): void {
    if (data[start] === engine.message) {
      // `40{"sid":…}`, once; everything after it is for the user.
      if (data[start + 1] === connectPacket) this.#joined.resolve();
      else this.#onBytes(data, start + 1, end);
    } else if (data[start] === engine.ping) this.sendText("3");
    else if (data[start] === engine.open) this.#open(data.toString("utf8", start + 1, end));
  }

  /** @param text JSON of what the server has settled on */
  #open(text: string): void {
    // Not earlier: packets sent before the server has answered may get lost in its handshake.
    if (this.#asksToJoin) this.send("0");
    if (!this.#pings) return;
    const { pingInterval } = JSON.parse(text);
    this.#pingTimer = setInterval(() => this.sendText("2"), pingInterval);
  }
}
