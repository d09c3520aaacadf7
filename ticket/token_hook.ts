/** Scheme hook: the business system is asked who a client is. token2 is the one of scheme jwt. Web APIs only. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex, utf8ToBytes } from "@noble/hashes/utils.js";
import { Asker, type AskerOptions, AskError } from "@gru/shared/webhooks/ask";
import { admissionAnswer, type Question } from "@gru/shared/webhooks/decisions";
import { expectedUserId, isUserId } from "@gru/spear/identifiers";
import type { AdmissionAuth } from "./auth_rules.ts";
import { readRights, type Rights } from "./rights.ts";
import { type Claims, type Issuer, NotAdmittedError, TokenError } from "./scheme.ts";
import { type JwtIssuerConfig, signingIssuer } from "./token_jwt.ts";
import { maxTokenLength } from "./token1.ts";

type Admission =
  | {
    readonly action: "allow";
    readonly userId: string;
    readonly userName: string | undefined;
    readonly appType: string | undefined;
    readonly rights: Rights;
    readonly rightsMs: number | undefined;
    readonly affinity: string | undefined;
    readonly ttl: number | undefined;
  }
  | { readonly action: "refuse"; readonly reason: string; readonly ttl: number | undefined };

/** @throws AskError when there is no good answer. */
export type AskAdmission = (question: Question, key: string) => Promise<Admission>;

/** A bad field of the answer is named, as if the answer had not come. */
const answer = admissionAnswer.transform((given, context): Admission => {
  const bad = (path: string[], message: string) => {
    context.addIssue({ code: "custom", path, message });
    return { action: "refuse", reason: message, ttl: undefined } as const;
  };
  if (given.action === "refuse") return { ...given, ttl: given.ttl };
  const { action, userId, userName, appType, groups, users, rightsMs, affinity, ttl } = given;
  if (!isUserId(userId)) return bad(["userId"], `expected ${expectedUserId}`);
  try {
    const rights = readRights({ groups, users });
    return { action, userId, userName, appType, rights, rightsMs, affinity, ttl };
  } catch (error) {
    if (error instanceof TypeError) return bad([], error.message);
    throw error;
  }
});

type Connected = Pick<
  AskerOptions<Admission>,
  "post" | "signal" | "onOutcome" | "onAnswered" | "onTrouble"
>;

/** @throws {TypeError} without a URL and a secret. */
export function admissionAsker(
  { url, secret, deadlineMs, underWay, allowPrivate = false }: AdmissionAuth,
  connected: Connected,
): Asker<Admission> {
  if (url === undefined || secret === undefined) {
    throw new TypeError("scheme hook needs a URL and a secret");
  }
  return new Asker<Admission>({
    ...connected,
    url,
    secrets: secret,
    answer,
    deadlineMs,
    underWay,
    allowPrivate,
    // To let in everybody under any name would be worse than to let in nobody.
    onFailure: "refuse",
  });
}

export function admissionBy(asker: Asker<Admission>): AskAdmission {
  return async (question, key) => {
    const admission = await asker.ask(question, key);
    if (admission === undefined) throw new AskError("no answer");
    return admission;
  };
}

export function hookIssuer(
  config: Omit<JwtIssuerConfig, "token1">,
  ask: AskAdmission,
  now: () => number,
): Issuer {
  return signingIssuer(
    async (claims, token1) => {
      if (token1.length > maxTokenLength) throw new TokenError("it is too long");
      const admission = await ask(
        { decision: "admission", token1, ...claims },
        keyOf(claims, token1),
      );
      if (admission.action === "refuse") throw new NotAdmittedError(admission.reason);
      const { userId, rights, rightsMs, affinity } = admission;
      for (const key of ["userId", "userName", "appType"] as const) {
        const [said, known] = [claims[key], admission[key]];
        if (said !== undefined && known !== undefined && said !== known) {
          throw new TokenError(`it belongs to another (${key})`);
        }
      }
      return {
        userId,
        userName: admission.userName ?? claims.userName ?? "",
        appType: admission.appType ?? claims.appType ?? "",
        rights,
        ...(affinity === undefined ? {} : { affinity }),
        ...(rightsMs === undefined ? {} : { rightsUntil: now() + rightsMs }),
      };
    },
    config,
    now,
  );
}

/** Short, however long token1 is, and no secret. */
function keyOf({ userId, userName, appType }: Partial<Claims>, token1: string): string {
  return bytesToHex(sha256(utf8ToBytes(JSON.stringify([token1, userId, userName, appType]))));
}
