/** The outbox in Redis: the stream that `lua/hooks.lua` describes, and a few keys beside it. */
import type { RedisCalls } from "../redis_calls.ts";
import { eventOf } from "./event.ts";
import type { EndpointState, EventPage, Outbox, TrimOptions } from "./outbox.ts";

type Entry = [position: string, fields: string[]];

export class RedisOutbox implements Outbox {
  readonly #calls: RedisCalls;
  readonly #lease: string;
  readonly #leases: string;
  readonly #events: string;
  readonly #hooks: string;
  readonly #states: string;
  readonly #replays: string;

  constructor(calls: RedisCalls) {
    this.#calls = calls;
    const { tag } = calls;
    this.#lease = `gru_stat_hooks_lease${tag}`;
    this.#leases = `gru_stat_hooks_leases${tag}`;
    this.#hooks = `gru_stat_hooks${tag}`;
    this.#events = `gru_stat_events${tag}`;
    this.#states = `gru_stat_hooks_states${tag}`;
    this.#replays = `gru_stat_hooks_replays${tag}`;
  }

  async lease(held: string | undefined, ttlMs: number): Promise<string | undefined> {
    const args = [held ?? "", ttlMs, crypto.randomUUID()];
    const keys = [this.#lease, this.#leases];
    const token = await this.#calls.call<string>("take the lease", "hookLease", keys, args);
    return token === "" ? undefined : token;
  }

  async release(token: string): Promise<void> {
    await this.#calls.call("give the lease back", "hookRelease", [this.#lease], [token]);
  }

  async read(after: string, limit: number): Promise<EventPage> {
    const [entries, removed] = await this.#calls.call<[Entry[], string]>(
      ...["read events", "hookRead", [this.#events, this.#hooks], [after, limit]] as const,
    );
    return {
      events: entries.flatMap(([position, fields]) => eventOf(position, fields) ?? []),
      last: entries.at(-1)?.[0] ?? after,
      removed,
    };
  }

  async newest(): Promise<string> {
    return await this.#calls.call<string>("read events", "hookNewest", [this.#events], []);
  }

  async keep(token: string, states: ReadonlyMap<string, EndpointState>) {
    const args = [...states].flatMap(([name, state]) => [name, JSON.stringify(state)]);
    const [result, requests = []] = await this.#calls.call<[string, string[]?]>(
      ...["keep the state of hooks", "hookState", [this.#states, this.#replays]] as const,
      [token, ...args],
    );
    return result === "fenced" ? undefined : mapOf(requests);
  }

  async states() {
    const [found, token] = await this.#calls.call<[string[], string]>(
      ...["read the state of hooks", "hookStates", [this.#states, this.#lease], []] as const,
    );
    const states = new Map<string, EndpointState>();
    for (const [name, text] of mapOf(found)) states.set(name, JSON.parse(text));
    return { states, sender: token !== "" };
  }

  async replay(endpoint: string, position: string): Promise<void> {
    const args = [endpoint, position];
    await this.#calls.call("ask for a repetition", "hookReplay", [this.#replays], args);
  }

  async trim(token: string, { keepMs, maxBytes, most = 1000, endpoints }: TrimOptions) {
    const wanted = [...endpoints].map(([name, { events, match }]) => [name, {
      ...(events && { kinds: Object.fromEntries(events.map((kind) => [kind, true])) }),
      ...(match && { match }),
    }]);
    const args = [token, keepMs, maxBytes, most, JSON.stringify(Object.fromEntries(wanted))];
    const [result, removed = 0, more = 0] = await this.#calls.call<[string, number?, number?]>(
      ...["remove old events", "hookTrim", [this.#states], args] as const,
    );
    return result === "fenced" ? undefined : { removed, more: more === 1 };
  }
}

function mapOf(flat: readonly string[]): Map<string, string> {
  const found = new Map<string, string>();
  for (let i = 0; i < flat.length; i += 2) found.set(flat[i] ?? "", flat[i + 1] ?? "");
  return found;
}
