/** The profile's `auth` of ticket and of spear: what both have, and what makes either refuse to start. */
import { z } from "zod";
import { profileName, secret } from "@gru/shared/config";

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
}).superRefine((auth, context) => {
  const complain = complainTo(context);
  checkShared(auth, complain);
  if (auth.scheme === "gru") checkSalt("saltToTicket", auth.saltToTicket, auth.profile, complain);
  if (auth.scheme !== "jwt") return;
  const { secret, publicKey, jwks, issuer, audience } = auth.token1;
  if ([secret, publicKey, jwks].filter((key) => key !== undefined).length !== 1) {
    complain(
      ["token1", "secret"],
      "scheme jwt wants one of GRU_TOKEN1_SECRET, GRU_TOKEN1_PUBLIC_KEY and auth.token1.jwks",
    );
  }
  if (secret !== undefined) {
    checkSecret(["token1", "secret"], secret, complain);
    if (auth.token2Secret?.split(",").includes(secret)) {
      complain(["token2Secret"], "must be another one than that of token1");
    }
  }
  if (jwks !== undefined && (issuer === undefined || audience === undefined)) {
    complain(["token1", "audience"], "a key set may serve others too: issuer and audience, please");
  }
});

export const spearAuth = z.strictObject({
  ...shape,
  skewMs,
  refreshMs: z.int().min(100).max(3_600_000).default(60_000).describe(
    "scheme jwt: so long before a client's rights end it is asked to bring new ones",
  ),
}).superRefine((auth, context) => checkShared(auth, complainTo(context)));

/** Everybody can read them in Gru's repository. */
const sampleSecrets = ["token_gen_for_ticket@sumory.com", "token_gen_for_spear@sumory.com"];

type Complain = (path: string[], message: string) => void;

function complainTo(context: z.core.$RefinementCtx): Complain {
  return (path, message) => context.addIssue({ code: "custom", path, message });
}

function checkShared(
  auth: z.output<z.ZodObject<typeof shape>>,
  complain: Complain,
): void {
  if (auth.scheme === "gru") {
    if (!auth.gruAllowed) {
      complain(["gruAllowed"], "scheme gru is for old clients only; set this to use it");
    }
    checkSalt("saltToSpear", auth.saltToSpear, auth.profile, complain);
  }
  if (auth.scheme !== "jwt") return;
  if (auth.token2Secret === undefined) complain(["token2Secret"], "scheme jwt wants this secret");
  for (const secret of auth.token2Secret?.split(",") ?? []) {
    checkSecret(["token2Secret"], secret, complain);
  }
}

function checkSalt(
  key: string,
  salt: string | undefined,
  profile: string,
  complain: Complain,
): void {
  if (salt === undefined) complain([key], "scheme gru wants this salt");
  else if (profile !== "dev" && sampleSecrets.includes(salt)) {
    complain([key], "is Gru's sample, which everybody knows; only the profile dev takes it");
  }
}

function checkSecret(path: string[], secret: string, complain: Complain): void {
  if (secret.length < 32) complain(path, "must have 32 characters or more");
}
