/**
 * token1 of scheme jwt: the business system issues it, and this file verifies it with a shared secret or with public
 * keys.
 */
import { createLocalJWKSet, createRemoteJWKSet, errors, importSPKI, jwtVerify } from "jose";
import type { CryptoKey, JWTHeaderParameters, JWTPayload, JWTVerifyGetKey } from "jose";
import { expectedUserId, isUserId } from "@gru/spear/identifiers";
import { readRights, type Rights } from "./rights.ts";
import { type Claims, expectedAffinity, type Grant, isAffinity, TokenError } from "./scheme.ts";

export interface Token1Config {
  /** For HS256. With a secret, tokens signed by a key pair are rejected, and the other way round. */
  readonly secret?: string | undefined;
  /** RS256 or ES256: PEM, `-----BEGIN PUBLIC KEY-----`. */
  readonly publicKey?: string | undefined;
  /** RS256 or ES256: the address of a JSON Web Key Set. */
  readonly jwks?: string | undefined;
  readonly issuer?: string | undefined;
  readonly audience?: string | undefined;
  /** How much the clocks may differ. */
  readonly skewMs: number;
}

/** A longer token is rejected without being parsed. */
export const maxTokenLength = 16_384;

const keySets = {
  maxAgeMs: 600_000,
  /** The least time between two fetches of the key set, for an unknown key or after a failed fetch. */
  coolDownMs: 30_000,
  timeoutMs: 5000,
};

type KeySource = (
  header: JWTHeaderParameters,
  token: Parameters<JWTVerifyGetKey>[1],
) => Promise<CryptoKey>;

/** @throws {TypeError} when there is no key, or more than one. */
export function token1Checker(
  config: Token1Config,
  now: () => number,
): (claims: Partial<Claims>, token1: string) => Promise<Grant> {
  const { issuer, audience, skewMs } = config;
  const { algorithms, key } = keySource(config, now);

  async function payloadOf(token1: string): Promise<JWTPayload> {
    if (token1.length > maxTokenLength) throw new TokenError("it is too long");
    try {
      const { payload } = await jwtVerify(token1, key, {
        algorithms,
        ...(issuer === undefined ? {} : { issuer }),
        ...(audience === undefined ? {} : { audience }),
        clockTolerance: skewMs / 1000,
        requiredClaims: ["sub", "exp"],
        currentDate: new Date(now()),
      });
      return payload;
    } catch (error) {
      throw refusal(error);
    }
  }

  return async (claims, token1) => {
    const payload = await payloadOf(token1);
    for (const claim of ["exp", "iat", "nbf"] as const) {
      const value = payload[claim];
      // JSON can contain numbers that become Infinity when parsed; such a token would never expire.
      if (value !== undefined && !isTime(value)) throw wrongClaim(claim, expectedTime, value);
    }
    if (payload.iat !== undefined && payload.iat * 1000 > now() + skewMs) {
      throw new TokenError("it was issued in the future (claim iat)");
    }
    // jose's types promise a text here, but jose does not check it.
    const sub: unknown = payload.sub;
    const { exp = 0 } = payload;
    if (!isUserId(sub)) throw wrongClaim("sub", `${expectedUserId}, as text`, sub);
    const known = { userId: sub, userName: text(payload, "name"), appType: text(payload, "app") };
    const names = { userId: "sub", userName: "name", appType: "app" } as const;
    for (const key of ["userId", "userName", "appType"] as const) {
      if (claims[key] !== undefined && known[key] !== undefined && claims[key] !== known[key]) {
        throw new TokenError(`it belongs to another (claim ${names[key]})`);
      }
    }
    return {
      userId: sub,
      userName: known.userName ?? claims.userName ?? "",
      appType: known.appType ?? claims.appType ?? "",
      rights: rightsOf(payload),
      rightsUntil: exp * 1000,
      ...affinityOf(payload),
    };
  };
}

export const expectedTime = "seconds since 1970";

/** Seconds, up to the latest time that a `Date` can represent. */
export function isTime(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= 8.64e12;
}

/** @throws {TokenError} that names the claim. */
export function rightsOf({ groups, users }: JWTPayload): Rights {
  try {
    return readRights({ groups, users });
  } catch (error) {
    if (error instanceof TypeError) throw new TokenError(`claim ${error.message}`);
    throw error;
  }
}

/** @throws {TokenError} */
export function affinityOf({ affinity }: JWTPayload): Pick<Grant, "affinity"> {
  if (affinity === undefined) return {};
  if (isAffinity(affinity)) return { affinity };
  if (Number.isSafeInteger(affinity)) return { affinity: String(affinity) };
  throw wrongClaim("affinity", `${expectedAffinity}, or an integer`, affinity);
}

