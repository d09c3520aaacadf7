/** The profile's `auth` of ticket and of spear: what both have, and what makes either refuse to start. */
import { z } from "zod";
import { profileName, secret } from "@gru/shared/config";
import { checkSpearAuth, checkTicketAuth, type Complain } from "./auth_rules.ts";

const shape = {
  profile: profileName(),
  scheme: z.enum(["jwt", "gru", "open"]).default("jwt").describe(
    "jwt: JSON Web Tokens; gru: the salted MD5 of Gru's clients; open: tokens are not looked at",
  ),
  gruAllowed: z.boolean().default(false)
    .describe("scheme gru may be used: its tokens never expire and give every right"),
  saltToSpear: secret("GRU_SALT_TOSPEAR").describe("scheme gru: the salt of token2"),
  token2Secret: secret("GRU_TOKEN2_SECRET").describe(
    "scheme jwt: signs token2; 32 characters or more; several divided by commas: the first signs",
  ),
};
const skewMs = z.int().min(0).max(300_000).default(5000)
  .describe("scheme jwt: how much the clocks of those who make and check tokens may differ");

export const ticketAuth = z.strictObject({
  ...shape,
  saltToTicket: secret("GRU_SALT_TOTICKET").describe("scheme gru: the salt of token1"),
  token1: z.strictObject({
    secret: secret("GRU_TOKEN1_SECRET").describe("scheme jwt: the secret of token1, HS256"),
    publicKey: secret("GRU_TOKEN1_PUBLIC_KEY")
      .describe("scheme jwt: the public key of token1 (PEM), RS256 or ES256"),
    jwks: z.url({ protocol: /^https?$/ }).optional()
      .describe("scheme jwt: where the public keys of token1 are (a JSON Web Key Set)"),
    issuer: z.string().min(1).optional().describe("scheme jwt: iss of token1"),
    audience: z.string().min(1).optional().describe("scheme jwt: aud of token1"),
    skewMs,
  }).default({ skewMs: 5000 }),
  token2Ms: z.int().min(1000).max(600_000).default(30_000)
    .describe("scheme jwt: how long token2 may be used"),
  rightsMs: z.int().min(1000).max(86_400_000).default(3_600_000)
    .describe("scheme jwt: how long rights stand at most before a client must ask again"),
}).superRefine((auth, context) => checkTicketAuth(auth, complainTo(context)));

export const spearAuth = z.strictObject({
  ...shape,
  skewMs,
  refreshMs: z.int().min(100).max(3_600_000).default(60_000).describe(
    "scheme jwt: so long before a client's rights end it is asked to bring new ones",
  ),
}).superRefine((auth, context) => checkSpearAuth(auth, complainTo(context)));

function complainTo(context: z.core.$RefinementCtx): Complain {
  return (path, message) => context.addIssue({ code: "custom", path, message });
}
