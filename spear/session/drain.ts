/** Empties a node that is going to stop, without a crowd at the doors of the others. */
import { pause } from "@gru/shared/pause";
import { disconnects } from "../disconnects.ts";
import type { Session } from "./session.ts";

export interface DrainOptions {
  /** Also of clients that come while the node is being emptied: their handshakes were through before. */
  readonly sessions: ReadonlySet<Session>;
  /** Where a client with this key belongs now, and then those that stand in; empty: no other node is alive. */
  readonly placesOf: (
    placeKey: string,
  ) => readonly { readonly name: string; readonly addr: string }[];
  readonly drainMs: number;
  /** Aborted: nobody is asked or disconnected any more. */
  readonly stopped?: AbortSignal;
}

export interface Drained {
  /** Clients that were asked and went by themselves. */
  readonly moved: number;
  /** Clients that were disconnected. */
  readonly cutOff: number;
  readonly seconds: number;
}

/** How long a token is good after the moment when it is to be used. */
const lastMinuteMs = 30_000;

/** As a ticket's: good for the next place and two more, and stolen elsewhere for none. */
const maxNodes = 3;

/** This part of the time is left to the last client, to come back elsewhere before it is disconnected here. */
const graceShare = 0.3;

const lookEveryMs = 50;

/**
 * Asks each client to move at a moment of its own (event `move`) and disconnects it a little later: by then a client that
 * knows the event is gone, and has missed nothing. Resolves when all are gone or have been disconnected, after `drainMs` at the
 * latest, to what became of them.
 */
export async function drain(
  { sessions, placesOf, drainMs, stopped = new AbortController().signal }: DrainOptions,
): Promise<Drained> {
  const graceMs = drainMs * graceShare;
  const turns = drainMs - graceMs;
  const stepMs = turns / Math.max(1, sessions.size);
  const began = performance.now();
  /** When each client is disconnected, milliseconds after the beginning. */
  const endOf = new Map<Session, number>();
  let asked = 0;
  let [cutOff, cutOffUnasked] = [0, 0];
  const result = (): Drained => ({
    moved: endOf.size - (cutOff - cutOffUnasked),
    cutOff,
    seconds: Math.round((performance.now() - began) / 100) / 10,
  });

  /** Those for whom no other node was known when they were to be asked. */
  const placeless = new Set<Session>();

  async function ask(session: Session, atMs: number): Promise<void> {
    const delayMs = Math.round(Math.min(asked++ * stepMs, Math.max(0, turns - atMs)));
    endOf.set(session, Math.min(atMs + delayMs + graceMs, drainMs));
    await move(session, delayMs);
  }

  async function move(session: Session, delayMs: number): Promise<void> {
    const places = placesOf(session.placeKey ?? "");
    const [place] = places;
    if (place === undefined) return void placeless.add(session);
    placeless.delete(session);
    const { name, addr } = place;
    const nodes = places.slice(0, maxNodes).map((node) => node.name);
    await session.move({ delayMs, name, addr }, nodes, delayMs + lastMinuteMs);
  }

  for (;;) {
    const atMs = performance.now() - began;
    const isLast = atMs >= drainMs;
    for (const session of [...sessions]) {
      const endMs = endOf.get(session);
      if (isLast || (endMs !== undefined && endMs <= atMs)) {
        cutOff++;
        if (endMs === undefined) cutOffUnasked++;
        session.disconnect(disconnects.leaving);
      } else if (endMs === undefined && session.userId !== undefined) await ask(session, atMs);
      else if (placeless.has(session)) await move(session, 0);
    }
    if (isLast || sessions.size === 0) return result();
    // Whole milliseconds: what rounding leaves of the last one is no time at all.
    await pause(Math.min(lookEveryMs, Math.ceil(drainMs - atMs)), stopped);
    if (stopped.aborted) return result();
  }
}
