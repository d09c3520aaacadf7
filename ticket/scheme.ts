/** What a token scheme does, for ticket and for spear. Schemes: token_open.ts, token_gru.ts and token_jwt.ts. */
import type { Rights } from "./rights.ts";

/** Who a token speaks of; the empty string where a client left one out. */
export interface Claims {
  readonly userId: string;
  readonly userName: string;
  readonly appType: string;
}

/** Who comes in, and what for. */
export interface Grant extends Claims {
  readonly rights: Rights;
  /** Unix milliseconds; undefined: they stand for ever. */
  readonly rightsUntil?: number;
}

export interface Token {
  readonly token: string;
  /** Unix milliseconds; undefined: it does not expire. */
  readonly expiresAt?: number;
}

/** ticket's side. */
export interface Office {
  /** token2 lets in at the nodes it was issued for only; else at all. */
  readonly bindsNodes: boolean;
  /** @throws {TokenError} when token1 is not valid, or belongs to somebody else than these claims. */
  admit(claims: Partial<Claims>, token1: string): Promise<Grant>;
  /** token2: lets the user in at these nodes. */
  issue(grant: Grant, token1: string, nodes: readonly string[]): Promise<Token>;
}

export interface Entry {
  /** As it was given, where it may be given again. */
  readonly token2?: string;
  readonly grant: Grant;
  /** The nodes that the token lets in at; undefined: all. */
  readonly nodes?: readonly string[];
  /** The token lets in once: to be remembered until `until` (Unix milliseconds). */
  readonly once?: { readonly id: string; readonly until: number };
}

/** spear's side. */
export interface Door {
  /** @throws {TokenError} when the tokens do not let these claims in at this node. */
  check(claims: Claims, token1: string, token2: string): Promise<Entry>;
  /** A token2 to come back with, here or to the backups, while the rights stand; undefined: this scheme has none. */
  resume(entry: Entry): Promise<Token | undefined>;
  /** A token2 for these nodes, to be used within `lifeMs` or a little later. */
  pass(entry: Entry, nodes: readonly string[], lifeMs: number): Promise<string>;
}

/** A token is refused. The message says why and holds nothing of the token but names of claims. */
export class TokenError extends Error {
  override readonly name = "TokenError";
}
