/** Empties a node that is going to stop, without a crowd at the doors of the others. */
import type { Session } from "./session.ts";

export interface DrainOptions {
  readonly sessions: ReadonlySet<Session>;
  /** Where a user belongs now, and then those that stand in; empty: no other node is alive. */
  readonly placesOf: (
    userId: string,
  ) => readonly { readonly name: string; readonly addr: string }[];
  readonly drainMs: number;
}

/** How long a token is good after the moment when it is to be used. */
const lastMinuteMs = 30_000;

/** As a ticket's: good for the next place and two more, and stolen elsewhere for none. */
const maxNodes = 3;

/** This part of the time is left to the last client, to come back elsewhere before it is disconnected here. */
const graceShare = 0.3;

/**
 * Asks each client to move at a moment of its own (event `move`) and disconnects it a little later: by then a client that
 * knows the event is gone, and has missed nothing. Resolves when all are gone, after `drainMs` at the latest.
 */
export async function drain({ sessions, placesOf, drainMs }: DrainOptions): Promise<void> {
  const graceMs = drainMs * graceShare;
  const leaving = [...sessions];
  const stepMs = (drainMs - graceMs) / leaving.length;
  const began = performance.now();
  for (const [i, session] of leaving.entries()) {
    const places = session.userId === undefined ? [] : placesOf(session.userId);
    const [place] = places;
    if (place === undefined) continue;
    const delayMs = Math.round(i * stepMs);
    const { name, addr } = place;
    const nodes = places.slice(0, maxNodes).map((node) => node.name);
    await session.move({ delayMs, name, addr }, nodes, delayMs + lastMinuteMs);
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
