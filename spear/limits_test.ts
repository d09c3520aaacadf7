import assert from "node:assert/strict";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { MemoryBus } from "./broker/memory.ts";
import { RawClient } from "./load/raw_client.ts";
import { authenticated, modern, singleSpear, spawnSpear } from "./spear_testing.ts";
import { type Json, TestClient } from "./test_client.ts";

Deno.test("a connection sends no more messages a second than the profile allows", async () => {
  await using spear = await singleSpear({ "limits.messagesPerSecond": 5 });
  await using client = await authenticated(spear.address);
  const results: Json[] = await Promise.all(
    Array.from(
      { length: 20 },
      () => client.request("msg", { type: 0, target: { id: 1 }, content: "x" }),
    ),
  );
  const accepted = results.filter(({ success }) => success);
  assert.ok(accepted.length >= 5 && accepted.length < 20, `${accepted.length} accepted`);
  const [refused] = results.filter(({ success }) => !success);
  assert.equal(refused.errorCode, 1002);
  assert.match(refused.msg, /not accepted: more than 5 messages a second/);
  await waitFor(() => client.pending("msg").length === accepted.length);
  await waitFor(async () =>
    (await client.request("msg", { type: 0, target: { id: 1 }, content: "x" })).success
  );
});

Deno.test("a user has no more connections to a node than the profile allows", async () => {
  await using spear = await singleSpear({ "limits.connectionsPerUser": 1 });
  await using _first = await authenticated(spear.address, 1);
  await using second = await TestClient.connect(spear.address, modern);
  const result = await second.request("auth", { id: 1 });
  assert.equal(result.errorCode, 1002);
  assert.match(result.msg, /user 1 has 1 connections/);
  await second.closed;
  await using _other = await authenticated(spear.address, 2);
});

Deno.test("a node that is full refuses the handshake", async () => {
  await using spear = await singleSpear({ "limits.connections": 1 });
  const first = await authenticated(spear.address, 1);
  await assert.rejects(TestClient.connect(spear.address, modern));
  await first[Symbol.asyncDispose]();
  await waitFor(async () => {
    const client = await TestClient.connect(spear.address, modern).catch(() => undefined);
    await client?.[Symbol.asyncDispose]();
    return client !== undefined;
  });
});

Deno.test("presence tells who comes and goes, each user once, and only those who ask", async () => {
  await using spear = await singleSpear({ reportMs: 50 });
  await using watcher = await authenticated(spear.address, 1);
  await using other = await authenticated(spear.address, 2);
  const join = (userId: number, presence?: boolean) => ({
    userId,
    subscribeGroups: [{ id: 10, presence }],
  });
  await watcher.request("subscribe", join(1, true));
  assert.deepEqual(await watcher.next("presence"), { groupId: 10, joined: [1], left: [] });
  await other.request("subscribe", join(2));
  assert.deepEqual(await watcher.next("presence"), { groupId: 10, joined: [2], left: [] });
  const again = await authenticated(spear.address, 2);
  await again.request("subscribe", join(2));
  await again[Symbol.asyncDispose]();
  await other.request("unsubscribe", join(2));
  assert.deepEqual(await watcher.next("presence"), { groupId: 10, joined: [], left: [2] });
  assert.deepEqual(other.pending("presence"), []);
});

