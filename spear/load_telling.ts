/** Tells ticket, through the registry, how many connections this node has: about once a second, when it matters. */
import type { Logger } from "@gru/shared/log";
import type { Registration } from "@gru/shared/registry";

/** What a spear tells of itself besides its load. */
export type SpearMeta = {
  readonly weight: number;
  readonly capacity: number;
  /** It is being emptied. */
  readonly draining?: true;
};

export interface LoadTellingOptions {
  readonly registration: Registration;
  /** What else is told of the node now. */
  readonly meta: () => SpearMeta;
  readonly load: () => number;
  readonly log: Logger;
  readonly periodMs?: number;
}

/** Smaller changes wait: a write to the registry goes to all who watch. */
const noticeableShare = 0.02;
const noticeable = 5;
const periodsUntilAnyChange = 10;

export function startLoadTelling(options: LoadTellingOptions): AsyncDisposable {
  const { registration, meta, load, log, periodMs = 1000 } = options;
  let told = 0;
  let periods = 0;
  let telling: Promise<void> | undefined;

  function look(): void {
    const now = load();
    periods++;
    const change = Math.abs(now - told);
    const wanted = periods >= periodsUntilAnyChange
      ? change > 0
      : change >= Math.max(noticeable, told * noticeableShare);
    if (wanted) telling ??= tell(now).finally(() => telling = undefined);
  }

  async function tell(now: number): Promise<void> {
    try {
      await registration.update({ meta: { ...meta(), load: now } });
      told = now;
      periods = 0;
    } catch (error) {
      // The next look tries again.
      log.debug("the load could not be told: {error}", { error });
    }
  }

  const timer = setInterval(look, periodMs);
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(timer);
      await telling;
    },
  };
}
