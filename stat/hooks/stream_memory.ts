/** The stream of events and the lease of one process, as Redis has them under `gru_stat_events` and `gru_stat_hooks_lease`. */
import type { EventData, EventKind, HookEvent } from "./event.ts";

export class MemoryStream {
  /** Ascending; whoever trims it removes from its beginning. */
  readonly events: HookEvent[] = [];
  /** The token of whoever holds the lease. */
  holder: string | undefined;
  #lastMs = 0;
  #n = 0;

  add<K extends EventKind>(kind: K, subject: string, data: EventData<K>): void {
    const timeMs = Date.now();
    this.#n = timeMs > this.#lastMs ? 0 : this.#n + 1;
    this.#lastMs = Math.max(timeMs, this.#lastMs);
    const position = this.last;
    this.events.push({ position, kind, subject, timeMs, data });
  }

  /** The position of the newest event, also when it was trimmed. */
  get last(): string {
    return `${this.#lastMs}-${this.#n}`;
  }
}