slowTest("a stopping node sends its clients to another; who knows how loses nothing", async () => {
  await using registry = new MemoryRegistry();
  const bus = new MemoryBus({ size: 1000, ageMs: 60_000 });
  const flags = { drainMs: 2000 };
  const leaving = await singleSpear({ ...flags, id: 1 }, { registry, bus });
  await using staying = await singleSpear({ ...flags, id: 2 }, { registry, bus });
  await using sender = await authenticated(staying.address, 1);
  let sent = 0;
  const sending = setInterval(() => {
    sent++;
    sender.send("msg", { type: 1, target: { id: 10 }, content: `${sent}` });
  }, 5);
  const seen = new Map<number, number[]>();
  const simple = await authenticated(leaving.address, 99);

  async function live(client: TestClient, userId: number, since?: object): Promise<object> {
    const group = { id: 10, since };
    const { data } = await client.request("subscribe", { userId, subscribeGroups: [group] });
    let { epoch, seq } = data.positions[0];
    const moved = client.next("move");
    let stop = false;
    const move = moved.then(async (argument) => {
      await new Promise((resolve) => setTimeout(resolve, argument.delayMs));
      stop = true;
      return argument;
    });
    while (!stop) {
      await waitFor(() => stop || client.pending("msg").length > 0);
      while (client.pending("msg").length > 0) {
        const message = await client.next("msg");
        ({ epoch, seq } = message);
        seen.getOrInsertComputed(userId, () => []).push(seq);
      }
    }
    return { argument: await move, since: { epoch, seq } };
  }

  const users = Array.from({ length: 10 }, (_, i) => i + 2);
  const moving = users.map(async (userId) => {
    const client = await authenticated(leaving.address, userId);
    // deno-lint-ignore no-explicit-any
    const { argument, since } = await live(client, userId) as any;
    assert.equal(argument.addr, staying.address);
    const next = await TestClient.connect(argument.addr, modern);
    await next.request("auth", { id: userId, token2: argument.token });
    await client[Symbol.asyncDispose]();
    const group = { id: 10, since };
    const result = await next.request("subscribe", { userId, subscribeGroups: [group] });
    assert.equal(result.data.positions[0].recovered, true);
    return { next, userId };
  });
  await waitFor(() => seen.size === users.length);
  await leaving[Symbol.asyncDispose]();
  await simple.closed;
  const moved = await Promise.all(moving);
  clearInterval(sending);
  await sender.request("online", 10);
  const { data: { seq: head } } = await sender.request("msg", {
    type: 1,
    target: { id: 10 },
    content: "end",
  });
  for (const { next, userId } of moved) {
    const seqs = seen.get(userId) ?? [];
    await waitFor(() => next.pending("msg").at(-1)?.seq === head);
    seqs.push(...next.pending("msg").map(({ seq }) => seq));
    const first = seqs[0] ?? 0;
    assert.deepEqual(seqs, Array.from({ length: head - first + 1 }, (_, i) => first + i));
    await next[Symbol.asyncDispose]();
  }
});

/** Authenticated as a user and in group 10; reads until told to pause. */
async function rawMember(address: string, userId: number, packets: string[]): Promise<RawClient> {
  const { hostname, port } = new URL(address);
  const client = await RawClient.connect({
    host: hostname,
    port: Number(port),
    onPacket: (packet) => packets.push(packet.toString()),
  });
  client.send(`20["auth",{"id":${userId}}]`);
  client.send(`21["subscribe",{"userId":${userId},"subscribeGroups":[{"id":10}]}]`);
  await waitFor(() => packets.some((packet) => packet.startsWith("31")));
  return client;
}

for (const policy of ["disconnect", "skip"] as const) {
  slowTest(
    `a client that does not read is bounded by policy ${policy}, and slows nobody`,
    async () => {
      await using spear = await spawnSpear({
        slowConsumer: policy,
        "limits.waitingBytes": 500_000,
        "limits.messagesPerSecond": 100_000,
        "history.size": 10,
      });
      const slowPackets: string[] = [];
      const slow = await rawMember(spear.address, 2, slowPackets);
      await using reader = await authenticated(spear.address, 1);
      await reader.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10 }] });
      slow.pause();
      const count = 10_000;
      const content = "x".repeat(50_000);
      const sentBytes = count * content.length;
      let peak = 0;
      for (let i = 1; i <= count; i++) {
        const { success } = await reader.request("msg", { type: 1, target: { id: 10 }, content });
        assert.equal(success, true);
        assert.equal((await reader.next("msg")).seq, i);
        if (i % 200 === 0) peak = Math.max(peak, await spear.residentBytes());
      }
      // Garbage included. What waits for the slow one must not add up to what was sent.
      assert.ok(peak < sentBytes, `${peak} bytes resident, ${sentBytes} sent past the slow client`);
      // deno-lint-ignore no-console -- for people
      console.log(
        `  ${policy}: ${sentBytes / 1e6} MB sent past it, ${
          Math.round(peak / 1e6)
        } MB resident at most`,
      );
      slow.resume();
      if (policy === "disconnect") {
        await slow.closed;
      } else {
        await waitFor(() => slowPackets.at(-1)?.includes(`"seq":${count},`) ?? false);
        const missed = slowPackets.filter((packet) => packet.startsWith('2["missed"'))
          .map((packet) => JSON.parse(packet.slice(1))[1]);
        const got = slowPackets.filter((packet) => packet.startsWith('20["msg"'))
          .map((packet) => JSON.parse(packet.slice(2))[1].seq);
        // Every message came, or its absence was told.
        const told = missed.flatMap(({ from, to }) =>
          Array.from({ length: to - from + 1 }, (_, i) => from + i)
        );
        assert.ok(told.length > 0);
        assert.deepEqual(
          [...got, ...told].sort((a, b) => a - b),
          Array.from({ length: count }, (_, i) => i + 1),
        );
        assert.deepEqual(got, got.toSorted((a, b) => a - b));
        slow.close();
        await slow.closed;
      }
    },
  );
}
