/**
 * The port of what makes events: the store compares who is there with what was told, and adds what differs to the
 * stream. Engines: `telling_redis.ts`, `telling_memory.ts`; {@linkcode Teller} of `teller.ts` runs it.
 *
 * What was told is kept in a book beside the truth. Each change of the truth that differs from the book leaves a mark
 * within its own atomic step; a mark is removed, the book changed and the events added in one step, too. So no event
 * is lost, invented or doubled, and those of one subject alternate.
 *
 * Only the stat that holds the lease calls it, with the token of its lease.
 */
import type { TargetOfCommand } from "@gru/spear/contract";
import type { EventData, HookEvent } from "./event.ts";

export interface TellOptions {
  /** How long a user or member must be away before that is told, milliseconds. */
  readonly graceMs: number;
  /** Names that one call looks at, at most. Default 500. */
  readonly most?: number;
  /** A hook wants events of messages. Default false. */
  readonly messages?: boolean;
  /** Who calls: another one for each life of a program. */
  readonly caller: string;
}

export type Told =
  /** Another stat holds the lease. */
  | { readonly state: "fenced" }
  /** Data may be missing: not all nodes have reported since. */
  | { readonly state: "waiting" }
  /**
   * The newest events may be missing, or nothing was ever told here: `resume` is needed.
   * `caller`: who told last; "" when there is no book. `last`: the stream's last position.
   */
  | { readonly state: "doubt"; readonly caller: string; readonly last: string }
  /**
   * `more`: call again now. `nextMs`: when the next mark can be settled, undefined when there is none. `before`: the
   * stream's last position before this call, if another `caller` told before.
   */
  | {
    readonly state: "told";
    readonly added: number;
    readonly more: boolean;
    readonly nextMs: number | undefined;
    readonly before: string | undefined;
  };

/** A program that was told as live and is not any more, with the time of its start. */
export interface GoneNode {
  readonly name: string;
  readonly startedAt: number;
}

/** Where a target is, or how far its log was read. */
export interface TargetPosition {
  readonly target: TargetOfCommand;
  readonly epoch: string;
  readonly seq: number;
}

/** What was read behind a position of a target's log. */
export interface ReadLog {
  readonly from: TargetPosition;
  readonly to: Pick<TargetPosition, "epoch" | "seq">;
  /** Some in between are lost. */
  readonly lost: boolean;
  /** There are more behind `to`. */
  readonly more: boolean;
  readonly messages: readonly EventData<"message.accepted">[];
}

/** Every method rejects with an `RpcError` of code `unavailable`; it can be called again then. */
export interface Telling {
  /** Settles a bounded number of marks, and keeps hooks switched on for {@linkcode onForMs} more. */
  tell(token: string, options: TellOptions): Promise<Told>;

  /**
   * Begins a new book: adds `hooks.gap` with `reset: true`, and everybody who is present is told again.
   * False: another stat holds the lease.
   */
  reset(token: string, options: TellOptions): Promise<boolean>;

  /**
   * Adds these events under their own positions behind the stream's last one, as delivered before the server lost
   * them, and takes them into the book. False: another stat holds the lease.
   */
  resume(token: string, events: readonly HookEvent[], options: TellOptions): Promise<boolean>;

  /**
   * Tells which programs came and went since the last call, whichever stat made it.
   * @param live name → Unix milliseconds of its start
   * @param ends how programs that are gone have ended
   * @returns those that are gone and are not in `ends`: they are told by a further call that says how they ended
   */
  tellNodes(
    token: string,
    live: ReadonlyMap<string, number>,
    ends: ReadonlyMap<string, "left" | "died">,
  ): Promise<readonly GoneNode[]>;

  /**
   * A spear calls it, before it publishes to these targets: their logs are read from these positions on, or from where
   * they were read to, until {@linkcode activeMs} after the last call. Needs no lease.
   * @returns false: no hook wants messages
   */
  active(targets: readonly TargetPosition[]): Promise<boolean>;

  /** The targets whose logs should be read now, with the positions from which on. */
  unread(token: string, most: number): Promise<readonly TargetPosition[]>;

  /**
   * Adds `message.accepted` for each message, and `message.unattended` if nobody is in the target now. Does nothing if
   * the log was read from that position before.
   */
  tellMessages(token: string, read: ReadLog): Promise<void>;
}

/** For so long after the last publication was noted a target's log is read. */
export const activeMs = 60_000;
/** A log is read so often, and ten times as seldom when nothing is noted for long. */
export const readEveryMs = 500;

/** Hooks count as switched off, and what they keep is removed, when nobody has told anything for so long. */
export const onForMs = 86_400_000;
