/** What ticket measures. */
export const ticketMetrics = {
  gru_ticket_tickets_total: {
    type: "counter",
    help:
      "Answers to requests for a ticket; code: 0 for a ticket, else the errorCode of the answer",
    labels: ["code"],
  },
  gru_ticket_seconds: { type: "histogram", help: "Time to answer a request for a ticket" },
  gru_ticket_nodes: { type: "gauge", help: "Spears that get users" },
  gru_ticket_passed_over_total: {
    type: "counter",
    help: "Users who did not get the first spear of their order; why: full, or above its share",
    labels: ["why"],
  },
} as const;
