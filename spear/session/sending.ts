/**
 * What one client has sent and cannot be said to have come by on this node yet: an event that changes a membership waits for it,
 * so that both take effect in the order they came.
 */
import type { Accepted } from "../broker/broker.ts";
import type { Hub } from "../hub/hub.ts";
import type { Target } from "../wire.ts";

export type Passing = Pick<Hub<never>, "hasPassed" | "passed">;

interface Sending {
  /** Not accepted or refused yet. */
  underWay: number;
  /** Of the last one that was accepted. */
  accepted: Accepted | undefined;
  /** Woken when nothing is under way. */
  readonly waiting: (() => void)[];
}

/** How long is waited for what was accepted to come by itself: the broker may have lost it on its way here. */
const passMs = 1000;
/** More targets than this are looked through for those that need not be remembered. */
const maxTargets = 100;

export class Sendings {
  readonly #targets = new Map<Target, Sending>();

  /** What `send` gives. It has begun when this returns: the target's messages are counted in the order of the calls. */
  async track(target: Target, hub: Passing, send: () => Promise<Accepted>): Promise<Accepted> {
    const sending = this.#targets.getOrInsertComputed(
      target,
      () => ({ underWay: 0, accepted: undefined, waiting: [] }),
    );
    sending.underWay++;
    try {
      const accepted = await send();
      // What has no place does not come by.
      if (accepted.seq > 0) sending.accepted = accepted;
      return accepted;
    } finally {
      if (--sending.underWay === 0) this.#settled(target, sending, hub);
    }
  }

  /**
   * Resolves when what was sent to these targets is accepted or refused, and has come by on this node; rejects when what was
   * accepted cannot be had now.
   */
  async passed(targets: readonly Target[], hub: Passing): Promise<void> {
    if (this.#targets.size === 0) return;
    await Promise.all(targets.map(async (target) => {
      const sending = this.#targets.get(target);
      if (sending === undefined) return;
      if (sending.underWay > 0) {
        await new Promise<void>((resolve) => sending.waiting.push(resolve));
      }
      if (sending.accepted !== undefined) await hub.passed(target, sending.accepted, passMs);
      if (sending.underWay === 0) this.#targets.delete(target);
    }));
  }

  #settled(target: Target, sending: Sending, hub: Passing): void {
    for (const wake of sending.waiting.splice(0)) wake();
    if (isOver(target, sending, hub)) this.#targets.delete(target);
    if (this.#targets.size <= maxTargets) return;
    for (const [target, sending] of this.#targets) {
      if (isOver(target, sending, hub)) this.#targets.delete(target);
    }
  }
}

function isOver(target: Target, { underWay, accepted }: Sending, hub: Passing): boolean {
  return underWay === 0 && (accepted === undefined || hub.hasPassed(target, accepted));
}
