/**
 * Scheme jwt. token2 is ticket's own JSON Web Token. It is bound to the user, the app, the rights and some nodes, is
 * valid for seconds and can be used once. Ticket and the spears share its secret. The spears issue such tokens too, for
 * clients that reconnect (`resume`) or are moved to another node.
 */
import { decodeJwt, errors, type JWTPayload, jwtVerify, SignJWT } from "jose";
import { expectedUserId, isUserId } from "@gru/spear/identifiers";
import { writeRights } from "./rights.ts";
import {
  type Entry,
  type Issuer,
  type Once,
  type Token,
  TokenError,
  type Verifier,
} from "./scheme.ts";
import {
  affinityOf,
  expectedTime,
  HmacKey,
  isTime,
  maxTokenLength,
  refusal,
  rightsOf,
  token1Checker,
  type Token1Config,
  wrongClaim,
} from "./token1.ts";

export interface JwtIssuerConfig {
  readonly token1: Token1Config;
  /** The first one signs, all are accepted, so that secrets can be rotated. */
  readonly token2Secrets: readonly string[];
  readonly token2Ms: number;
  /** Rights end with token1, or after this time, whichever is earlier. */
  readonly rightsMs: number;
}

export interface JwtVerifierConfig {
  readonly token2Secrets: readonly string[];
  /** This spear's name. */
  readonly node: string;
  readonly skewMs: number;
}

/** The token's type, so that no other token with the same secret passes for a token2. */
const type = "gru-token2+jwt";

export function jwtIssuer(
  { token1, ...config }: JwtIssuerConfig,
  now: () => number = Date.now,
): Issuer {
  return signingIssuer(token1Checker(token1, now), config, now);
}

/** @param check who the client is, and for how long its rights hold at most */
export function signingIssuer(
  check: Issuer["admit"],
  config: Omit<JwtIssuerConfig, "token1">,
  now: () => number,
): Issuer {
  const signer = new Signer(config.token2Secrets, now);
  return {
    bindsNodes: true,
    admit: async (claims, token1) => {
      const grant = await check(claims, token1);
      return {
        ...grant,
        rightsUntil: Math.min(grant.rightsUntil ?? Infinity, now() + config.rightsMs),
      };
    },
    issue: (grant, _token1, nodes) =>
      signer.sign({ grant, issuedAt: now() }, nodes, config.token2Ms),
  };
}

export function jwtVerifier(config: JwtVerifierConfig, now: () => number = Date.now): Verifier {
  const { node, skewMs } = config;
  const signer = new Signer(config.token2Secrets, now);
  return {
    check: async ({ userId, userName, appType }, _token1, token2) => {
      const entry = await signer.read(token2, skewMs);
      const { grant, nodes } = entry;
      if (grant.userId !== userId) throw new TokenError("it belongs to another user");
      // Old clients may leave these fields out.
      if (userName !== "" && grant.userName !== userName) {
        throw new TokenError("it belongs to another user name");
      }
      if (appType !== "" && grant.appType !== appType) {
        throw new TokenError("it belongs to another app");
      }
      if (!nodes.includes(node)) throw new TokenError("it is for other nodes");
      return entry;
    },
    resume: (entry) => signer.sign(entry, entry.nodes ?? [node], Infinity),
    pass: async (entry, nodes, lifeMs) => (await signer.sign(entry, nodes, lifeMs)).token,
    onceOf: (token) => {
      const { jti = "", exp = 0 } = decodeJwt(token);
      return onceOf(jti, exp, skewMs);
    },
  };
}

class Signer {
  readonly #keys: readonly HmacKey[];
  readonly #now: () => number;

  constructor(secrets: readonly string[], now: () => number) {
    this.#keys = secrets.map((secret) => new HmacKey(secret));
    this.#now = now;
  }

