/** What the console measures. */
export const minionsMetrics = {
  gru_minions_pages: { type: "gauge", help: "Open pages that get live data" },
  gru_minions_sign_ins_total: {
    type: "counter",
    help: "Attempts to sign in; result: signed in, wrong, or wait (too many wrong ones before)",
    labels: ["result"],
  },
} as const;
