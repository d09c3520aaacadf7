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
  gru_stat_hooks_sender: { type: "gauge", help: "1 on the stat that sends the events of hooks" },
  gru_stat_hooks_lag_seconds: {
    type: "gauge",
    help: "Age of the oldest event that an endpoint does not have yet, on the stat that sends",
  },
  gru_stat_hooks_endpoint_lag_seconds: {
    type: "gauge",
    help: "The same for each endpoint",
    labels: ["endpoint"],
  },
  gru_stat_hooks_endpoint_failing: {
    type: "gauge",
    help: "1 while an endpoint fails, rests after failures, or wants no more events",
    labels: ["endpoint"],
  },
  gru_stat_hooks_given_up_total: {
    type: "counter",
    help: "Events that were too old or too many to be kept for an endpoint that did not take them",
    labels: ["endpoint"],
  },
  gru_stat_hooks_events_total: {
    type: "counter",
    help: "Events sent to endpoints; result: delivered, or failed (they are sent again)",
    labels: ["endpoint", "result"],
  },
  gru_stat_commands_total: {
    type: "counter",
    help: "Commands over the HTTP API by route; result: ok or the status of the refusal",
    labels: ["command", "result"],
  },
} as const;
