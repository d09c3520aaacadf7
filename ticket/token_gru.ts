/** Gru's own scheme: salted MD5. Tokens are for ever and for everything; for clients that know no other. */
import { md5 } from "@noble/hashes/legacy.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { everything } from "./rights.ts";
import { type Claims, type Door, type Office, TokenError } from "./scheme.ts";

export function gruOffice(saltToTicket: string, saltToSpear: string): Office {
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

export function gruDoor(saltToSpear: string): Door {
  return {
    check: async (claims, token1, token2) => {
      if (!equal(token2, token2Of(claims, token1, saltToSpear))) {
        throw new TokenError("it does not belong to this user");
      }
      const { userId, userName, appType } = claims;
      return { grant: { userId, userName, appType, rights: everything }, token2 };
    },
    resume: async () => undefined,
    // It is for all nodes.
    pass: async (entry) => entry.token2 ?? "",
  };
}

/** `md5hex(source + "_" + salt)`; a blank source or salt gives "". */
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

/** Takes the same time wherever the two differ. "" equals nothing: a missing salt opens no door. */
function equal(given: string, expected: string): boolean {
  if (expected === "" || given.length !== expected.length) return false;
  let difference = 0;
  for (let i = 0; i < expected.length; i++) {
    difference |= given.charCodeAt(i) ^ expected.charCodeAt(i);
  }
  return difference === 0;
}
