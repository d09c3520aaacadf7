/**
 * The tokens between the business system, ticket and spear. token1 says which user a client is. token2 says that ticket
 * has admitted the user. This file runs wherever ticket or spear runs: Web APIs only.
 */
import { type Scheme, secretsOf } from "./auth_rules.ts";
import { everything } from "./rights.ts";
import type { Issuer, Verifier } from "./scheme.ts";
import { gruIssuer, gruVerifier } from "./token_gru.ts";
import type { Token1Config } from "./token1.ts";
import { type AskAdmission, hookIssuer } from "./token_hook.ts";
import { jwtIssuer, jwtVerifier } from "./token_jwt.ts";

export { hasSignedToken2 } from "./auth_rules.ts";
export { allows, isPattern } from "./rights.ts";
export { type Claims, type Entry, type Issuer, TokenError, type Verifier } from "./scheme.ts";

/** The parts of ticket's `auth` that tokens need. The secrets of the chosen scheme must be set. */
export interface IssuerConfig {
  readonly scheme: Scheme;
  readonly saltToTicket?: string | undefined;
  readonly saltToSpear?: string | undefined;
  readonly token1: Token1Config;
  /** Several are separated by commas: the first one signs, all are accepted. */
  readonly token2Secret?: string | undefined;
  readonly token2Ms: number;
  readonly rightsMs: number;
}

/** @param ask scheme hook: asks the business system */
export function issuer(
  config: IssuerConfig,
  now: () => number = Date.now,
  ask?: AskAdmission,
): Issuer {
  switch (config.scheme) {
    case "open":
      return openIssuer;
    case "gru":
      return gruIssuer(config.saltToTicket ?? "", config.saltToSpear ?? "");
    case "jwt":
      return jwtIssuer({ ...config, token2Secrets: secretsOf(config) }, now);
    case "hook":
      if (ask === undefined) throw new TypeError("scheme hook: nobody to ask");
      return hookIssuer({ ...config, token2Secrets: secretsOf(config) }, ask, now);
  }
}

export interface VerifierConfig {
  readonly scheme: Scheme;
  readonly saltToSpear?: string | undefined;
  readonly token2Secret?: string | undefined;
  readonly skewMs: number;
}

/** @param node the spear's name */
export function verifier(
  config: VerifierConfig,
  node: string,
  now: () => number = Date.now,
): Verifier {
  switch (config.scheme) {
    case "open":
      return openVerifier;
    case "gru":
      return gruVerifier(config.saltToSpear ?? "");
    case "jwt":
    case "hook":
      return jwtVerifier({ node, skewMs: config.skewMs, token2Secrets: secretsOf(config) }, now);
  }
}

/** Accepts every user and grants every right. token2 is a fixed word, because clients expect one. */
const openIssuer: Issuer = {
  bindsNodes: false,
  admit: async ({ userId = "", userName = "", appType = "" }) => ({
    userId,
    userName,
    appType,
    rights: everything,
  }),
  issue: async () => ({ token: "open" }),
};

const openVerifier: Verifier = {
  check: async ({ userId, userName, appType }, _token1, token2) => ({
    grant: { userId, userName, appType, rights: everything },
    token2,
  }),
  resume: async () => undefined,
  pass: async ({ token2 = "open" }) => token2,
  onceOf: () => undefined,
};
