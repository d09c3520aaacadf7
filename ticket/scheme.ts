/**
 * The interface of a token scheme, for ticket (issuer) and for spear (verifier). Schemes: token_open.ts, token_gru.ts
 * and token_jwt.ts.
 */
import type { Rights } from "./rights.ts";

/** The user that a token is for. A field is empty when the client left it out. */
export interface Claims {
  readonly userId: string;
  readonly userName: string;
  readonly appType: string;
}

/** The user and the rights that a token grants. */
export interface Grant extends Claims {
  readonly rights: Rights;
  /** Users with the same text belong on the same node; undefined: each where its id leads. */
  readonly affinity?: string;
  /** The end of the rights, Unix milliseconds; undefined: they never end. */
  readonly rightsUntil?: number;
}

export const expectedAffinity = "text of 1 to 128 characters";

export function isAffinity(value: unknown): value is string {
  return typeof value === "string" && /^.{1,128}$/su.test(value) && value.isWellFormed();
}

export interface Token {
  readonly token: string;
  /** Unix milliseconds; undefined: it does not expire. */
  readonly expiresAt?: number;
}

/** ticket's side: verifies token1 and issues token2. */
export interface Issuer {
  /** True: token2 is valid only at the nodes it was issued for. */
  readonly bindsNodes: boolean;
  /**
   * @throws {TokenError} when token1 is invalid, or belongs to another user than these claims say.
   * @throws {NotAdmittedError}
   * @throws AskError when the business system does not decide.
   */
  admit(claims: Partial<Claims>, token1: string): Promise<Grant>;
  /** Issues a token2 that is valid at these nodes. */
  issue(grant: Grant, token1: string, nodes: readonly string[]): Promise<Token>;
}

export interface Entry {
  /** The token2 as received, if the client may use it again. */
  readonly token2?: string;
  readonly grant: Grant;
  /** The nodes where the token is valid; undefined: all. */
  readonly nodes?: readonly string[];
  /** Set when the token is valid once: it must be remembered until `until` (Unix milliseconds). */
  readonly once?: Once;
  /**
   * When ticket issued the first token of this chain, Unix milliseconds on ticket's clock; every `resume` and `pass`
   * keeps it. A kick invalidates what was issued before it. Undefined: the scheme does not know.
   */
  readonly issuedAt?: number;
}

export interface Once {
  readonly id: string;
  readonly until: number;
}

/** spear's side: verifies token2 and issues tokens for reconnects. */
export interface Verifier {
  /** @throws {TokenError} when the tokens do not let this user in at this node. */
  check(claims: Claims, token1: string, token2: string): Promise<Entry>;
  /**
   * A token2 for a reconnect, at this node or at the backups, valid as long as the rights. Undefined: this scheme has
   * none.
   */
  resume(entry: Entry): Promise<Token | undefined>;
  /** A token2 for these nodes, valid for `lifeMs` or a little longer. */
  pass(entry: Entry, nodes: readonly string[], lifeMs: number): Promise<string>;
  /**
   * What must be remembered so that this valid token is rejected from now on. Undefined: this token may be used any
   * number of times.
   */
  onceOf(token: string): Once | undefined;
}

/** The business system does not let the client in. The message is what it says to the client. */
export class NotAdmittedError extends Error {
  override readonly name = "NotAdmittedError";
}

/** The token is rejected. The message says why. Of the token it contains only names of claims. */
export class TokenError extends Error {
  override readonly name = "TokenError";
}
