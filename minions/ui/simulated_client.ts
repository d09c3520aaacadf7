/** A client like any of Gru's users has: the client library, and what it tells. */
import {
  connect,
  type Group,
  type Gru,
  type GruError,
  type Message,
  type State,
} from "@gru/client";

export interface SimulatedClientOptions {
  /** @param node the spear that it is on, when it is `on` */
  readonly onState: (state: "off" | "connecting" | "on", node: string) => void;
  readonly onMessage: (message: Pick<Message, "fromId" | "content"> & Partial<Message>) => void;
  /** Reports what happened: a success, a note, or a problem. */
  readonly say: (kind: "ok" | "note" | "problem", text: string) => void;
}

export interface Who {
  readonly userId: string;
  readonly token1: string;
  /** The name of a spear; empty: ticket chooses. */
  readonly node: string;
}

export class SimulatedClient {
  readonly #options: SimulatedClientOptions;
  #gru: Gru | undefined;
  /** Those that it listens to. */
  readonly #groups = new Map<string, Group>();

  constructor(options: SimulatedClientOptions) {
    this.#options = options;
  }

  get isOff(): boolean {
    return this.#gru === undefined;
  }

  connect({ userId, token1, node }: Who): void {
    const { onMessage, say } = this.#options;
    const gru = this.#gru = connect({
      ticket: location.origin + (node === "" ? "" : `/spears/${encodeURIComponent(node)}`),
      method: "GET",
      user: { id: userId, name: `user${userId}` },
      token: token1,
    });
    gru.on("state", (state) => this.#gru === gru && this.#show(state));
    gru.on("broadcast", onMessage);
    gru.on("error", ({ message }) => say("problem", message));
    const own = gru.user(userId);
    own.on("message", onMessage);
    own.on("missed", (missed) => say("problem", `missed ${JSON.stringify(missed)}`));
  }

  disconnect(): void {
    const leaving = this.#gru;
    this.#gru = undefined;
    this.#groups.clear();
    void leaving?.close({ waitMs: 0 });
    this.#options.onState("off", "");
  }

  subscribe(id: string): void {
    const { onMessage, say } = this.#options;
    if (this.#gru === undefined || this.#groups.has(id)) return;
    const group = this.#gru.group(id, { presence: true });
    this.#groups.set(id, group);
    group.on("message", onMessage);
    group.on("missed", (missed) => say("problem", `missed ${id}: ${JSON.stringify(missed)}`));
    group.on("presence", (change) => say("note", `presence ${id}: ${JSON.stringify(change)}`));
    group.on("closed", ({ message }) => {
      this.#groups.delete(id);
      say("problem", `${id}: ${message}`);
    });
    say("ok", `subscribe ${id}`);
  }

  unsubscribe(id: string): void {
    this.#groups.get(id)?.leave();
    this.#groups.delete(id);
    this.#options.say("ok", `unsubscribe ${id}`);
  }

  async online(id: string): Promise<void> {
    await this.#try("online", async (gru) => {
      const users = await gru.group(id).online();
      return `online ${id}: ${users.join(", ")}`;
    });
  }

  async send(kind: "group" | "user", id: string, content: string): Promise<void> {
    await this.#try("send", async (gru) => {
      const { id: message, seq } = await gru[kind](id).send(content);
      return `send: id ${message}, seq ${seq}`;
    });
  }

  async #try(what: string, work: (gru: Gru) => Promise<string>): Promise<void> {
    if (this.#gru === undefined) return;
    try {
      this.#options.say("ok", await work(this.#gru));
    } catch (error) {
      this.#options.say("problem", `${what}: ${(error as GruError).message}`);
    }
  }

  #show(state: State): void {
    const { onState, say } = this.#options;
    if (state.name === "online") {
      say("ok", `online on ${state.node}`);
      onState("on", state.node);
    } else if (state.name === "closed") {
      say("problem", state.why?.message ?? state.name);
      this.disconnect();
    } else {
      if (state.name === "offline") say("problem", state.why.message);
      onState("connecting", "");
    }
  }
}
