/** Rights end: asks clients in time to bring new ones, and closes the connections of those who have not. */
import type { Admitted } from "./admission.ts";
import { type Disconnect, disconnects } from "../disconnects.ts";

interface Admittable {
  readonly admitted: Admitted | undefined;
  refresh(): void;
  disconnect(why: Disconnect): void;
}

export interface ExpiryOptions {
  readonly sessions: Iterable<Admittable>;
  /** How long before the end a client is asked. */
  readonly refreshMs: number;
}

const lookEveryMs = 500;

export function startExpiry({ sessions, refreshMs }: ExpiryOptions): Disposable {
  const asked = new WeakSet<Admitted>();

  function look(): void {
    const now = Date.now();
    for (const session of sessions) {
      const { admitted } = session;
      if (admitted?.rightsUntil === undefined || admitted.rightsUntil > now + refreshMs) continue;
      if (admitted.rightsUntil <= now) {
        session.disconnect(disconnects.rightsExpired);
      } else if (!asked.has(admitted)) {
        asked.add(admitted);
        session.refresh();
      }
    }
  }

  const timer = setInterval(look, Math.min(lookEveryMs, refreshMs / 2));
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
