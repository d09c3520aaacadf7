/** What programs measure that ask the business system for decisions. */
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
