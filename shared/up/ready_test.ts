/** Nobody is sent to a spear that has another secret for tokens than the cluster. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { localClient } from "@gru/shared/rpc/local";
import { statContract } from "@gru/stat/contract";
import { MemoryBus } from "../../spear/broker/memory.ts";
import { singleSpear } from "../../spear/spear_testing.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";
import { startMemoryStat } from "./memory_stat.ts";

Deno.test("ticket passes over a spear with another token2 secret, which says so and lets nobody in", async () => {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  const stat = stack.use(await startMemoryStat(registry));
  const shared = {
    registry,
    bus: new MemoryBus({ size: 10, ageMs: 60_000 }),
    stat: localClient(statContract, stat.handlers),
  };
  const [right, wrong] = ["r".repeat(32), "w".repeat(32)];
  const config = loadConfig({
    program: "ticket",
    schema: ticketSchema,
    profiles: new URL("../../ticket/profiles/", import.meta.url),
    args: ["--port=0", "--registry=memory:", "--auth.scheme=jwt"],
    environment: (name) => ({ GRU_TOKEN1_SECRET: "1".repeat(32), GRU_TOKEN2_SECRET: right })[name],
  });
  const ticket = stack.use(await startTicket(config, { registry }));
  const start = async (id: number, secret: string) =>
    stack.use(
      await singleSpear(
        { registry: "memory:", id, monitorPort: 0, "auth.scheme": "jwt" },
        shared,
        { GRU_TOKEN2_SECRET: secret },
      ),
    );
  const [first, other] = [await start(1, right), await start(2, wrong)];
  const { nodes } = await (await fetch(`${ticket.address}/nodes`)).json();
  assert.deepEqual(nodes.map(({ name }: { name: string }) => name), ["spear1"]);
  assert.equal(first.readiness.serving, true);
  const ready = await fetch(`${other.monitorAddress}/readyz`);
  assert.equal(ready.status, 503);
  const { checks, missing } = await ready.json();
  assert.equal(checks.tokens, false);
  assert.match(missing.tokens, /GRU_TOKEN2_SECRET.*ticket1, spear1/);
  const polling = await fetch(`${other.address}/socket.io/?EIO=4&transport=polling`);
  assert.equal(polling.ok, false);
  await polling.body?.cancel();
});
