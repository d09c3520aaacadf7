/**
 * How many messages a target takes, from all nodes together: a bucket whose only state is the time, in microseconds, at which it
 * will be full again (GCRA). Engines keep it beside the target's position.
 */
import { OverRateError, type Rate } from "./broker.ts";

/** Whole microseconds. */
export interface Steps {
  /** What one message takes. */
  readonly step: number;
  /** How far ahead of the time the bucket may be before the message. */
  readonly allowed: number;
  /** How far ahead it is when it is empty. */
  readonly full: number;
}

export function stepsOf({ perSecond, priority }: Rate): Steps {
  const step = Math.round(1e6 / perSecond);
  const burst = Math.max(2, Math.floor(perSecond));
  const full = burst * step;
  switch (priority) {
    case "system":
      return { step, allowed: full, full };
    case "normal":
      return { step, allowed: full - step, full };
    case "low":
      return { step, allowed: Math.floor(burst / 2) * step - step, full };
  }
}

/**
 * @param fullAt when the bucket will be full again, microseconds as `now`; 0: it is
 * @returns when it will be after one message
 * @throws {OverRateError} and the bucket is as it was
 */
export function takeOne(fullAt: number, now: number, rate: Rate): number {
  const { step, allowed, full } = stepsOf(rate);
  // A clock may have gone back: nobody waits longer than after a burst.
  const ahead = Math.max(0, Math.min(fullAt - now, full));
  if (ahead > allowed) throw new OverRateError(rate, Math.ceil((ahead - allowed) / 1000));
  return now + Math.min(ahead + step, full);
}
