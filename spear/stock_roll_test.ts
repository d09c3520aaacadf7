import assert from "node:assert/strict";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { freePort, waitFor } from "@gru/shared/testing/harness";
import { MemoryBus } from "./broker/memory.ts";
import { singleSpear } from "./spear_testing.ts";
import { type Stock, stockClients } from "./stock_testing.ts";

Deno.test("a hundred stock clients are back by themselves after a rolling restart of three spears", async () => {
  await using registry = new MemoryRegistry();
  const bus = new MemoryBus({ size: 1000, ageMs: 60_000 });
  const ports = [1, 2, 3].map(() => ({ port: freePort(), monitorPort: freePort() }));
  const start = (i: number) =>
    singleSpear({ ...ports[i], id: i + 1, drainMs: 2000 }, { registry, bus });
  const spears = await Promise.all(ports.map((_, i) => start(i)));
  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await Promise.all(spears.map((spear) => spear[Symbol.asyncDispose]()));
  });
  const ways = stockClients.filter(({ name }) => /client 4/.test(name));
  const clients: Stock[][] = [[], [], []];
  for (let i = 0; i < 100; i++) {
    const { address } = spears[i % 3] ?? assert.fail();
    // As they are without options: they wait for one to five seconds.
    const client = await ways[i % ways.length]?.open(address, { delays: {} });
    if (client === undefined) continue;
    stack.use(client);
    clients[i % 3]?.push(client);
  }
  const all = clients.flat();
  await waitFor(() => all.every(({ authentications }) => authentications === 1));
  const tookMs: number[] = [];
  for (let i = 0; i < spears.length; i++) {
    await spears[i]?.[Symbol.asyncDispose]();
    spears[i] = await start(i);
    const began = performance.now();
    await waitFor(
      () => clients[i]?.every(({ authentications }) => authentications === 2) ?? false,
      {
        timeoutMs: 60_000,
      },
    );
    tookMs.push(Math.round(performance.now() - began));
  }
  for (const client of all) {
    client.emit("msg", { type: 0, target: { id: client.userId }, content: "back" });
  }
  await waitFor(() => all.every((client) => client.received("msg").length === 1));
  for (const { connected, connections, ends } of all) {
    assert.deepEqual([connected, connections, ends.length], [true, 2, 1]);
    assert.notEqual(ends[0], "io server disconnect");
  }
  // deno-lint-ignore no-console -- for people
  console.log(
    `  100 of 100 are back; after each node was up again, all of its clients in ms: ${tookMs}`,
  );
});
