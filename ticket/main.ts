import { runProgram } from "@gru/shared/program";
import { ticketConfig } from "./config.ts";
import { startTicket } from "./ticket.ts";

await runProgram({
  name: "ticket",
  schema: ticketConfig,
  profiles: new URL("./profiles/", import.meta.url),
  start: startTicket,
});