function text(payload: JWTPayload, claim: string): string | undefined {
  const value = payload[claim];
  if (value === undefined) return undefined;
  if (typeof value === "string" && value.length <= 256 && value.isWellFormed()) return value;
  if (Number.isSafeInteger(value)) return String(value);
  throw wrongClaim(claim, "text of at most 256 characters, or an integer", value);
}

/** The message goes to the bearer, who has the token anyway. It names only the kind of the value. */
export function wrongClaim(claim: string, expected: string, value: unknown): TokenError {
  const kind = value === undefined
    ? "nothing"
    : value === null
    ? "null"
    : Array.isArray(value)
    ? "a list"
    : typeof value === "object"
    ? "an object"
    : typeof value === "string"
    ? "another text"
    : `a ${typeof value}`;
  return new TokenError(`claim ${claim}: expected ${expected}, got ${kind}`);
}

/** The algorithm follows from the kind of key, never from the token. */
function keySource(
  { secret, publicKey, jwks }: Token1Config,
  now: () => number,
): { readonly algorithms: string[]; readonly key: KeySource } {
  const given = [secret, publicKey, jwks].filter((source) => source !== undefined);
  if (given.length !== 1) {
    throw new TypeError(
      `token1: expected one of a secret, a public key and a key set, got ${given.length}`,
    );
  }
  if (secret !== undefined) {
    const key = new HmacKey(secret);
    return { algorithms: ["HS256"], key: () => key.get() };
  }
  const algorithms = ["RS256", "ES256"];
  if (jwks !== undefined) return { algorithms, key: remoteKeys(new URL(jwks), now) };
  let imported: { alg: string; key: CryptoKey } | undefined;
  return {
    algorithms,
    key: async ({ alg }) => {
      imported ??= await importPublicKey(publicKey ?? "");
      if (alg !== imported.alg) throw new TokenError("its algorithm is not the key's");
      return imported.key;
    },
  };
}

/** @throws {TypeError} for a key that cannot verify any token. */
export async function importPublicKey(pem: string): Promise<{ alg: string; key: CryptoKey }> {
  for (const alg of ["RS256", "ES256"]) {
    let key;
    try {
      key = await importSPKI(pem, alg);
    } catch {
      continue; // The key is of another kind.
    }
    const { modulusLength = Infinity } = key.algorithm as { readonly modulusLength?: number };
    if (modulusLength >= 2048) return { alg, key };
    throw new TypeError(`token1: the public key has ${modulusLength} bits; expected 2048 or more`);
  }
  throw new TypeError("token1: the public key is neither of RSA nor of the curve P-256");
}

/** While the key set cannot be fetched, the known keys stay valid. */
function remoteKeys(url: URL, now: () => number): KeySource {
  const remote = createRemoteJWKSet(url, {
    cacheMaxAge: keySets.maxAgeMs,
    cooldownDuration: keySets.coolDownMs,
    timeoutDuration: keySets.timeoutMs,
  });
  let failedAt = -Infinity;
  return async (header, token) => {
    const known = remote.jwks();
    if (known !== undefined && now() < failedAt + keySets.coolDownMs) {
      return await createLocalJWKSet(known)(header, token);
    }
    try {
      return await remote(header, token);
    } catch (error) {
      if (known === undefined || isVerdict(error)) throw error;
      failedAt = now();
      return await createLocalJWKSet(known)(header, token);
    }
  };
}

function isVerdict(error: unknown): boolean {
  return error instanceof errors.JWKSNoMatchingKey ||
    error instanceof errors.JWKSMultipleMatchingKeys || error instanceof errors.JOSENotSupported;
}

/** Errors that the token's bearer may see. Other errors are ours, e.g. a key set that cannot be fetched. */
export function refusal(error: unknown): unknown {
  if (error instanceof errors.JWTExpired) return new TokenError("it has expired");
  if (error instanceof errors.JWTClaimValidationFailed) {
    return new TokenError(
      `claim ${error.claim} ${error.reason === "missing" ? "is missing" : "does not fit"}`,
    );
  }
  if (error instanceof errors.JOSEAlgNotAllowed) {
    return new TokenError("its algorithm is not allowed");
  }
  if (error instanceof errors.JWSSignatureVerificationFailed || isVerdict(error)) {
    return new TokenError("its signature is not valid");
  }
  if (error instanceof errors.JWTInvalid || error instanceof errors.JWSInvalid) {
    return new TokenError("it is not a token");
  }
  return error;
}

/** The key is imported once: importing it for each token would cost more than the signature check. */
export class HmacKey {
  readonly #secret: Uint8Array<ArrayBuffer>;
  #key: CryptoKey | undefined;

  constructor(secret: string) {
    this.#secret = new TextEncoder().encode(secret);
  }

  async get(): Promise<CryptoKey> {
    return this.#key ??= await crypto.subtle.importKey(
      "raw",
      this.#secret,
      { name: "HMAC", hash: "SHA-256" },
      false,
      ["sign", "verify"],
    );
  }
}
