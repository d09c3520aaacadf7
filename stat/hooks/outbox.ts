/**
 * The port of the events that wait to be sent. One stat holds the lease and sends; all can read. Engines:
 * `outbox_redis.ts`, `outbox_memory.ts`; both pass `outbox_conformance.ts`.
 */
import type { HookEvent } from "./event.ts";
import type { Wanted } from "./wanted.ts";

/** Before the first event. */
export const beginning = "0-0";

export interface EventPage {
  /** In their order. */
  readonly events: readonly HookEvent[];
  /** Where the next page begins: the last position that was looked at. */
  readonly last: string;
  /** The last event that was ever removed: a reader that stands before it has a gap. */
  readonly removed: string;
}

/** How far an endpoint is; written by the holder of the lease, for everybody to read. */
export interface EndpointState {
  /** All events up to here are delivered, or not for this endpoint. */
  readonly position: string;
  readonly state: "delivering" | "failing" | "resting" | "gone";
  readonly delivered: number;
  /** Requests that were not answered with success. */
  readonly failed: number;
  /** Events that are on their way or wait for a repetition. */
  readonly waiting: number;
  /** How old the oldest of these is, milliseconds. */
  readonly lagMs: number;
  readonly lastError?: { readonly atMs: number; readonly message: string };
}

export interface TrimOptions {
  /** Milliseconds. */
  readonly keepMs: number;
  /** Memory that all events may take. */
  readonly maxBytes: number;
  /** Events that one call removes at most. Default 1000. */
  readonly most?: number;
  /** What each endpoint gets. */
  readonly endpoints: ReadonlyMap<string, Omit<Wanted, "endpoint">>;
}

/** Every method rejects with an `RpcError` of code `unavailable`; it can be called again then. */
export interface Outbox {
  /**
   * Takes the lease, or keeps it.
   * @param held the token that the caller has
   * @returns the token; undefined while another stat holds the lease
   */
  lease(held: string | undefined, ttlMs: number): Promise<string | undefined>;

  release(token: string): Promise<void>;

  read(after: string, limit: number): Promise<EventPage>;

  /** The position of the newest event, also of one that was removed. */
  newest(): Promise<string>;

  /**
   * Keeps the states of endpoints.
   * @returns from where endpoints are to send again; undefined: another stat holds the lease, and nothing was kept
   */
  keep(
    token: string,
    states: ReadonlyMap<string, EndpointState>,
  ): Promise<ReadonlyMap<string, string> | undefined>;

  /** `sender`: a stat holds the lease. */
  states(): Promise<{
    readonly states: ReadonlyMap<string, EndpointState>;
    readonly sender: boolean;
  }>;

  /** The stat that holds the lease sends again to this endpoint what comes after the position. */
  replay(endpoint: string, position: string): Promise<void>;

  /**
   * Removes events that are too old or too much, and adds `hooks.gap` for each endpoint that did not have some of them.
   * @returns how many, and whether to call again; undefined: another stat holds the lease
   */
  trim(
    token: string,
    options: TrimOptions,
  ): Promise<{ readonly removed: number; readonly more: boolean } | undefined>;
}
