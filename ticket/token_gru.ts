/**
 * The scheme of the old Gru: salted MD5. Its tokens never expire and grant every right. For clients that know no other
 * scheme.
 */
import { md5 } from "@noble/hashes/legacy.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { everything } from "./rights.ts";
import { type Claims, type Issuer, TokenError, type Verifier } from "./scheme.ts";

export function gruIssuer(saltToTicket: string, saltToSpear: string): Issuer {
  return {
    bindsNodes: false,
    admit: async ({ userId = "", userName = "", appType = "" }, token1) => {
      const claims = { userId, userName, appType };
      if (!equal(token1, gruToken(sourceOf(claims), saltToTicket))) {
        throw new TokenError("it does not belong to this user");
      }
      return { ...claims, rights: everything };
    },
    issue: async (grant, token1) => ({ token: token2Of(grant, token1, saltToSpear) }),
  };
}

export function gruVerifier(saltToSpear: string): Verifier {
  return {
    check: async (claims, token1, token2) => {
      if (!equal(token2, token2Of(claims, token1, saltToSpear))) {
        throw new TokenError("it does not belong to this user");
      }
      const { userId, userName, appType } = claims;
      return { grant: { userId, userName, appType, rights: everything }, token2 };
    },
    resume: async () => undefined,
    // The token is valid at all nodes.
    pass: async (entry) => entry.token2 ?? "",
    onceOf: () => undefined,
  };
}

/** `md5hex(source + "_" + salt)`; "" for a blank source or salt. */
export function gruToken(source: string, salt: string): string {
  if (source.trim() === "" || salt.trim() === "") return "";
  return bytesToHex(md5(utf8ToBytes(`${source}_${salt}`)));
}

function token2Of(claims: Claims, token1: string, saltToSpear: string): string {
  return gruToken(`${sourceOf(claims)}_${token1}`, saltToSpear);
}

function sourceOf({ userId, userName, appType }: Claims): string {
  return `${userId}_${userName}_${appType}`;
}

/** Compares in constant time. "" equals nothing, so a missing salt accepts no token. */
function equal(given: string, expected: string): boolean {
  if (expected === "" || given.length !== expected.length) return false;
  let difference = 0;
  for (let i = 0; i < expected.length; i++) {
    difference |= given.charCodeAt(i) ^ expected.charCodeAt(i);
  }
  return difference === 0;
}
