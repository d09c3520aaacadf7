/**
 * Messages on their way to the cluster. Those to one target are sent one after the other, so that they are accepted in the order of
 * the calls whatever is refused for a moment or lost with a connection; targets do not wait for each other.
 */
import { GruError } from "./errors.ts";
import { pause } from "./pause.ts";
import { refusal } from "./refusal.ts";
import type { Accepted } from "./types.ts";
import type { Result } from "./wire.ts";

/** As the event `msg` wants it. */
export interface Outgoing {
  readonly type: 0 | 1;
  readonly target: { readonly id: string };
  readonly content: string;
  readonly clientMsgId: string;
  readonly priority?: "low" | undefined;
}

export interface Sender {
  /** Resolves to undefined when the node is gone and has not answered. */
  send(message: Outgoing): Promise<Result | undefined>;
}

export interface OutboxOptions {
  /** Beyond so many messages, or characters of theirs, no more is taken. */
  readonly messages: number;
  readonly characters: number;
  /** Resolves to a node as soon as there is one; to undefined when there will be none any more. */
  readonly node: () => Promise<Sender | undefined>;
  readonly delayMs: (attempt: number) => number;
  readonly closed: AbortSignal;
  readonly changed: () => void;
}

export class Outbox {
  readonly #options: OutboxOptions;
  /** By target: resolves when what was sent to it before is settled. */
  readonly #turns = new Map<string, Promise<unknown>>();
  readonly #waiting = new Set<Outgoing>();
  #characters = 0;

  constructor(options: OutboxOptions) {
    this.#options = options;
  }

  /** What is not answered yet, in the order of the calls. */
  get waiting(): ReadonlySet<Outgoing> {
    return this.#waiting;
  }

  /** Rejects with a {@linkcode GruError}, or the signal's reason; then those behind it have their turn once it is answered. */
  async send(message: Outgoing, signal?: AbortSignal): Promise<Accepted> {
    const { messages, characters, changed } = this.#options;
    const { length } = message.content;
    signal?.throwIfAborted();
    if (this.#waiting.size >= messages || this.#characters + length > characters) {
      throw new GruError("outbox-full", `outbox: ${this.#waiting.size} messages wait already`);
    }
    const key = message.type + message.target.id;
    const sent = this.#sendAfter(this.#turns.get(key), message, signal);
    const turn = sent.catch(() => {}).then(() => {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    });
    this.#turns.set(key, turn);
    this.#waiting.add(message);
    this.#characters += length;
    changed();
    let abort = () => {};
    try {
      return await new Promise((resolve, reject) => {
        abort = () => reject(signal?.reason);
        signal?.addEventListener("abort", abort);
        sent.then(resolve, reject);
      });
    } finally {
      signal?.removeEventListener("abort", abort);
      this.#waiting.delete(message);
      this.#characters -= length;
      changed();
    }
  }

  /** Resolves when what was sent until now is settled. */
  async settled(): Promise<void> {
    await Promise.all(this.#turns.values());
  }

  async #sendAfter(
    before: Promise<unknown> | undefined,
    message: Outgoing,
    signal: AbortSignal | undefined,
  ): Promise<Accepted> {
    const { node, delayMs, closed } = this.#options;
    await before;
    let inDoubt = false;
    for (let attempt = 0;; attempt++) {
      const sender = await node();
      signal?.throwIfAborted();
      if (!sender) throw new GruError("closed", "the client is closed", { inDoubt });
      const result = await sender.send(message);
      if (!result) {
        inDoubt = true;
        continue;
      }
      // What has no place comes without one.
      if (result.success) return { id: "", epoch: "", seq: 0, ...result.data };
      const error = refusal(result, inDoubt);
      if (!error.retryable) throw error;
      await pause(error.retryAfterMs ?? delayMs(attempt), closed);
    }
  }
}
