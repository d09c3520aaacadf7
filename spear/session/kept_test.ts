import assert from "node:assert/strict";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { EventError, type Result } from "../wire.ts";
import { RawClient } from "../load/raw_client.ts";
import { authenticated, modern, singleSpear } from "../spear_testing.ts";
import { stockClients } from "../stock_testing.ts";
import { type Json, TestClient } from "../test_client.ts";
import { Kept, KeptRoom } from "./kept.ts";

/** Old clients leave timers behind for a while: their tests are the last. */
const leavesTimers = { sanitizeOps: false, sanitizeResources: false };

function isRefusal(error: unknown): boolean {
  return error instanceof EventError && error.errorCode === 1002 &&
    /too much waits for auth/.test(error.message) && error.ends === undefined;
}

Deno.test("Kept is bounded in events and in their size, and for a whole node", async () => {
  const room = new KeptRoom(100_000);
  const results: Result[] = [];
  const keep = (kept: Kept, size: number) =>
    kept.keep("msg", "x".repeat(size), 3, (result) => results.push(result));
  const many = new Kept(room);
  const waiting = Array.from({ length: 500 }, () => keep(many, 1));
  assert.throws(() => keep(many, 1), isRefusal);
  many.refuse();
  assert.deepEqual(await Promise.all(waiting), waiting.map(() => false));
  assert.equal(results.length, 500);
  const large = new Kept(room);
  const first = keep(large, 60_000);
  assert.throws(() => keep(large, 6000), isRefusal);
  const other = new Kept(room);
  assert.throws(() => keep(other, 60_000), isRefusal);
  large.drop();
  assert.equal(await first, false);
  // What is gone has given its room back.
  const last = keep(other, 60_000);
  other.admit();
  assert.equal(await last, true);
  assert.equal(results.length, 500);
});

for (const event of ["subscribe", "unsubscribe", "msg", "online", "nonsense"]) {
  slowTest(
    `${event} without an auth in time is answered by an error before the disconnect, and has no effect`,
    async () => {
      await using spear = await singleSpear({ "limits.authMs": 300 });
      await using witness = await authenticated(spear.address, 2);
      await witness.request("subscribe", { userId: 2, subscribeGroups: [{ id: 10 }] });
      await using client = await TestClient.connect(spear.address, modern);
      const argument = event === "msg"
        ? { type: 1, target: { id: 10 }, content: "x" }
        : { userId: 1, subscribeGroups: [{ id: 10 }] };
      const result = await client.request(event, event === "online" ? 10 : argument);
      assert.equal(result.errorCode, 1002);
      assert.equal(result.msg, `${event}: not authenticated`);
      await client.closed;
      assert.deepEqual((await witness.request("online", 10)).data.userIds, [2]);
      assert.deepEqual(witness.pending("msg"), []);
    },
  );
}

Deno.test("what came before a refused auth is answered behind that, and has no effect", async () => {
  await using spear = await singleSpear();
  await using witness = await authenticated(spear.address, 2);
  await using client = await TestClient.connect(spear.address, modern);
  const answers: string[] = [];
  const ask = async (event: string, argument: unknown) => {
    const { errorCode, msg }: Json = await client.request(event, argument);
    answers.push(`${errorCode} ${msg.slice(0, 21)}`);
  };
  await Promise.all([
    ask("msg", { type: 0, target: { id: 2 }, content: "x" }),
    ask("online", 1),
    ask("auth", { id: 0 }),
    client.closed,
  ]);
  assert.deepEqual(answers, [
    "1003 auth.id: expected a u",
    "1002 msg: not authenticate",
    "1002 online: not authentic",
  ]);
  await witness.request("online", 1);
  assert.deepEqual(witness.pending("msg"), []);
});

