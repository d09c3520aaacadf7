/** What a client may make a spear do: every event has its price, and who goes on past refusals is cut off. */
import assert from "node:assert/strict";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { RawClient } from "../load/raw_client.ts";
import { authenticated, modern, singleSpear } from "../spear_testing.ts";
import { type Json, TestClient } from "../test_client.ts";

const small = {
  "limits.workAtOnce": 100,
  "limits.workPerSecond": 20,
  "limits.groupsPerConnection": 20,
};
const groups = (n: number, from = 1) => Array.from({ length: n }, (_, i) => ({ id: from + i }));

const floods: Readonly<Record<string, [event: string, argument: unknown]>> = {
  "online of a group": ["online", 10],
  "joining and leaving": ["subscribe", { userId: 1, subscribeGroups: groups(20) }],
  "leaving": ["unsubscribe", { userId: 1, subscribeGroups: groups(20) }],
  "auth": ["auth", { id: 1 }],
  "events that there are not": ["nonsense", { a: 1 }],
  "malformed arguments": ["subscribe", "{"],
  "large malformed arguments": ["subscribe", { x: "x".repeat(50_000) }],
  "large messages without content": ["msg", { x: "x".repeat(50_000) }],
  "messages with luggage": ["msg", {
    ...{ type: 0, target: { id: 1 }, content: "" },
    x: Array.from({ length: 20_000 }, () => 0),
  }],
};

for (const [name, [event, argument]] of Object.entries(floods)) {
  Deno.test(`${name}: refused with 1002 and a time to wait, and let through again after it`, async () => {
    await using spear = await singleSpear(small);
    await using client = await authenticated(spear.address);
    let refused: Json;
    for (let i = 0; i < 300 && refused === undefined; i++) {
      const result = await client.request(event, argument);
      if (result.errorCode === 1002 && result.data !== null) refused = result;
    }
    assert.equal(refused?.errorCode, 1002);
    assert.match(refused.msg, /not accepted: .*try again in/);
    assert.ok(refused.data.retryAfterMs > 0);
    await waitFor(async () => (await client.request("online", 10)).success, { what: "its budget" });
  });
}

slowTest(
  "a client that goes on past refusals is cut off with 4029; another one notices nothing",
  async () => {
    await using spear = await singleSpear(small);
    await using honest = await authenticated(spear.address, 2);
    const { hostname, port } = new URL(spear.address);
    const packets: string[] = [];
    const client = await RawClient.connect({
      host: hostname,
      port: Number(port),
      onPacket: (packet) => packets.push(packet.toString()),
    });
    client.send('20["auth",{"id":1}]');
    await waitFor(() => packets.some((packet) => packet.startsWith("30")));
    for (let i = 0; i < 2000; i++) client.send('2["online",10]');
    await client.closed;
    const answers = packets.filter((packet) => packet.startsWith('2["online_result"'));
    assert.ok(answers.length >= 100 && answers.length < 400, `${answers.length} answers`);
    assert.match(answers.at(-1) ?? "", /"retryAfterMs":/);
    assert.equal((await honest.request("online", 10)).success, true);
  },
);

slowTest("acknowledgements that nobody asked for end the connection, too", async () => {
  await using spear = await singleSpear(small);
  const { hostname, port } = new URL(spear.address);
  const client = await RawClient.connect({
    host: hostname,
    port: Number(port),
    onPacket: () => {},
  });
  client.send('20["auth",{"id":1}]');
  for (let i = 0; i < 5000; i++) client.send("30[]");
  await client.closed;
});

const ping = new Uint8Array([0x89, 0x80, 0, 0, 0, 0]);
const packets: Readonly<Record<string, (client: RawClient) => void>> = {
  "pongs of Engine.IO": (client) => client.sendEngine("3"),
  "packets of Engine.IO that say nothing": (client) => client.sendEngine("6"),
  "pings of WebSocket": (client) => void client.sendRaw(ping),
};

for (const [name, send] of Object.entries(packets)) {
  slowTest(`${name} by the thousand end the connection, before and after auth`, async () => {
    await using spear = await singleSpear(small);
    const { hostname, port } = new URL(spear.address);
    for (const isIn of [false, true]) {
      let code = 0;
      const client = await RawClient.connect({
        ...{ host: hostname, port: Number(port), onPacket: () => {} },
        onCloseFrame: (given) => code = given,
      });
      if (isIn) client.send('20["auth",{"id":1}]');
      for (let i = 0; i < 5000; i++) send(client);
      await client.closed;
      assert.equal(code, 4029);
    }
  });
}

