/**
 * The tokens between the business system, ticket and spear. token1 says who a user is, token2 that ticket has let
 * the user in. This file runs wherever ticket or spear does: Web APIs only.
 */
import { md5 } from "@noble/hashes/legacy.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { z } from "zod";

/** Who a token speaks of; the empty string where a client left one out. */
export interface Claims {
  readonly userId: string;
  readonly userName: string;
  readonly appType: string;
}

/** How tokens are made and checked; ticket uses the first two, spear the third. */
export interface TokenScheme {
  /** Does token1 belong to these claims? */
  acceptsToken1(claims: Claims, token1: string): Promise<boolean>;
  issueToken2(claims: Claims, token1: string): Promise<string>;
  acceptsToken2(claims: Claims, token1: string, token2: string): Promise<boolean>;
}

/** A profile's `auth`; a program adds the secrets that it needs. */
export const schemeNames = z.enum(["gru", "open"]).describe(
  "gru: the salted MD5 of Gru's clients; open: tokens are not looked at",
);

export interface SchemeConfig {
  readonly scheme: z.output<typeof schemeNames>;
  readonly saltToTicket?: string | undefined;
  readonly saltToSpear?: string | undefined;
}

export function tokenScheme(config: SchemeConfig): TokenScheme {
  return config.scheme === "open"
    ? openScheme()
    : gruScheme(config.saltToTicket ?? "", config.saltToSpear ?? "");
}

/** Everybody comes in; token2 is a word so that clients find one. */
function openScheme(): TokenScheme {
  return {
    acceptsToken1: async () => true,
    issueToken2: async () => "open",
    acceptsToken2: async () => true,
  };
}

function gruScheme(saltToTicket: string, saltToSpear: string): TokenScheme {
  const token1Of = (claims: Claims) => gruToken(sourceOf(claims), saltToTicket);
  const token2Of = (claims: Claims, token1: string) =>
    gruToken(`${sourceOf(claims)}_${token1}`, saltToSpear);
  return {
    acceptsToken1: async (claims, token1) => equal(token1, token1Of(claims)),
    issueToken2: async (claims, token1) => token2Of(claims, token1),
    acceptsToken2: async (claims, token1, token2) => equal(token2, token2Of(claims, token1)),
  };
}

/** `md5hex(source + "_" + salt)`; a blank source or salt gives "". */
export function gruToken(source: string, salt: string): string {
  if (source.trim() === "" || salt.trim() === "") return "";
  return bytesToHex(md5(utf8ToBytes(`${source}_${salt}`)));
}

function sourceOf({ userId, userName, appType }: Claims): string {
  return `${userId}_${userName}_${appType}`;
}

/** Takes the same time wherever the two differ. "" equals nothing: a missing salt opens no door. */
function equal(given: string, expected: string): boolean {
  if (expected === "" || given.length !== expected.length) return false;
  let difference = 0;
  for (let i = 0; i < expected.length; i++) {
    difference |= given.charCodeAt(i) ^ expected.charCodeAt(i);
  }
  return difference === 0;
}