Deno.test("an event that came before auth takes effect before those behind it", async () => {
  await using spear = await singleSpear();
  const { hostname, port } = new URL(spear.address);
  const packets: string[] = [];
  const client = await RawClient.connect({
    ...{ host: hostname, port: Number(port) },
    onPacket: (packet) => packets.push(packet.toString()),
  });
  const subscribe = (id: number) =>
    `2${id}["subscribe",{"userId":1,"subscribeGroups":[{"id":${id}}]}]`;
  for (const packet of [subscribe(1), subscribe(2), '29["auth",{"id":1}]', subscribe(3)]) {
    client.send(packet);
  }
  await waitFor(() => packets.filter((packet) => /^3\d/.test(packet)).length === 4);
  const answers = packets.flatMap((packet) => /^3(\d)\[{"success":true/.exec(packet)?.[1] ?? []);
  assert.deepEqual(answers, ["9", "1", "2", "3"]);
  client.close();
  await client.closed;
});

slowTest("a client that floods before auth is cut off, and holds nothing", async () => {
  await using spear = await singleSpear({ "limits.authMs": 600_000 });
  const { hostname, port } = new URL(spear.address);
  const codes: number[] = [];
  const client = await RawClient.connect({
    ...{ host: hostname, port: Number(port), onPacket: () => {} },
    onCloseFrame: (code) => codes.push(code),
  });
  let closed = false;
  void client.closed.then(() => closed = true);
  while (!closed) {
    for (let i = 0; i < 100; i++) client.send('2["online",10]');
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(codes, [4029]);
});

for (const stock of stockClients) {
  slowTest({
    name:
      `what ${stock.name} buffered while offline is accepted in order, once it has authenticated`,
    ...leavesTimers,
    fn: async () => {
      await using spear = await singleSpear();
      await using client = await stock.open(spear.address);
      const { userId } = client;
      const order: string[] = [];
      // It is not connected yet.
      client.emit("subscribe", { userId, subscribeGroups: [{ id: 10 }] }, ({ success }) => {
        order.push(`subscribe ${success}`);
      });
      for (let i = 0; i < 100; i++) {
        const message = { type: 1, target: { id: 10 }, content: `早 ${i}` };
        client.emit("msg", message, ({ success }) => order.push(`msg ${success}`));
      }
      client.emit("unsubscribe", { userId, subscribeGroups: [{ id: 10 }] }, ({ success }) => {
        order.push(`unsubscribe ${success}`);
      });
      await waitFor(() => order.length === 102);
      assert.deepEqual(
        order,
        ["subscribe true", ...Array<string>(100).fill("msg true"), "unsubscribe true"],
      );
      assert.deepEqual(
        client.received("msg").map(({ content }) => content),
        Array.from({ length: 100 }, (_, i) => `早 ${i}`),
      );
      assert.deepEqual([client.connections, client.ends], [1, []]);
    },
  });
}

slowTest({
  name: "what is too much to wait for auth is answered by 1002, and costs a stock client nothing",
  ...leavesTimers,
  fn: async () => {
    await using spear = await singleSpear();
    await Promise.all(stockClients.map(async (stock) => {
      await using client = await stock.open(spear.address);
      const results: Result[] = [];
      const message = { type: 0, target: { id: client.userId }, content: "x".repeat(10) };
      // In one request of polling there is no room for more.
      const count = 800;
      for (let i = 0; i < count; i++) client.emit("msg", message, (result) => results.push(result));
      await waitFor(() => results.length === count);
      const accepted = results.filter(({ success }) => success).length;
      // The first ones emit `auth` before what they buffered.
      const isFirst = /client 1/.test(stock.name);
      assert.ok(isFirst ? accepted >= 500 : accepted === 500, `${stock.name}: ${accepted}`);
      for (const { success, errorCode, msg } of results) {
        if (success) continue;
        assert.equal(errorCode, 1002);
        assert.match(msg, /^msg: not authenticated, and too much waits for auth already$/);
      }
      await waitFor(() => client.received("msg").length === accepted);
      assert.deepEqual([client.connections, client.authentications, client.ends], [1, 1, []]);
    }));
  },
});
