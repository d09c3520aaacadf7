/** One line in the log for many refusals, where one line for each would fill it: how many, of what, and whose most were. */
import type { Logger } from "@gru/shared/log";

const periodMs = 10_000;
/** In a period; fewer are not worth a line. */
const many = 50;
/** Of clients; those that come when there are so many are counted without a name. */
const clientsKept = 1000;

export class Refusals implements Disposable {
  readonly #log: Logger;
  /** From the first refusal of a period to its end. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  #count = 0;
  readonly #kinds = new Map<string, number>();
  readonly #clients = new Map<string, number>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** @param client for people: a user, or an address as long as there is none */
  add(event: string, code: number | "in_doubt", client: string): void {
    this.#count++;
    this.#timer ??= setTimeout(() => this.report(), periodMs);
    add(this.#kinds, `${event} with ${code}`);
    if (this.#clients.size < clientsKept || this.#clients.has(client)) add(this.#clients, client);
  }

  /** Writes the line of what came since the last call, if that was much. */
  report(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#count >= many) {
      const [[kind = "", ofKind = 0] = []] = most(this.#kinds);
      const [[client = "", ofClient = 0] = []] = most(this.#clients);
      this.#log.warn(
        "{count} events of clients were refused in {seconds} s: {ofKind} of them {kind}; {ofClient} were of {client}, {clients} clients in all",
        {
          ...{ count: this.#count, seconds: periodMs / 1000, ofKind, kind, ofClient, client },
          clients: this.#clients.size,
        },
      );
    }
    this.#count = 0;
    this.#kinds.clear();
    this.#clients.clear();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

function add(counts: Map<string, number>, key: string): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function most(counts: ReadonlyMap<string, number>): [string, number][] {
  return [...counts].sort(([, a], [, b]) => b - a).slice(0, 1);
}
