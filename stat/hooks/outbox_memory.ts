/** The outbox of a stat that is alone. */
import { comparePositions, type EventData, type HookEvent } from "./event.ts";
import { isWanted } from "./wanted.ts";
import type { MemoryStream } from "./stream_memory.ts";
import {
  beginning,
  type EndpointState,
  type EventPage,
  type Outbox,
  type TrimOptions,
} from "./outbox.ts";

/** What an event takes beside its data, bytes: about as much as in Redis. */
const overheadBytes = 100;

export class MemoryOutbox implements Outbox {
  readonly #stream: MemoryStream;
  readonly #now: () => number;
  #removed = beginning;
  #until = -Infinity;
  #leases = 0;
  readonly #states = new Map<string, EndpointState>();
  #replays = new Map<string, string>();

  /** @param now Unix milliseconds */
  constructor(stream: MemoryStream, now: () => number = Date.now) {
    this.#stream = stream;
    this.#now = now;
  }

  /** True: this is the token of the lease. */
  holds(token: string): boolean {
    return this.#stream.holder === token && this.#now() < this.#until;
  }

  async lease(held: string | undefined, ttlMs: number): Promise<string | undefined> {
    const { holder } = this.#stream;
    const isFree = holder === undefined || this.#now() >= this.#until;
    if (!isFree && held !== holder) return undefined;
    if (isFree) this.#stream.holder = `${++this.#leases}`;
    this.#until = this.#now() + ttlMs;
    return this.#stream.holder;
  }

  async release(token: string): Promise<void> {
    if (this.#stream.holder === token) this.#stream.holder = undefined;
  }

  async read(after: string, limit: number): Promise<EventPage> {
    const events = this.#behind(after).slice(0, limit);
    return { events, last: events.at(-1)?.position ?? after, removed: this.#removed };
  }

  async newest(): Promise<string> {
    return this.#stream.last;
  }

  async keep(token: string, states: ReadonlyMap<string, EndpointState>) {
    if (!this.holds(token)) return undefined;
    for (const [name, state] of states) this.#states.set(name, state);
    const replays = this.#replays;
    this.#replays = new Map();
    return replays;
  }

  async states() {
    return {
      states: new Map(this.#states),
      sender: this.#stream.holder !== undefined && this.holds(this.#stream.holder),
    };
  }

  async replay(endpoint: string, position: string): Promise<void> {
    this.#replays.set(endpoint, position);
  }

  async trim(token: string, { keepMs, maxBytes, most = 1000, endpoints }: TrimOptions) {
    if (!this.holds(token)) return undefined;
    const sizeOf = (data: unknown) => JSON.stringify(data).length;
    const { events: all } = this.#stream;
    let bytes = all.reduce((sum, { data }) => sum + sizeOf(data) + overheadBytes, 0);
    let removed = 0;
    let reason: "age" | "size" = "age";
    for (const { timeMs, data } of all.slice(0, most)) {
      if (timeMs >= this.#now() - keepMs) {
        if (bytes <= maxBytes) break;
        reason = "size";
      }
      bytes -= sizeOf(data) + overheadBytes;
      removed++;
    }
    const gone = all.splice(0, removed);
    this.#removed = gone.at(-1)?.position ?? this.#removed;
    for (const [endpoint, wanted] of endpoints) {
      const position = this.#states.get(endpoint)?.position ?? beginning;
      const lost = gone.filter((event) =>
        comparePositions(event.position, position) > 0 && isWanted(event, { ...wanted, endpoint })
      );
      const [first, last] = [lost[0], lost.at(-1)];
      if (first === undefined || last === undefined) continue;
      // What a gap says that nobody was told is said by the next one.
      const said = lost.map(({ kind, data }): EventData<"hooks.gap"> | undefined =>
        kind === "hooks.gap" ? data as EventData<"hooks.gap"> : undefined
      );
      const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
      this.#stream.add("hooks.gap", "hooks:", {
        ...{ reason, reset: false, endpoint },
        count: sum(said.map((gap) => gap?.count ?? 1)),
        bytes: sum(lost.map(({ data }, i) => said[i]?.bytes ?? sizeOf(data))),
        ...{ fromMs: said[0]?.fromMs ?? first.timeMs, toMs: last.timeMs },
      });
    }
    return { removed, more: removed === most };
  }

  #behind(position: string): HookEvent[] {
    const { events } = this.#stream;
    const from = events.findIndex((event) => comparePositions(event.position, position) > 0);
    return from < 0 ? [] : events.slice(from);
  }
}