slowTest("the connections of one user share a budget, others have their own", async () => {
  await using spear = await singleSpear({ ...small, "limits.userFactor": 2 });
  const refusals = async (client: TestClient) => {
    let refused = 0;
    for (let i = 0; i < 60; i++) {
      const { errorCode, data } = await client.request("online", 10);
      if (errorCode === 1002 && data !== null) refused++;
    }
    return refused;
  };
  const clients = [];
  for (let i = 0; i < 5; i++) clients.push(await authenticated(spear.address, 1));
  const refused = [];
  for (const client of clients) refused.push(await refusals(client));
  assert.equal(refused[0], 0);
  assert.ok((refused.at(-1) ?? 0) > 0, refused.join());
  await using other = await authenticated(spear.address, 2);
  assert.equal(await refusals(other), 0);
  // Nor may the user come with one more connection.
  await using more = await TestClient.connect(spear.address, modern);
  const result = await more.request("auth", { id: 1 });
  assert.equal(result.errorCode, 1002);
  assert.ok(result.data.retryAfterMs > 0);
  for (const client of clients) await client[Symbol.asyncDispose]();
});

Deno.test("what honest clients do is within the budget of the profiles", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  const all = { userId: 1, subscribeGroups: groups(1000) };
  assert.equal((await client.request("subscribe", all)).success, true);
  assert.equal((await client.request("unsubscribe", all)).success, true);
  const burst = await Promise.all(
    Array.from(
      { length: 1000 },
      () => client.request("msg", { type: 0, target: { id: 1 }, content: "x".repeat(1000) }),
    ),
  );
  assert.equal(burst.filter(({ success }: Json) => success).length, 1000);
  const asked = [];
  for (let i = 0; i < 50; i++) asked.push(await client.request("online", 1));
  assert.ok(asked.every(({ success }: Json) => success));
});

Deno.test("a client that has just come may ask for all its groups and who is there; it owes for it", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  const subscribeGroups = groups(1000).map((group) => ({ ...group, presence: true }));
  const entered = await client.request("subscribe", { userId: 1, subscribeGroups });
  assert.equal(entered.success, true, entered.msg);
  const again = await client.request("subscribe", { userId: 1, subscribeGroups });
  assert.ok(again.data.retryAfterMs > 0);
});

slowTest(
  "a list of a million groups is refused by its length, before it is looked at",
  async () => {
    await using spear = await singleSpear({ "limits.payloadBytes": 10_000_000 });
    await using client = await authenticated(spear.address);
    for (const entry of [0, "x", { id: 1 }, null]) {
      const subscribeGroups = Array.from({ length: 1_000_000 }, () => entry);
      for (const event of ["subscribe", "unsubscribe"]) {
        const { errorCode, msg, data } = await client.request(event, {
          userId: 1,
          subscribeGroups,
        });
        if (data === null) {
          assert.equal(errorCode, 1003);
          assert.match(msg, /subscribeGroups: expected 1000 groups at most, got 1000000/);
        } else assert.equal(errorCode, 1002);
      }
    }
  },
);

Deno.test("simultaneous auths do not get past the connections of a user", async () => {
  await using spear = await singleSpear({ "limits.connectionsPerUser": 2 });
  const clients = await Promise.all(
    Array.from({ length: 20 }, () => TestClient.connect(spear.address, modern)),
  );
  const results = await Promise.all(clients.map((client) => client.request("auth", { id: 5 })));
  assert.equal(results.filter(({ success }) => success).length, 2);
  for (const client of clients) await client[Symbol.asyncDispose]();
  // A place is given back.
  await waitFor(async () => {
    await using client = await TestClient.connect(spear.address, modern);
    return (await client.request("auth", { id: 5 })).success;
  });
});

async function raw(address: string): Promise<{ client: RawClient; packets: string[] }> {
  const { hostname, port } = new URL(address);
  const packets: string[] = [];
  const client = await RawClient.connect({
    ...{ host: hostname, port: Number(port) },
    onPacket: (packet) => packets.push(packet.toString()),
    onCloseFrame: (code) => packets.push(`closed ${code}`),
  });
  return { client, packets };
}

Deno.test("a packet that nests thousands of levels deep is not parsed, and ends its connection", async () => {
  await using spear = await singleSpear();
  const { client, packets } = await raw(spear.address);
  client.send(`2["msg",${"[".repeat(40_000)}${"]".repeat(40_000)}]`);
  await client.closed;
  assert.equal(packets.at(-1), "closed 4002");
});
