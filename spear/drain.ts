/** Empties a node that is going to stop, without a crowd at the doors of the others. */
import type { Session } from "./session.ts";

export interface DrainOptions {
  readonly sessions: ReadonlySet<Session>;
  /** Where a user belongs now; undefined: no other node is alive. */
  readonly placeOf: (
    userId: string,
  ) => { readonly name: string; readonly addr: string } | undefined;
  readonly drainMs: number;
}

/** This part of the time is left to the last client, to come back elsewhere before it is disconnected here. */
const graceShare = 0.3;

/**
 * Asks each client to move at a moment of its own (event `move`) and disconnects it a little later: by then a client that
 * knows the event is gone, and has missed nothing. Resolves when all are gone, after `drainMs` at the latest.
 */
export async function drain({ sessions, placeOf, drainMs }: DrainOptions): Promise<void> {
  const graceMs = drainMs * graceShare;
  const leaving = [...sessions];
  const stepMs = (drainMs - graceMs) / leaving.length;
  const began = performance.now();
  for (const [i, session] of leaving.entries()) {
    const place = session.userId === undefined ? undefined : placeOf(session.userId);
    if (place !== undefined) session.move({ delayMs: Math.round(i * stepMs), ...place });
  }
  for (const [i, session] of leaving.entries()) {
    await untilTime(began + i * stepMs + graceMs, () => !sessions.has(session));
    session.disconnect();
  }
}

/** Looks now and then whether it need not wait any longer. */
async function untilTime(time: number, done: () => boolean): Promise<void> {
  while (!done()) {
    const remainingMs = time - performance.now();
    if (remainingMs <= 0) return;
    await new Promise((resolve) => setTimeout(resolve, Math.min(remainingMs, 50)));
  }
}
