/**
 * Compares this program's clock with the registry's, which all programs can read. Reports a difference of more than a
 * second in the log, as the metric `gru_clock_offset_seconds`, and to the other programs.
 */
import { FollowedClock } from "./clock.ts";
import type { Logger } from "./log.ts";
import { openMetrics, type Registry as MetricsRegistry } from "./metrics.ts";
import type { Registry } from "./registry/registry.ts";
import { repeat } from "./repeat.ts";
import { within } from "./within.ts";

export const clockMetrics = {
  gru_clock_offset_seconds: {
    type: "gauge",
    help: "By how much this machine's clock is ahead of the registry's; NaN: not known yet",
  },
} as const;

export interface ClockWatch extends Disposable {
  /**
   * Unix milliseconds for others: this machine's clock, or the registry's while the two differ by more than a second.
   */
  now(): number;
  /** How many seconds this machine's clock is ahead, if more than one. */
  readonly offsetSeconds: number | undefined;
}

export interface ClockWatchOptions {
  readonly registry: Pick<Registry, "now">;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  /** Called after each measurement. */
  readonly onMeasured: () => void;
  /** When aborted, the first measurement is not waited for. */
  readonly stop?: AbortSignal | undefined;
  /** Default 20 000. */
  readonly periodMs?: number;
}

const toleratedMs = 1000;
/** Below this difference the clocks agree again. Lower than the first limit, so that the log does not alternate. */
const agreedMs = 900;
/** The longest time that a start waits for the first measurement. */
const firstMs = 2000;

export async function watchClock(options: ClockWatchOptions): Promise<ClockWatch> {
  const { registry, metrics, log, onMeasured, periodMs = 20_000 } = options;
  const followed = new FollowedClock();
  let off = false;

  openMetrics(metrics, clockMetrics, {
    gru_clock_offset_seconds: () => followed.ahead === undefined ? NaN : followed.ahead.ms / 1000,
  });

  function judge(): void {
    if (followed.ahead === undefined) return;
    const { ms, errorMs } = followed.ahead;
    const apartMs = Math.abs(ms);
    if (!off && apartMs > toleratedMs + errorMs) {
      off = true;
      const side = ms > 0 ? "ahead of" : "behind";
      log.warn(
        `the clock of this machine is {seconds} s ${side} the registry's: set it, for example by NTP; tokens of scheme jwt ` +
          "are issued and verified with it",
        { seconds: Math.round(apartMs / 100) / 10 },
      );
    } else if (off && apartMs < agreedMs) {
      off = false;
      log.info("the clock of this machine agrees with the registry's again");
    }
  }

  async function measure(signal: AbortSignal): Promise<void> {
    const askedAt = performance.now();
    try {
      followed.learn(await registry.now(), askedAt);
    } catch (error) {
      // The registry reports its outages itself.
      if (!signal.aborted) log.debug("the registry's clock: {error}", { error });
    }
    if (signal.aborted) return;
    judge();
    onMeasured();
  }

  const first = Promise.withResolvers<void>();
  const measuring = repeat(async (signal) => {
    await measure(signal);
    first.resolve();
    return periodMs;
  });
  options.stop?.addEventListener("abort", () => first.resolve(), { once: true });
  if (!options.stop?.aborted) await within(first.promise, firstMs);
  return {
    now: () => off ? followed.now() : Date.now(),
    get offsetSeconds() {
      return off && followed.ahead !== undefined ? Math.round(followed.ahead.ms / 1000) : undefined;
    },
    // A measurement under way has no effect any more, and ends with the registry at the latest.
    [Symbol.dispose]: () => void measuring[Symbol.asyncDispose](),
  };
}
