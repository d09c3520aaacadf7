/** The part of the profile named `auth`, for ticket and spear, and the rules that make them refuse to start. */
import { z } from "zod";
import { profileName, secret } from "@gru/shared/config";
import type { Claim } from "@gru/shared/agreement";
import {
  checkSpearAuth,
  checkTicketAuth,
  hasSignedToken2,
  type ReportProblem,
  schemes,
  secretsOf,
  type SharedAuth,
} from "./auth_rules.ts";

const shape = {
  profile: profileName(),
  scheme: z.enum(schemes).default("jwt").describe(
    "jwt: JSON Web Tokens; hook: the business system is asked who a client is; gru: the salted MD5 of Gru's clients; open: tokens are not verified",
  ),
  gruAllowed: z.boolean().default(false)
    .describe("true: scheme gru may be used, whose tokens never expire and give every right"),
  saltToSpear: secret("GRU_SALT_TOSPEAR").describe("scheme gru: the salt of token2"),
  token2Secret: secret("GRU_TOKEN2_SECRET").describe(
    "schemes jwt and hook: signs token2; 32 characters or more; several divided by commas: the first signs, all are accepted",
  ),
};
const skewMs = z.int().min(0).max(300_000).default(5000)
  .describe("scheme jwt: milliseconds by which the clocks of issuers and verifiers may differ");

export const ticketAuth = z.strictObject({
  ...shape,
  saltToTicket: secret("GRU_SALT_TOTICKET").describe("scheme gru: the salt of token1"),
  token1: z.strictObject({
    secret: secret("GRU_TOKEN1_SECRET").describe("scheme jwt: the secret of token1, HS256"),
    publicKey: secret("GRU_TOKEN1_PUBLIC_KEY", { lines: true })
      .describe("scheme jwt: the public key of token1 (PEM), RS256 or ES256"),
    jwks: z.url({ protocol: /^https?$/ }).optional()
      .describe("scheme jwt: the URL of the public keys of token1 (a JSON Web Key Set)")
      .meta({ whenMissing: "none" }),
    issuer: z.string().min(1).optional().describe(
      "scheme jwt: the iss that token1 must have; required with jwks",
    )
      .meta({ whenMissing: "any" }),
    audience: z.string().min(1).optional().describe(
      "scheme jwt: the aud that token1 must have; required with jwks",
    )
      .meta({ whenMissing: "any" }),
    skewMs,
  }).prefault({}),
  admission: z.strictObject({
    url: z.string().optional().describe(
      "scheme hook: the URL of the business system that says who a client is",
    ).meta({ whenMissing: "none" }),
    secret: secret("GRU_ADMISSION_SECRET").describe(
      "scheme hook: signs the questions, whsec_ and base64; several divided by commas: all sign",
    ),
    deadlineMs: z.int().min(10).max(30_000).default(1000)
      .describe("scheme hook: milliseconds that an answer may take"),
    underWay: z.int().min(1).max(100_000).default(1000)
      .describe("scheme hook: questions that may be under way at a time; more clients are refused"),
    allowPrivate: z.boolean().default(false)
      .describe("scheme hook: true: the URL may lead into a private network or to this machine"),
  }).prefault({}),
  token2Ms: z.int().min(1000).max(600_000).default(30_000)
    .describe("schemes jwt and hook: milliseconds for which token2 may be used"),
  rightsMs: z.int().min(1000).max(86_400_000).default(3_600_000)
    .describe(
      "schemes jwt and hook: milliseconds after which a client must renew its rights at the latest",
    ),
}).superRefine((auth, context) => checkTicketAuth(auth, reportTo(context)))
  .prefault({}).meta({ unknownKeys: "refuse" });

export const spearAuth = z.strictObject({
  ...shape,
  skewMs,
  refreshMs: z.int().min(100).max(3_600_000).default(60_000).describe(
    "schemes jwt and hook: milliseconds before a client's rights end at which it is asked to renew them",
  ),
}).superRefine((auth, context) => checkSpearAuth(auth, reportTo(context)))
  .prefault({}).meta({ unknownKeys: "refuse" });

/** Where {@linkcode tokensClaim} is in `meta`. */
export const tokensKey = "tokens";

/** What ticket and spear must have alike, so that a spear accepts the tokens of ticket and of the other spears. */
export function tokensClaim(auth: SharedAuth): Claim {
  const { scheme, saltToSpear = "" } = auth;
  // A spear need not know how ticket came to admit a user.
  if (hasSignedToken2(scheme)) return { key: tokensKey, use: "jwt", secrets: secretsOf(auth) };
  return { key: tokensKey, use: scheme, secrets: scheme === "gru" ? [saltToSpear] : [] };
}

function reportTo(context: z.core.$RefinementCtx): ReportProblem {
  return (path, message) => context.addIssue({ code: "custom", path, message });
}
