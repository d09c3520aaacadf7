import type { EventData, EventKind } from "./event.ts";
import { outboxCases } from "./outbox_conformance.ts";
import { MemoryOutbox } from "./outbox_memory.ts";
import { MemoryStream } from "./stream_memory.ts";

for (const { name, run } of outboxCases) {
  Deno.test(`MemoryOutbox: ${name}`, async () => {
    const stream = new MemoryStream();
    const outbox = new MemoryOutbox(stream);
    await run({
      ...{ outbox, other: outbox },
      add: async (kind: EventKind, subject, data) =>
        stream.add(kind, subject, data as EventData<typeof kind>),
      [Symbol.asyncDispose]: async () => {},
    });
  });
}
