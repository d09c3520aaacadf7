/** What goes wrong, as one class: a code to act on, a message to read, and whether the same may work later. */

/**
 * - `invalid`: an argument is not what is expected; the message names it and the value.
 * - `unauthorized`: the token is not valid, and asking for another one did not help.
 * - `refused`: the cluster does not do this for this user, e.g. no right to the group.
 * - `kicked`: an operator ended the connection, or took the user out of the group. `banned`: it may not return before `until`.
 * - `unreachable`: the connection to ticket or to a node failed. `unavailable`: it did not answer, or that it cannot now.
 * - `busy`: too much at once; see `retryAfterMs`.
 * - `outbox-full`: more messages wait to be sent than `outbox` allows.
 * - `overflow`: an iteration was read too slowly and has lost messages.
 * - `storage`: the storage did not take what should survive a reload.
 * - `closed`: `close()` was called.
 */
export type GruErrorCode =
  | "invalid"
  | "unauthorized"
  | "refused"
  | "kicked"
  | "banned"
  | "unreachable"
  | "unavailable"
  | "busy"
  | "outbox-full"
  | "overflow"
  | "storage"
  | "closed";

export interface GruErrorDetails {
  /** Of `send`: an earlier attempt was not answered, so the message may have been accepted all the same. */
  readonly inDoubt?: boolean;
  /** When it is worth trying again, in milliseconds from then. */
  readonly retryAfterMs?: number | undefined;
  /** Of a ban: its end, Unix milliseconds. */
  readonly until?: number | undefined;
  readonly cause?: unknown;
}

const passing: readonly GruErrorCode[] = ["unreachable", "unavailable", "busy", "outbox-full"];

export class GruError extends Error implements GruErrorDetails {
  override readonly name = "GruError";
  readonly code: GruErrorCode;
  /** The same may succeed later. */
  readonly retryable: boolean;
  declare readonly inDoubt?: boolean;
  declare readonly retryAfterMs?: number | undefined;
  declare readonly until?: number | undefined;

  constructor(code: GruErrorCode, message: string, details?: GruErrorDetails) {
    super(message);
    this.code = code;
    this.retryable = passing.includes(code);
    Object.assign(this, details);
  }
}
