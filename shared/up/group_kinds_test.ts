/** Two nodes and stat in this process, with kinds of groups: what holds over the nodes, and what `@gru/client` makes of it. */
import assert from "node:assert/strict";
import { connect, type Message, type Missed } from "@gru/client";
import { idgenContract } from "@gru/idgen/contract";
import { loadConfig } from "@gru/shared/config";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { localClient } from "@gru/shared/rpc/local";
import { waitFor } from "@gru/shared/testing/harness";
import { statContract } from "@gru/stat/contract";
import { MemoryBus } from "../../spear/broker/memory.ts";
import { spearSchema } from "../../spear/config.ts";
import { startSpear } from "../../spear/spear.ts";
import { authenticated } from "../../spear/spear_testing.ts";
import type { TestClient } from "../../spear/test_client.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { startTicket, ticketSchema } from "../../ticket/ticket.ts";
import { idgenIn } from "./up_testing.ts";

const reportMs = 100;

async function start(groups: readonly object[]) {
  await using stack = new AsyncDisposableStack();
  const registry = stack.use(new MemoryRegistry());
  const load = (program: string, flags: Readonly<Record<string, string | number>> = {}) => ({
    program,
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    environment: () => undefined,
    args: Object.entries({ registry: "memory:", "log.level": "error", port: 0, ...flags })
      .map(([key, value]) => `--${key}=${value}`),
  });
  const idgen = stack.use(await idgenIn(registry));
  const statConfig = loadConfig({
    ...load("stat", { httpPort: 0, redis: "memory:" }),
    schema: statSchema,
  });
  const stat = stack.use(await startStat(statConfig, { registry }));
  const spears = [];
  const kinds = spearSchema.shape.groups.parse(groups);
  let bus: MemoryBus | undefined;
  for (const id of [1, 2]) {
    const config = loadConfig({
      ...load("spear", { id, mode: "single", drainMs: 0, reportMs }),
      schema: spearSchema,
    });
    bus ??= new MemoryBus(config.history);
    const others = {
      ...{ registry, bus, idgen: localClient(idgenContract, idgen.handlers) },
      stat: localClient(statContract, stat.handlers),
    };
    spears.push(stack.use(await startSpear({ ...config, groups: kinds }, others)));
  }
  const ticket = stack.use(
    await startTicket(loadConfig({ ...load("ticket"), schema: ticketSchema }), { registry }),
  );
  const running = stack.move();
  return {
    addresses: spears.map(({ address }) => address),
    monitors: spears.map(({ monitorAddress }) => monitorAddress),
    ticket: ticket.address,
    [Symbol.asyncDispose]: () => running.disposeAsync(),
  };
}

function subscribe(client: TestClient, userId: number, id: string) {
  return client.request("subscribe", { userId, subscribeGroups: [{ id }] });
}

Deno.test("a group's places are counted over the nodes", async () => {
  await using gru = await start([{ match: "class:*", members: 1 }]);
  const [one = "", other = ""] = gru.addresses;
  await using ann = await authenticated(one, 1);
  assert.equal((await subscribe(ann, 1, "class:1")).success, true);
  await using bob = await authenticated(other, 2);
  await waitFor(async () => (await bob.request("online", "class:1")).data.userIds.length === 1);
  const refused = await subscribe(bob, 2, "class:1");
  assert.deepEqual([refused.errorCode, refused.msg], [
    1002,
    "subscribe: group class:1 is full: it has 1 users, of 1 at most",
  ]);
  // A user who is in has a place wherever it comes in.
  await using annAtHome = await authenticated(other, 1);
  assert.equal((await subscribe(annAtHome, 1, "class:1")).success, true);

  for (const client of [ann, annAtHome]) {
    await client.request("unsubscribe", { userId: 1, subscribeGroups: [{ id: "class:1" }] });
  }
  await waitFor(async () => (await subscribe(bob, 2, "class:1")).success);
});

Deno.test("without echo @gru/client misses nothing, and is not given what it sent", async () => {
  await using gru = await start([{ match: "live:*", echo: false, presence: false }]);
  await using stack = new AsyncDisposableStack();
  const clients = [1, 2].map((id) => {
    const client = connect({
      ...{ ticket: gru.ticket, user: { id, name: `${id}` } },
      connectMs: 30_000,
    });
    stack.defer(() => client.close());
    const messages: Message[] = [];
    const missed: Missed[] = [];
    const room = client.group("live:1", { presence: true });
    room.on("message", (message) => messages.push(message));
    room.on("missed", (one) => missed.push(one));
    return { client, room, messages, missed };
  });
  const [ann, bob] = clients;
  assert.ok(ann && bob);
  await waitFor(() => ann.room.position !== undefined && bob.room.position !== undefined);
  for (const n of [1, 2, 3]) {
    await ann.room.send(`ann ${n}`);
    await bob.room.send(`bob ${n}`);
  }
  await waitFor(() => ann.messages.length >= 3 && bob.messages.length >= 3);
  await waitFor(() => ann.room.position?.seq === 6 && bob.room.position?.seq === 6);
  assert.deepEqual(ann.messages.map(({ content }) => content), ["bob 1", "bob 2", "bob 3"]);
  assert.deepEqual(bob.messages.map(({ content }) => content), ["ann 1", "ann 2", "ann 3"]);
  assert.deepEqual([...ann.missed, ...bob.missed], []);
  assert.deepEqual([...ann.room.users], []);
  for (const monitor of gru.monitors) {
    const metrics = await (await fetch(`${monitor}/metrics`)).text();
    assert.doesNotMatch(metrics, /event="online"/, "nobody asks for what there is not");
  }
});

Deno.test("ephemeral messages come to @gru/client over nodes, and leave it where it is", async () => {
  await using gru = await start([{ match: "typing:*", ephemeral: true }]);
  const [one = "", other = ""] = gru.addresses;
  await using sender = await authenticated(one, 9);
  await using listener = await authenticated(other, 8);
  assert.equal((await subscribe(listener, 8, "typing:1")).success, true);
  const client = connect({ ticket: gru.ticket, user: { id: 1, name: "1" }, connectMs: 30_000 });
  await using _closing = { [Symbol.asyncDispose]: () => client.close() };
  const messages: Message[] = [];
  const room = client.group("typing:1");
  room.on("message", (message) => messages.push(message));
  room.on("missed", () => assert.fail("nothing is missing"));
  await waitFor(() => room.position !== undefined);
  const before = room.position;
  const argument = { type: 1, target: { id: "typing:1" }, content: "9 types" };
  assert.equal((await sender.request("msg", argument)).success, true);
  await waitFor(() => messages.length >= 1);
  assert.equal((await listener.next("msg")).content, "9 types");
  const { id, seq, epoch } = await room.send("1 types");
  assert.deepEqual([seq, epoch], [0, ""]);
  await waitFor(() => messages.length >= 2);
  assert.deepEqual(messages.map(({ content }) => content), ["9 types", "1 types"]);
  assert.equal(messages[1]?.id, id);
  assert.deepEqual(room.position, before);
});
