/**
 * Announces in the registry, for ticket, how many connections this node has: at most about once a second, when it has
 * changed enough.
 */
import type { Logger } from "@gru/shared/log";
import type { Registration } from "@gru/shared/registry/registry";

/** What a spear announces besides its load. */
export type SpearMeta = {
  readonly weight: number;
  readonly capacity: number;
  /** How it receives messages of other nodes. */
  readonly mode?: string;
  /** Another one after each start. */
  readonly session?: string;
  /** Mode `rocketmq`: its messages go over Redis meanwhile. */
  readonly detour?: true;
  /** The node is being drained. */
  readonly draining?: true;
};

export interface LoadAnnouncementOptions {
  readonly registration: Registration;
  /** The other values to announce now. */
  readonly meta: () => SpearMeta;
  readonly load: () => number;
  readonly log: Logger;
  readonly periodMs?: number;
}

/** Smaller changes wait, because every watcher gets each write to the registry. */
const noticeableShare = 0.02;
const noticeable = 5;
const periodsUntilAnyChange = 10;

/** The other values are written as soon as they change. */
export function startLoadAnnouncement(options: LoadAnnouncementOptions): AsyncDisposable {
  const { registration, meta, load, log, periodMs = 1000 } = options;
  let announced = 0;
  let announcedMeta = JSON.stringify(meta());
  let periods = 0;
  let announcing: Promise<void> | undefined;

  function look(): void {
    const now = load();
    periods++;
    const change = Math.abs(now - announced);
    const wanted = periods >= periodsUntilAnyChange
      ? change > 0
      : change >= Math.max(noticeable, announced * noticeableShare);
    if (wanted || JSON.stringify(meta()) !== announcedMeta) {
      announcing ??= announce(now).finally(() => announcing = undefined);
    }
  }

  async function announce(now: number): Promise<void> {
    const others = meta();
    try {
      await registration.update({ meta: { ...others, load: now } });
      announced = now;
      announcedMeta = JSON.stringify(others);
      periods = 0;
    } catch (error) {
      // The next tick tries again.
      log.debug("could not announce the load: {error}", { error });
    }
  }

  const timer = setInterval(look, periodMs);
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      await announcing;
    },
  };
}
