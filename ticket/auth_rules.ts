/** What makes settings of tokens too weak to start with, for ticket, for spear and at the edge. Knows no profiles. */
import type { Token1Config } from "./token1.ts";

/** Says what is wrong with the key at the end of the path. */
export type Complain = (path: string[], message: string) => void;

export interface SharedAuth {
  readonly scheme: "jwt" | "gru" | "open";
  readonly gruAllowed: boolean;
  readonly saltToSpear?: string | undefined;
  readonly token2Secret?: string | undefined;
  /** The profile's name. */
  readonly profile: string;
}

export interface TicketAuth extends SharedAuth {
  readonly saltToTicket?: string | undefined;
  readonly token1: Omit<Token1Config, "skewMs">;
}

/** Everybody can read them in Gru's repository. */
const sampleSecrets = ["token_gen_for_ticket@sumory.com", "token_gen_for_spear@sumory.com"];

export function checkSpearAuth(auth: SharedAuth, complain: Complain): void {
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

export function checkTicketAuth(auth: TicketAuth, complain: Complain): void {
  checkSpearAuth(auth, complain);
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
