/** What the stat that holds the lease does, again and again, so that events are made. */
import { comparePositions, type HookEvent } from "./event.ts";
import type { Telling, TellOptions } from "./telling.ts";

export interface Step {
  /** False: another stat holds the lease. */
  readonly holds: boolean;
  /** How many events were added. */
  readonly added: number;
  /** After how many milliseconds the next step is worth it; 0: now. */
  readonly nextMs: number;
}

export interface TellerOptions extends Omit<TellOptions, "caller" | "messages"> {
  /** Delivered events that are remembered. Default 10 000. */
  readonly remembered?: number;
  /** Makes events of messages; resolves to whether there are more now. Absent: no hook wants them. */
  readonly readMessages?: ((token: string) => Promise<boolean>) | undefined;
}

/** Marks are made at any time by any stat, so it looks at least this often. */
const lookMs = 200;

export class Teller {
  readonly #telling: Telling;
  readonly #options: TellOptions;
  readonly #readMessages: ((token: string) => Promise<boolean>) | undefined;
  /** What may have been delivered, ascending: a server that comes back older may lack it. */
  #seen: HookEvent[] = [];
  /** All events behind this position that may have been delivered are in `#seen`. Undefined: that is not known. */
  #from: string | undefined;
  readonly #most: number;

  constructor(telling: Telling, { remembered = 10_000, readMessages, ...options }: TellerOptions) {
    this.#telling = telling;
    this.#readMessages = readMessages;
    const messages = readMessages !== undefined;
    this.#options = { ...options, messages, caller: crypto.randomUUID() };
    this.#most = remembered;
  }

  /** Call it with all events that are read from the stream, in their order, before any of them is delivered. */
  saw(events: readonly HookEvent[]): void {
    for (const event of events) {
      const last = this.#seen.at(-1);
      if (last === undefined || comparePositions(event.position, last.position) > 0) {
        this.#seen.push(event);
      }
    }
    const forgotten = this.#seen.splice(0, Math.max(0, this.#seen.length - this.#most)).at(-1)
      ?.position;
    if (this.#from === undefined || forgotten === undefined) return;
    if (comparePositions(forgotten, this.#from) > 0) this.#from = forgotten;
  }

  /**
   * Adds events for what has changed.
   * @param token of the lease
   * @throws {RpcError} `unavailable`: try again
   */
  async step(token: string): Promise<Step> {
    const told = await this.#telling.tell(token, this.#options);
    if (told.state === "fenced") return { holds: false, added: 0, nextMs: lookMs };
    if (told.state === "waiting") return { holds: true, added: 0, nextMs: lookMs };
    if (told.state === "told") {
      if (told.before !== undefined) [this.#seen, this.#from] = [[], told.before];
      const isMore = await this.#readMessages?.(token) ?? false;
      const nextMs = told.more || isMore ? 0 : Math.min(told.nextMs ?? lookMs, lookMs);
      return { holds: true, added: told.added, nextMs };
    }
    const lost = told.caller === this.#options.caller ? this.#lostBehind(told.last) : undefined;
    const holds = lost === undefined
      ? await this.#telling.reset(token, this.#options)
      : await this.#telling.resume(token, lost, this.#options);
    return { holds, added: 0, nextMs: 0 };
  }

  /** Undefined: not all of them are remembered. */
  #lostBehind(last: string): HookEvent[] | undefined {
    if (this.#from === undefined || comparePositions(this.#from, last) > 0) return undefined;
    return this.#seen.filter(({ position }) => comparePositions(position, last) > 0);
  }
}
