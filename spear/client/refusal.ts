/** What a node's error result means for the client. */
import { GruError, type GruErrorCode } from "./errors.ts";
import type { Result } from "./wire.ts";

/** The node's own trouble: nothing was done, and the same may work later or elsewhere. */
const systemError = 1001;

/** @param inDoubt an earlier attempt was not answered */
export function refusal({ errorCode, msg, data }: Result, inDoubt = false): GruError {
  const retryAfterMs: number | undefined = data?.retryAfterMs;
  const [, until] = /is (?:banned|closed) until (\S+)/.exec(msg) ?? [];
  let code: GruErrorCode = "refused";
  if (retryAfterMs) code = "busy";
  // Of the last two the client itself is the cure: it is about to authenticate again.
  else if (errorCode === systemError || /not authenticated|have expired/.test(msg)) {
    code = "unavailable";
  } else if (until) code = "banned";
  else if (/tokens are not valid/.test(msg)) code = "unauthorized";
  return new GruError(code, msg, {
    inDoubt,
    retryAfterMs,
    until: until && Date.parse(until) || undefined,
  });
}
