/** What is measured and logged of programs that ask the business system for decisions. */
import type { Logger } from "../log.ts";
import { type Opened, openMetrics, type Registry } from "../metrics.ts";
import type { AskError } from "./ask.ts";
import type { DecisionName } from "./decisions.ts";

export const decisionMetrics = {
  gru_decisions_total: {
    type: "counter",
    help:
      "Decisions by the business system; answer: allow, refuse, replace, hide (also from the cache), failed (no good answer), busy (too many under way), resting (not asked after failures)",
    labels: ["decision", "answer"],
  },
  gru_decisions_cached_total: {
    type: "counter",
    help: "Decisions of gru_decisions_total that an earlier answer gave",
    labels: ["decision"],
  },
  gru_decisions_under_way: {
    type: "gauge",
    help: "Requests for a decision that are not answered yet",
    labels: ["decision"],
  },
  gru_decisions_seconds: {
    type: "histogram",
    help: "Time from a request for a decision to its answer or failure",
    labels: ["decision"],
  },
} as const;

interface UnderWay {
  readonly underWay: number;
}

/** Counts what the askers of a program do, and logs when one of their receivers fails and recovers. */
export class DecisionWatch {
  readonly #log: Logger;
  readonly #metrics: Opened<typeof decisionMetrics>;
  readonly #askers = new Map<DecisionName, UnderWay[]>();

  constructor(registry: Registry, log: Logger) {
    this.#log = log;
    this.#metrics = openMetrics(registry, decisionMetrics, {
      gru_decisions_under_way: () =>
        [...this.#askers].map(([decision, askers]) =>
          [{ decision }, askers.reduce((sum, { underWay }) => sum + underWay, 0)] as const
        ),
    });
  }

  /** What an asker of this decision is opened with. @param url for people */
  options(decision: DecisionName, url: string) {
    const {
      gru_decisions_total: total,
      gru_decisions_cached_total: cachedTotal,
      gru_decisions_seconds: seconds,
    } = this.#metrics;
    return {
      onOutcome: (answer: string, cached: boolean) => {
        total.inc({ decision, answer });
        if (cached) cachedTotal.inc({ decision });
      },
      onAnswered: (took: number) => seconds.observe({ decision }, took),
      onTrouble: (error: AskError | undefined) => {
        const { origin } = new URL(url);
        if (error === undefined) {
          this.#log.info("{origin} decides {decision} again", { origin, decision });
        } else {
          this.#log.error(
            "{origin} does not decide {decision}: {reason}; what onFailure says is done until it answers",
            { origin, decision, reason: error.message },
          );
        }
      },
    };
  }

  /** Its questions under way are measured from now on. */
  add(decision: DecisionName, asker: UnderWay): void {
    this.#askers.getOrInsertComputed(decision, () => []).push(asker);
  }
}
