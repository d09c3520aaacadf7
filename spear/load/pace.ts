/** Sending in an open loop: on time, however many messages have been delivered so far. */
import { pause } from "@gru/shared/pause";

/** The least time between two bursts, milliseconds. */
const tickMs = 1;

/** Calls `send` so many times a second, in bursts of what is due. Resolves after the last call; with rate 0 when the time is over. */
export async function sendOnTime(
  perSecond: number,
  seconds: number,
  send: () => void,
): Promise<void> {
  const due = Math.round(perSecond * seconds);
  if (due === 0) await pause(seconds * 1000);
  const began = performance.now();
  for (let sent = 0; sent < due;) {
    const dueNow = Math.floor((performance.now() - began) * perSecond / 1000) + 1;
    for (; sent < Math.min(dueNow, due); sent++) send();
    const nextMs = began + sent * 1000 / perSecond;
    if (sent < due) await pause(Math.max(Math.ceil(nextMs - performance.now()), tickMs));
  }
}

/** Whether the condition holds within so many milliseconds; it is checked every `everyMs`. */
export async function holdsWithin(
  ms: number,
  isSo: () => boolean,
  everyMs = 20,
): Promise<boolean> {
  for (const endAt = performance.now() + ms; performance.now() < endAt; await pause(everyMs)) {
    if (isSo()) return true;
  }
  return isSo();
}
