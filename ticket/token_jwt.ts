/**
 * Scheme jwt. token2 is ticket's own JSON Web Token: bound to the user, the app, the rights and some nodes, good for
 * seconds and for one use. Its secret is known to ticket and to the spears, which make tokens of their own for clients
 * that come back (`resume`) or are sent elsewhere.
 */
import { errors, jwtVerify, SignJWT } from "jose";
import { readRights, writeRights } from "./rights.ts";
import {
  type Door,
  type Entry,
  type Grant,
  type Office,
  type Token,
  TokenError,
} from "./scheme.ts";
import { HmacKey, maxTokenLength, refusal, token1Checker, type Token1Config } from "./token1.ts";

export interface JwtOfficeConfig {
  readonly token1: Token1Config;
  /** The first one signs, all are accepted: so that one can follow the other. */
  readonly token2Secrets: readonly string[];
  readonly token2Ms: number;
  /** Rights end with token1, or after this time. */
  readonly rightsMs: number;
}

export interface JwtDoorConfig {
  readonly token2Secrets: readonly string[];
  /** This spear's name. */
  readonly node: string;
  readonly skewMs: number;
}

/** Says what a token is for, so that no other token of the same secret passes for it. */
const type = "gru-token2+jwt";

export function jwtOffice(config: JwtOfficeConfig, now: () => number = Date.now): Office {
  const check = token1Checker(config.token1, now);
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
    issue: (grant, _token1, nodes) => signer.sign(grant, nodes, config.token2Ms),
  };
}

export function jwtDoor(config: JwtDoorConfig, now: () => number = Date.now): Door {
  const { node, skewMs } = config;
  const signer = new Signer(config.token2Secrets, now);
  return {
    check: async ({ userId, userName, appType }, _token1, token2) => {
      const entry = await signer.read(token2, skewMs);
      const { grant, nodes } = entry;
      if (grant.userId !== userId) throw new TokenError("it belongs to another user");
      // Old clients may leave these out.
      if (userName !== "" && grant.userName !== userName) {
        throw new TokenError("it belongs to a user of another name");
      }
      if (appType !== "" && grant.appType !== appType) {
        throw new TokenError("it belongs to another app");
      }
      if (!nodes.includes(node)) throw new TokenError("it is for other nodes");
      return entry;
    },
    resume: ({ grant, nodes = [node] }) => signer.sign(grant, nodes, Infinity),
    pass: async ({ grant }, nodes, lifeMs) => (await signer.sign(grant, nodes, lifeMs)).token,
  };
}

class Signer {
  readonly #keys: readonly HmacKey[];
  readonly #now: () => number;

  constructor(secrets: readonly string[], now: () => number) {
    this.#keys = secrets.map((secret) => new HmacKey(secret));
    this.#now = now;
  }

  /** Not beyond the end of the rights. */
  async sign(grant: Grant, nodes: readonly string[], lifeMs: number): Promise<Token> {
    const { userId, userName, appType, rights, rightsUntil = 0 } = grant;
    const expiresAt = Math.min(this.#now() + lifeMs, rightsUntil);
    const token = await new SignJWT({
      name: userName,
      app: appType,
      ...writeRights(rights),
      nodes,
      until: rightsUntil,
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
    const { sub, jti, exp, name, app, nodes, until, groups, users } = await this.#payload(
      token,
      skewMs,
    );
    // We signed it: it is as we write it, or by somebody who has the secret.
    if (
      sub === undefined || jti === undefined || exp === undefined || typeof until !== "number" ||
      typeof name !== "string" || typeof app !== "string" || !Array.isArray(nodes)
    ) {
      throw new TokenError("it lacks claims");
    }
    if (until + skewMs <= this.#now()) throw new TokenError("its rights have expired");
    const rights = readRights({ groups, users });
    return {
      grant: { userId: sub, userName: name, appType: app, rights, rightsUntil: until },
      nodes,
      once: { id: jti, until: exp * 1000 + skewMs },
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
