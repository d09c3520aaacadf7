/** What a server does when more is asked of it than it can do, and how soon it is as before. */
import type { Load } from "./load.ts";
import { highestHeld } from "./measures.ts";

/** Up to this p99 a rate is kept up: at a lower one a server is not at its limit yet. */
export const keptUpMs = 200;
/** Seconds of each overload. */
const overloadSeconds = 5;
const [windowSeconds, windowsAtMost] = [0.5, 40];

/**
 * Finds the highest rate that is kept up, then sends one and a half times and twice as much, then half of it. Columns:
 * deliveries a second in parts of the highest, p99 of what arrived, messages that were refused in parts of those that were sent, and
 * seconds at half the rate until half a second of it is kept up and nothing is refused.
 */
export async function beyondTheKnee(load: Load, from: number): Promise<Record<string, number>> {
  const best = await highestHeld(
    from,
    async (perSecond) => ({ result: await load.run(perSecond, 2) }),
    keptUpMs,
  );
  if (best === undefined) return { "highest/s": NaN };
  const { perSecond, result } = best;
  const row: Record<string, number> = { "highest/s": perSecond };
  for (const factor of [1.5, 2]) {
    await load.run(perSecond / 2, 2);
    const overload = await load.run(perSecond * factor, overloadSeconds, { untilQuiet: false });
    row[`${factor}: of highest`] = overload.deliveriesPerSecond / result.deliveriesPerSecond;
    row[`${factor}: p99 ms`] = overload.p99Ms;
    row[`${factor}: refused`] = overload.refused / overload.sent;
    row[`${factor}: back, s`] = await secondsUntilBack(load, perSecond / 2);
  }
  return row;
}

async function secondsUntilBack(load: Load, perSecond: number): Promise<number> {
  for (let windows = 0; windows < windowsAtMost; windows++) {
    const { p99Ms, refused } = await load.run(perSecond, windowSeconds, { untilQuiet: false });
    if (p99Ms <= keptUpMs && refused === 0) return windows * windowSeconds;
  }
  return windowsAtMost * windowSeconds;
}
