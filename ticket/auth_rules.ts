/**
 * Decides which token settings are too weak to start with, for ticket, for spear and at the edge. Knows no profiles.
 */
import { urlProblem } from "@gru/shared/webhooks/address";
import { secretsProblem } from "@gru/shared/webhooks/signature";
import type { Token1Config } from "./token1.ts";

/** Reports what is wrong with the key at the end of the path. */
export type ReportProblem = (path: string[], message: string) => void;

export const schemes = ["jwt", "hook", "gru", "open"] as const;
export type Scheme = typeof schemes[number];

/** True when ticket signs a token2 of its own, that spears verify with the same secret. */
export function hasSignedToken2(scheme: Scheme): boolean {
  return scheme === "jwt" || scheme === "hook";
}

export interface SharedAuth {
  readonly scheme: Scheme;
  readonly gruAllowed: boolean;
  readonly saltToSpear?: string | undefined;
  readonly token2Secret?: string | undefined;
  /** The profile's name. */
  readonly profile: string;
}

/** Scheme hook: where ticket asks. */
export interface AdmissionAuth {
  readonly url?: string | undefined;
  readonly secret?: string | undefined;
  readonly deadlineMs?: number | undefined;
  readonly underWay?: number | undefined;
  readonly allowPrivate?: boolean | undefined;
}

export interface TicketAuth extends SharedAuth {
  readonly saltToTicket?: string | undefined;
  readonly token1: Omit<Token1Config, "skewMs">;
  readonly admission: AdmissionAuth;
}

const pem = /^-----BEGIN PUBLIC KEY-----[A-Za-z\d+/=\s]+-----END PUBLIC KEY-----$/;

/** Published in the repository of the old Gru, so everybody can read them. */
const sampleSecrets = ["token_gen_for_ticket@sumory.com", "token_gen_for_spear@sumory.com"];

/** Several secrets are separated by commas, with or without spaces. */
export function secretsOf({ token2Secret }: Pick<SharedAuth, "token2Secret">): string[] {
  return token2Secret?.split(",").map((secret) => secret.trim()) ?? [];
}

export function checkSpearAuth(auth: SharedAuth, report: ReportProblem): void {
  if (auth.scheme === "gru") {
    if (!auth.gruAllowed) {
      report(["gruAllowed"], "scheme gru is for old clients only; set this to true to allow it");
    }
    checkSalt("saltToSpear", auth.saltToSpear, auth.profile, report);
  }
  if (!hasSignedToken2(auth.scheme)) return;
  if (auth.token2Secret === undefined) {
    report(["token2Secret"], `scheme ${auth.scheme} needs this secret`);
  }
  for (const secret of secretsOf(auth)) {
    checkSecret(["token2Secret"], secret, report);
  }
}

export function checkTicketAuth(auth: TicketAuth, report: ReportProblem): void {
  checkSpearAuth(auth, report);
  if (auth.scheme === "gru") checkSalt("saltToTicket", auth.saltToTicket, auth.profile, report);
  if (auth.scheme === "hook") checkAdmission(auth.admission, report);
  if (auth.scheme !== "jwt") return;
  const { secret, publicKey, jwks, issuer, audience } = auth.token1;
  if ([secret, publicKey, jwks].filter((key) => key !== undefined).length !== 1) {
    report(
      ["token1", "secret"],
      "scheme jwt needs exactly one of GRU_TOKEN1_SECRET, GRU_TOKEN1_PUBLIC_KEY and auth.token1.jwks",
    );
  }
  if (secret !== undefined) {
    checkSecret(["token1", "secret"], secret, report);
    if (secretsOf(auth).includes(secret)) {
      report(["token2Secret"], "must differ from the secret of token1");
    }
  }
  if (publicKey !== undefined && !pem.test(publicKey)) {
    report(
      ["token1", "publicKey"],
      publicKey.includes("PRIVATE KEY")
        ? "is a private key, with which anybody can be any user: it belongs to the business system alone; " +
          "expected its public part, PEM, -----BEGIN PUBLIC KEY-----"
        : "expected PEM, -----BEGIN PUBLIC KEY-----, and nothing else",
    );
  }
  if (jwks !== undefined && (issuer === undefined || audience === undefined)) {
    report(
      ["token1", "audience"],
      "a key set may sign for other audiences too: set auth.token1.issuer and auth.token1.audience",
    );
  }
}

function checkAdmission({ url, secret, allowPrivate }: AdmissionAuth, report: ReportProblem): void {
  const problem = url === undefined
    ? "scheme hook needs the URL that is asked"
    : urlProblem(url, allowPrivate ?? false);
  if (problem !== undefined) report(["admission", "url"], problem);
  const bad = secret === undefined ? "scheme hook needs this secret" : secretsProblem(secret);
  if (bad !== undefined) report(["admission", "secret"], bad);
}

function checkSalt(
  key: string,
  salt: string | undefined,
  profile: string,
  report: ReportProblem,
): void {
  if (salt === undefined) report([key], "scheme gru needs this salt");
  else if (profile !== "dev" && sampleSecrets.includes(salt)) {
    report([key], "is the published sample of the old Gru; only the profile dev accepts it");
  }
}

function checkSecret(path: string[], secret: string, report: ReportProblem): void {
  if (secret.length < 32) report(path, "must have 32 characters or more");
}
