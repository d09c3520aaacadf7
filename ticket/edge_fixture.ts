/** An inner ticket with three spears that exist only in its registry; the test kills it. Arguments: its flags. */
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { clientAddress, spearService } from "@gru/spear/contract";
import { startTicket, ticketSchema } from "./ticket.ts";

const registry = new MemoryRegistry();
for (const id of [1, 2, 3]) {
  await registry.register({
    service: spearService,
    name: `spear${id}`,
    addresses: { [clientAddress]: `https://spear${id}.example.org` },
    startedAt: 0,
    meta: { weight: 1, capacity: 18_000, load: 0 },
  });
}
const profiles = new URL("./profiles/", import.meta.url);
const config = loadConfig({ program: "ticket", schema: ticketSchema, profiles, args: Deno.args });
await startTicket(config, { registry });
