/** One client as any of Gru's users has: a ticket, a socket.io connection, and requests with their results. */
import type { io as connectSocket, Socket } from "socket.io-client";
import type { z } from "zod";
import type { messageSchema } from "@gru/spear/contract";
import { get, messageOf } from "./api.ts";

declare global {
  var io: typeof connectSocket;
}

export type Message = z.output<typeof messageSchema>;

interface Result<T> {
  readonly success: boolean;
  readonly msg: string;
  readonly data: T | null;
}

interface Ticket {
  readonly addr: string;
  readonly name: string;
  readonly token: string;
}

export interface SimulatedClientOptions {
  readonly onState: (state: "off" | "connecting" | "on", address: string) => void;
  readonly onMessage: (message: Message) => void;
  /** What happened: a success, something else worth knowing, or what went wrong. */
  readonly say: (kind: "ok" | "note" | "problem", text: string) => void;
}

export interface Who {
  readonly userId: string;
  readonly token1: string;
  /** Of a spear; empty: ticket chooses. */
  readonly address: string;
}

const answerMs = 10_000;
const told = { kicked: "problem", missed: "problem", move: "note", presence: "note" } as const;

export class SimulatedClient {
  readonly #options: SimulatedClientOptions;
  #socket: Socket | undefined;

  constructor(options: SimulatedClientOptions) {
    this.#options = options;
  }

  get isOff(): boolean {
    return this.#socket === undefined;
  }

  async connect({ userId, token1, address }: Who): Promise<void> {
    const claims = { id: userId, name: `user${userId}`, appType: "1", token1 };
    if (address !== "") return this.#open(address, { ...claims, token2: "" });
    const query = new URLSearchParams({ userId, userName: claims.name, appType: "1", token1 });
    const ticket = await get<Result<Ticket>>(`/ticket?${query}`)
      .catch((error) => ({ success: false, msg: messageOf(error), data: null }));
    if (ticket.data === null) return this.#options.say("problem", `ticket: ${ticket.msg}`);
    const { addr, name, token } = ticket.data;
    this.#options.say("note", `ticket: ${name} ${addr}`);
    this.#open(addr, { ...claims, token2: token });
  }

  disconnect(): void {
    const leaving = this.#socket;
    this.#socket = undefined;
    leaving?.disconnect();
    this.#options.onState("off", "");
  }

  /** undefined: it failed, and that was said. */
  async request<T extends object>(event: string, argument: unknown): Promise<T | undefined> {
    if (this.#socket === undefined) return undefined;
    const result: Result<T> = await this.#socket.timeout(answerMs).emitWithAck(event, argument)
      .catch((error) => ({ success: false, msg: messageOf(error), data: null }));
    if (result.success) return result.data ?? {} as T;
    this.#options.say("problem", `${event}: ${result.msg}`);
    return undefined;
  }

  #open(address: string, claims: object): void {
    this.#socket?.disconnect();
    const { onState, onMessage, say } = this.#options;
    const options = { transports: ["websocket"], forceNew: true, reconnection: false };
    const socket = this.#socket = globalThis.io(address, options);
    onState("connecting", address);
    const close = (kind: "note" | "problem", why: string) => {
      say(kind, why);
      if (this.#socket === socket) this.disconnect();
    };
    socket.on("connect", async () => {
      if (await this.request("auth", claims) === undefined) return;
      say("ok", "auth");
      onState("on", address);
    });
    socket.on("msg", onMessage);
    for (const [event, kind] of Object.entries(told)) {
      socket.on(event, (argument: unknown) => say(kind, `${event} ${JSON.stringify(argument)}`));
    }
    socket.on("connect_error", (error) => close("problem", `${address}: ${error.message}`));
    socket.on("disconnect", (reason) => close("note", reason));
  }
}
