/** What stat measures. */
export const statMetrics = {
  gru_stat_reports_total: {
    type: "counter",
    help: "Reports of spears; result: changes, full, resync or refused",
    labels: ["result"],
  },
  gru_stat_users: {
    type: "gauge",
    help: "Users online in the cluster, each once, as last counted",
  },
  gru_stat_groups: {
    type: "gauge",
    help: "Groups with users in the cluster, each once, as last counted",
  },
  gru_stat_store_connected: { type: "gauge", help: "1 while Redis answers" },
  gru_stat_store_seconds: {
    type: "histogram",
    help: "Calls to Redis by script; result: ok or failed",
    labels: ["call", "result"],
  },
  gru_stat_commands_total: {
    type: "counter",
    help: "Commands over the HTTP API by route; result: ok or the status of the refusal",
    labels: ["command", "result"],
  },
} as const;
