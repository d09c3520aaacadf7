/** Submissions of which groups take so many as their kind says; the broker counts them, for all nodes. */
import { type Accepted, OverRateError, type Priority, type Rate } from "../broker/broker.ts";
import type { GroupKinds } from "../groups_config.ts";
import type { Target } from "../wire.ts";
import { type Submission, type Submit, targetOf } from "./submit.ts";

/** The same submissions, counted; those above the rate are refused or dropped. */
export function withinRates(submit: Submit, kinds: Pick<GroupKinds, "ofTarget">): Submit {
  const full = new FullTargets();
  return (submission) => {
    const target = targetOf(submission);
    const { messagesPerSecond: perSecond, drop = false } = kinds.ofTarget(target) ?? {};
    if (perSecond === undefined) return submit(submission);
    const rate = { perSecond, priority: submission.priority ?? "system" };
    return limited(submit, { ...submission, rate }, { target, full, rate, drop });
  };
}

async function limited(
  submit: Submit,
  submission: Submission,
  { target, full, rate, drop }: {
    readonly target: Target;
    readonly full: FullTargets;
    readonly rate: Rate;
    readonly drop: boolean;
  },
): Promise<Accepted> {
  try {
    // A repetition of what was accepted must be answered as such: only the broker knows.
    if (submission.idempotencyKey === undefined) full.check(target, rate);
    return await submit(submission);
  } catch (error) {
    if (!(error instanceof OverRateError)) throw error;
    full.note(target, rate.priority, error.retryAfterMs);
    if (drop) return { id: "", epoch: "", seq: 0, dropped: true };
    throw error;
  }
}

/** Until when, on the clock of `performance.now()`, it is of no use to ask. */
type Until = Readonly<Record<Priority, number>>;

const none: Until = { low: -Infinity, normal: -Infinity, system: -Infinity };
const rememberedAtMost = 10_000;

/** What targets take nothing of for a moment, so that a flood is not carried on only to be refused. */
export class FullTargets {
  readonly #until = new Map<Target, Until>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** What the target refuses of one priority it refuses of a lower one. */
  note(target: Target, priority: Priority, retryAfterMs: number): void {
    const { low, normal } = this.#until.get(target) ?? none;
    const until = this.#now() + retryAfterMs;
    if (!this.#until.has(target) && this.#until.size >= rememberedAtMost) this.#until.clear();
    this.#until.set(target, {
      ...none,
      low: Math.max(low, until),
      normal: priority === "normal" ? Math.max(normal, until) : normal,
    });
  }

  /** @throws {OverRateError} */
  check(target: Target, rate: Rate): void {
    const until = this.#until.get(target)?.[rate.priority] ?? -Infinity;
    const leftMs = until - this.#now();
    if (leftMs > 0) throw new OverRateError(rate, leftMs);
  }
}