  /** The token never outlives the rights. */
  async sign(
    { grant, issuedAt = this.#now() }: Pick<Entry, "grant" | "issuedAt">,
    nodes: readonly string[],
    lifeMs: number,
  ): Promise<Token> {
    const { userId, userName, appType, rights, rightsUntil = 0, affinity } = grant;
    const expiresAt = Math.min(this.#now() + lifeMs, rightsUntil);
    const token = await new SignJWT({
      name: userName,
      app: appType,
      ...writeRights(rights),
      ...(affinity === undefined ? {} : { affinity }),
      nodes,
      until: rightsUntil,
      // With fractions of a second, so that a ticket issued a moment after a kick is accepted.
      iat: issuedAt / 1000,
    })
      .setProtectedHeader({ alg: "HS256", typ: type })
      .setSubject(userId)
      .setJti(crypto.randomUUID())
      .setExpirationTime(Math.ceil(expiresAt / 1000))
      .sign(await this.#key(0));
    return { token, expiresAt };
  }

  async read(
    token: string,
    skewMs: number,
  ): Promise<Entry & { readonly nodes: readonly string[] }> {
    if (token.length > maxTokenLength) throw new TokenError("it is too long");
    const payload = await this.#payload(token, skewMs);
    // The signature is ours. The claims may still come from another version of this program, or from a thief of the
    // secret.
    const sub = claim(payload, "sub", isUserId, expectedUserId);
    const jti = claim(payload, "jti", isTokenId, "text of 1 to 256 characters");
    const exp = claim(payload, "exp", isTime, expectedTime);
    const until = claim(payload, "until", isMilliseconds, "milliseconds since 1970");
    const iat = payload.iat === undefined
      ? guessIssued(exp, until)
      : claim(payload, "iat", isTime, expectedTime);
    const name = claim(payload, "name", isText, "text");
    const app = claim(payload, "app", isText, "text");
    const nodes = claim(payload, "nodes", isTexts, "a list of names");
    if (until + skewMs <= this.#now()) throw new TokenError("its rights have expired");
    const rights = rightsOf(payload);
    return {
      grant: {
        ...{ userId: sub, userName: name, appType: app, rights, rightsUntil: until },
        ...affinityOf(payload),
      },
      nodes,
      once: onceOf(jti, exp, skewMs),
      issuedAt: Math.min(iat * 1000, this.#now()),
    };
  }

  async #payload(token: string, skewMs: number) {
    for (let i = 0;; i++) {
      try {
        const { payload } = await jwtVerify(token, await this.#key(i), {
          algorithms: ["HS256"],
          typ: type,
          clockTolerance: skewMs / 1000,
          currentDate: new Date(this.#now()),
        });
        return payload;
      } catch (error) {
        const last = i >= this.#keys.length - 1;
        if (last || !(error instanceof errors.JWSSignatureVerificationFailed)) throw refusal(error);
      }
    }
  }

  #key(i: number) {
    const key = this.#keys[i];
    if (key === undefined) throw new TypeError("token2: no secret");
    return key.get();
  }
}

/**
 * Seconds. For a token of a version that wrote no `iat`: ticket's tokens lived for 30 s unless the profile said
 * otherwise. A `resume` lived as long as the rights, so its time of issue is unknown.
 */
function guessIssued(exp: number, until: number): number {
  return exp * 1000 >= until ? 0 : exp - 29;
}

/**
 * After `until` on this node's clock, no node accepts the token: another clock may be `skewMs` behind this one, and
 * accepts expired tokens for `skewMs` more.
 */
function onceOf(id: string, exp: number, skewMs: number): Once {
  return { id, until: exp * 1000 + 2 * skewMs };
}

/** The latest time that a `Date` can represent: later than every token, and still safe to add to. */
const maxMs = 8.64e15;

/** @throws {TokenError} that names the claim. */
function claim<T>(
  payload: JWTPayload,
  name: string,
  is: (value: unknown) => value is T,
  expected: string,
): T {
  const value = payload[name];
  if (is(value)) return value;
  throw wrongClaim(name, expected, value);
}

function isText(value: unknown): value is string {
  return typeof value === "string";
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(isText);
}

function isTokenId(value: unknown): value is string {
  return isText(value) && value.length > 0 && value.length <= 256;
}

function isMilliseconds(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= maxMs;
}
