import { runProgram } from "@gru/shared/program";
import { checkTicket, startTicket, ticketSchema } from "./ticket.ts";

if (import.meta.main) {
  await runProgram({
    name: "ticket",
    schema: ticketSchema,
    profiles: new URL("./profiles/", import.meta.url),
    check: checkTicket,
    start: (config, stop) => startTicket(config, { stop }),
  });
}
