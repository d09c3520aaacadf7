/**
 * The tokens between the business system, ticket and spear. token1 says who a user is, token2 that ticket has let
 * the user in. This file runs wherever ticket or spear does: Web APIs only.
 */
import { everything } from "./rights.ts";
import type { Door, Office } from "./scheme.ts";
import { gruDoor, gruOffice } from "./token_gru.ts";
import type { Token1Config } from "./token1.ts";
import { jwtDoor, jwtOffice } from "./token_jwt.ts";

export { allows } from "./rights.ts";
export { type Claims, type Door, type Entry, type Office, TokenError } from "./scheme.ts";

/** The parts of ticket's `auth` that make tokens; secrets are there where the scheme wants them. */
export interface OfficeConfig {
  readonly scheme: "jwt" | "gru" | "open";
  readonly saltToTicket?: string | undefined;
  readonly saltToSpear?: string | undefined;
  readonly token1: Token1Config;
  /** Several, divided by commas: the first one signs, all are accepted. */
  readonly token2Secret?: string | undefined;
  readonly token2Ms: number;
  readonly rightsMs: number;
}

export function office(config: OfficeConfig, now: () => number = Date.now): Office {
  switch (config.scheme) {
    case "open":
      return openOffice;
    case "gru":
      return gruOffice(config.saltToTicket ?? "", config.saltToSpear ?? "");
    case "jwt":
      return jwtOffice({ ...config, token2Secrets: secretsOf(config) }, now);
  }
}

export interface DoorConfig {
  readonly scheme: "jwt" | "gru" | "open";
  readonly saltToSpear?: string | undefined;
  readonly token2Secret?: string | undefined;
  readonly skewMs: number;
}

/** @param node the spear's name */
export function door(config: DoorConfig, node: string, now: () => number = Date.now): Door {
  switch (config.scheme) {
    case "open":
      return openDoor;
    case "gru":
      return gruDoor(config.saltToSpear ?? "");
    case "jwt":
      return jwtDoor({ node, skewMs: config.skewMs, token2Secrets: secretsOf(config) }, now);
  }
}

function secretsOf({ token2Secret = "" }: { readonly token2Secret?: string | undefined }) {
  return token2Secret.split(",");
}

/** Everybody comes in and may do everything; token2 is a word so that clients find one. */
const openOffice: Office = {
  bindsNodes: false,
  admit: async ({ userId = "", userName = "", appType = "" }) => ({
    userId,
    userName,
    appType,
    rights: everything,
  }),
  issue: async () => ({ token: "open" }),
};

const openDoor: Door = {
  check: async ({ userId, userName, appType }, _token1, token2) => ({
    grant: { userId, userName, appType, rights: everything },
    token2,
  }),
  resume: async () => undefined,
  pass: async ({ token2 = "open" }) => token2,
};
