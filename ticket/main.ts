import { runProgram } from "@gru/shared/program";
import { startTicket, ticketSchema } from "./ticket.ts";

if (import.meta.main) {
  await runProgram({
    name: "ticket",
    schema: ticketSchema,
    profiles: new URL("./profiles/", import.meta.url),
    start: (config) => startTicket(config),
  });
}
