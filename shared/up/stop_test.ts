/** A spear that stops, loses its name or never had it: what stat, operators and other clients see of its users meanwhile. */
import assert from "node:assert/strict";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { localClient } from "@gru/shared/rpc/local";
import { waitFor } from "@gru/shared/testing/harness";
import { statContract } from "@gru/stat/contract";
import { MemoryBus } from "../../spear/broker/memory.ts";
import { authenticated, modern, singleSpear } from "../../spear/spear_testing.ts";
import { type Json, TestClient } from "../../spear/test_client.ts";
import { startMemoryStat } from "./memory_stat.ts";

async function start() {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  const stat = stack.use(await startMemoryStat(registry));
  const shared = {
    registry,
    bus: new MemoryBus({ size: 1000, ageMs: 60_000, bytes: 1_000_000 }),
    stat: localClient(statContract, stat.handlers),
  };
  const owned = stack.move();
  const api = `http://127.0.0.1:${stat.httpPort}`;
  return {
    spear: async (id: number, flags: Readonly<Record<string, string | number>> = {}) => {
      const all = { registry: "memory:", id, monitorPort: 0, reportMs: 50, ...flags };
      const spear = await singleSpear(all, shared);
      // Before that no command reaches it.
      await waitFor(() => spear.readiness.served);
      return spear;
    },
    presence: async (): Promise<number> =>
      (await (await fetch(`${api}/groups/10/presence`)).json()).users,
    post: async (path: string, body: unknown): Promise<Json> => {
      const headers = { "content-type": "application/json" };
      const request = { method: "POST", headers, body: JSON.stringify(body) };
      return await (await fetch(`${api}${path}`, request)).json();
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function enter(address: string, id: number, options: { presence?: boolean } = {}) {
  const client = await authenticated(address, id);
  const subscribeGroups = [{ id: 10, ...options }];
  const result = await client.request("subscribe", { userId: id, subscribeGroups });
  assert.equal(result.success, true);
  return client;
}

Deno.test("the users of a stopping spear are online, and kicks and bans reach them, until they are gone", async () => {
  await using gru = await start();
  const leaving = await gru.spear(1, { drainMs: 2500 });
  await using staying = await gru.spear(2);
  await using watcher = await enter(staying.address, 99, { presence: true });
  const clients = [];
  for (let id = 1; id <= 10; id++) clients.push(await enter(leaving.address, id));
  await waitFor(async () => await gru.presence() === 11);

  const began = performance.now();
  const stopped = leaving[Symbol.asyncDispose]();
  await clients[0]?.next("move");
  assert.equal(clients.filter((client) => client.connected).length, 10);
  assert.equal(await gru.presence(), 11);
  assert.equal((await watcher.request("online", 10)).data.userIds.length, 11);
  const { connections } = await gru.post("/users/10/kick", { reason: "spam", banMs: 60_000 });
  assert.equal(connections, 1);
  await clients[9]?.closed;
  const left = [];
  while (performance.now() - began < 1500) {
    const connected: number = clients.filter((client) => client.connected).length;
    assert.ok(await gru.presence() >= connected, "a connected user is offline");
    left.push(...watcher.pending("presence").flatMap((change) => change.left));
  }
  await Promise.all(clients.map((client) => client.closed));
  await stopped;
  await waitFor(async () => await gru.presence() === 1);
});

Deno.test("a client that authenticates while its spear is being emptied is asked to move, too", async () => {
  await using gru = await start();
  const leaving = await gru.spear(1, { drainMs: 1500 });
  await using staying = await gru.spear(2);
  const [first, late] = [
    await authenticated(leaving.address, 1),
    await TestClient.connect(leaving.address, modern),
  ];
  const stopped = leaving[Symbol.asyncDispose]();
  await first.next("move");
  assert.equal((await late.request("auth", { id: 2 })).success, true);
  assert.equal((await late.next("move")).addr, staying.address);
  await Promise.all([first.closed, late.closed, stopped]);
});

Deno.test("a spear whose name is taken says nothing to stat, and disturbs nobody", async () => {
  await using gru = await start();
  await using spear = await gru.spear(1);
  await using watcher = await enter(spear.address, 99, { presence: true });
  assert.deepEqual((await watcher.next("presence")).joined, [99]);
  await assert.rejects(gru.spear(1), { name: "NameTakenError" });
  for (let looks = 0; looks < 20; looks++) assert.equal(await gru.presence(), 1);
  assert.deepEqual(watcher.pending("presence"), []);
});
