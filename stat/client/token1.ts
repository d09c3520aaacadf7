/** token1 of the scheme `jwt`, as a business system issues it. Runs wherever JavaScript runs. */
import { importPKCS8, SignJWT } from "jose";

/** Ids (`10`, `"lobby"`), ranges that include both ends (`[100, 199]`), prefixes (`"room:*"`, `"*"`). */
export type Ids = readonly (number | string | readonly [from: number, to: number])[];

export interface Token1Options {
  /** A private key on P-256 as PEM of PKCS 8 (ES256), or any other text: the secret `GRU_TOKEN1_SECRET` (HS256). */
  readonly key: string;
  /** The user's id. */
  readonly user: number | string;
  readonly name?: string;
  readonly app?: string;
  /** Groups to join, list and send to, or each separately. Default: none. */
  readonly groups?: Ids | { readonly listen?: Ids; readonly send?: Ids };
  /** Users to send to. Default: all. */
  readonly users?: Ids;
  /** Users with the same one belong on the same node. */
  readonly affinity?: number | string;
  /** How long it is good. Default 10. */
  readonly minutes?: number;
  /** Where ticket's profile has `auth.token1.issuer` and `auth.token1.audience`. */
  readonly issuer?: string;
  readonly audience?: string;
}

/** @throws {TypeError} when the PEM holds no such key */
export async function token1(options: Token1Options): Promise<string> {
  const { key, user, name, app, groups, users, affinity, minutes = 10, issuer, audience } = options;
  const isPem = key.startsWith("-----BEGIN ");
  const token = new SignJWT({ name, app, groups, users, affinity })
    .setProtectedHeader({ alg: isPem ? "ES256" : "HS256" }).setSubject(`${user}`).setIssuedAt()
    .setExpirationTime(`${minutes} minutes`);
  if (issuer !== undefined) token.setIssuer(issuer);
  if (audience !== undefined) token.setAudience(audience);
  return await token.sign(
    isPem ? await importPKCS8(key, "ES256") : new TextEncoder().encode(key),
  );
}

/** @param list as in a command: `10,lobby,room:*` */
export function idsIn(list: string): Ids {
  return list.split(",").map((id) => /^\d+$/.test(id) ? Number(id) : id);
}
