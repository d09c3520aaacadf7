/** What Gru sends to a business system: whether it is from Gru, and what it says. */
import { Replays } from "@gru/shared/webhooks/replays";
import { verifyWebhook, WebhookError } from "@gru/shared/webhooks/signature";
import type { GruEvent } from "./events.ts";
import type { Decision } from "./kinds.ts";

/** The request is not from Gru, too old, or a copy. The message says why, and contains no secret. Answer 401. */
export class HookError extends Error {
  override readonly name = "HookError";
}

/** Of this process. */
const replays = new Replays();

/**
 * The events in a request of hooks. One whose sender was not sure that it came is sent again, with a new time: the `id` of an event
 * tells what was there before.
 * @param secrets `whsec_…`, as in `GRU_HOOKS_SECRET`; several separated by commas: each is accepted
 * @throws {HookError} it is not from Gru, older than five minutes, or a copy of a request that has come: answer 401
 * @throws {TypeError} for a bad secret
 */
export async function verifyHook(request: Request, secrets: string): Promise<GruEvent[]> {
  return await verified(request, secrets) as GruEvent[];
}

/**
 * What is asked in a request of decisions; the answer is JSON with `action`.
 * @param secrets as in `GRU_DECISIONS_SECRET` or `GRU_ADMISSION_SECRET`
 * @throws as {@linkcode verifyHook}
 */
export async function verifyDecision(request: Request, secrets: string): Promise<Decision> {
  return await verified(request, secrets) as Decision;
}

async function verified(request: Request, secrets: string): Promise<unknown> {
  const body = await request.text();
  const nowS = Date.now() / 1000;
  try {
    const { id, timestampS } = verifyWebhook(secrets, request.headers, body, { nowS });
    if (replays.isFirst(`${id} ${timestampS}`, nowS)) return JSON.parse(body);
  } catch (error) {
    if (error instanceof WebhookError) throw new HookError(error.message);
    throw error;
  }
  throw new HookError("webhook-id: has come before");
}
