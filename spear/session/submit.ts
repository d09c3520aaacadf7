/** The one way to publish, for clients and for business systems: an id, the message's encoding, the broker's answer. */
import {
  type Accepted,
  type Broker,
  NotAcceptedError,
  type Priority,
  type Rate,
} from "../broker/broker.ts";
import type { GroupKinds } from "../groups_config.ts";
import type { IdSource } from "../ids.ts";
import { encodeMessage, groupTarget, type Target, userTarget } from "../wire.ts";

export interface Submission {
  /** A user id, or "0" for the system. */
  readonly fromId: string;
  /** 0: to a user, 1: to a group. */
  readonly type: 0 | 1;
  readonly targetId: string;
  readonly content: string;
  /** The same key again gives the first one's answer, as long as history is kept. Well-formed Unicode. */
  readonly idempotencyKey?: string | undefined;
  /** Default: of the system. */
  readonly priority?: Priority | undefined;
  /** What its target takes; default: everything. */
  readonly rate?: Rate | undefined;
  /** Told the message's id before anything is published. */
  readonly onId?: ((id: string) => void) | undefined;
}

/**
 * Submissions to one target are counted in the order of the calls.
 * @throws {OverRateError} its group takes no more now, and drops nothing.
 * @throws {NotAcceptedError} it has not happened and will not.
 * @throws {InDoubtError} it has happened, or not, or may still happen.
 */
export type Submit = (submission: Submission) => Promise<Accepted>;

export interface SubmitOptions {
  readonly ids: IdSource;
  readonly broker: Pick<Broker, "publish">;
  /** Default: all groups are alike. */
  readonly kinds?: Pick<GroupKinds, "ofTarget"> | undefined;
  /** How long a message to the target can be recovered; 0: not at all. */
  readonly historyMs: (target: Target) => number;
  /** Unix milliseconds that clients see. */
  readonly now: () => number;
  /** What a publication to the target waits for, unless it is ephemeral. */
  readonly before?: ((target: Target) => Promise<void> | undefined) | undefined;
  /** Not for a repetition. `times`: milliseconds of `performance.now()`. */
  readonly onAccepted: (
    accepted: Accepted,
    target: Target,
    fromId: string,
    times: { readonly askedAt: number; readonly idAt: number },
  ) => void;
}

export function targetOf({ type, targetId }: Pick<Submission, "type" | "targetId">): Target {
  return type === 1 ? groupTarget(targetId) : userTarget(targetId);
}

export function openSubmit(
  { ids, broker, kinds, historyMs, now, before, onAccepted }: SubmitOptions,
): Submit {
  return async (submission) => {
    const { fromId, type, targetId, content, idempotencyKey, rate, onId } = submission;
    const askedAt = performance.now();
    const id = await nextId(ids);
    const idAt = performance.now();
    const target = targetOf({ type, targetId });
    const ephemeral = kinds?.ofTarget(target)?.ephemeral;
    const waiting = ephemeral ? undefined : before?.(target);
    if (waiting !== undefined) await waiting;
    onId?.(id);
    const createTime = now();
    const keptMs = historyMs(target);
    const accepted = await broker.publish({
      target,
      id,
      body: encodeMessage({
        id,
        createTime,
        fromId,
        type,
        targetId,
        content,
        expireTime: keptMs === 0 ? 0 : createTime + keptMs,
      }),
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...(rate === undefined ? {} : { rate }),
      ...(ephemeral ? { ephemeral } : {}),
    });
    if (accepted.id === id) onAccepted(accepted, target, fromId, { askedAt, idAt });
    return accepted;
  };
}

/** Without an id nothing has been sent, whatever the reason was. */
async function nextId(ids: IdSource): Promise<string> {
  try {
    return await ids.next();
  } catch (cause) {
    throw new NotAcceptedError(`no id: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}
