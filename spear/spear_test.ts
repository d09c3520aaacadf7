import assert from "node:assert/strict";
import fc from "fast-check";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { authenticated, modern, old, singleSpear } from "./spear_testing.ts";
import { dialects, type Json, TestClient } from "./test_client.ts";
import { code } from "./wire.ts";

function assertError(result: Json, errorCode: number, message: RegExp): void {
  assert.equal(result.success, false, JSON.stringify(result));
  assert.equal(result.errorCode, errorCode, JSON.stringify(result));
  assert.match(result.msg, message);
  assert.equal(result.data, null);
}

/** Event, argument, code, and what the message must name. */
const bad: readonly (readonly [string, unknown, number, RegExp])[] = [
  ["subscribe", null, 1003, /subscribe.*null/],
  ["subscribe", "{", 1003, /subscribe: expected JSON, got "{"/],
  ["subscribe", [1], 1003, /subscribe/],
  ["subscribe", { userId: 1 }, 1003, /subscribe\.subscribeGroups/],
  ["subscribe", { userId: 1, subscribeGroups: [] }, 1003, /at least one group/],
  ["subscribe", { userId: 1, subscribeGroups: {} }, 1003, /subscribeGroups.*an object/],
  ["subscribe", { userId: 1, subscribeGroups: [{}] }, 1003, /subscribeGroups\.0\.id.*nothing/],
  ["subscribe", { userId: 1, subscribeGroups: [{ id: 1.5 }] }, 1003, /group id.*1\.5/],
  ["subscribe", { userId: 1, subscribeGroups: [{ id: "a b" }] }, 1003, /group id.*"a b"/],
  ["subscribe", { userId: 1, subscribeGroups: [{ id: "{x}" }] }, 1003, /group id.*"\{x\}"/],
  ["subscribe", { userId: 1, subscribeGroups: [{ id: "x".repeat(129) }] }, 1003, /group id/],
  [
    "subscribe",
    { userId: 1, subscribeGroups: [{ id: 1, since: { epoch: 1, seq: 0 } }] },
    1003,
    /epoch/,
  ],
  [
    "subscribe",
    { userId: 1, subscribeGroups: [{ id: 1, since: { epoch: "", seq: -1 } }] },
    1003,
    /seq.*-1/,
  ],
  ["subscribe", { userId: 2, subscribeGroups: [{ id: 1 }] }, 1, /userId.*user 1, got 2/],
  ["unsubscribe", { userId: 2, subscribeGroups: [{ id: 1 }] }, 1, /userId/],
  ["unsubscribe", { userId: 1 }, 1003, /subscribeGroups/],
  ["msg", null, 1003, /msg.*null/],
  ["msg", { type: 2, target: { id: 1 }, content: "x" }, 1003, /msg\.type.*got 2/],
  ["msg", { type: "1", target: { id: 1 }, content: "x" }, 1003, /msg\.type.*"1"/],
  ["msg", { target: { id: 1 }, content: "x" }, 1003, /msg\.type.*nothing/],
  ["msg", { type: 1, content: "x" }, 1003, /msg\.target/],
  ["msg", { type: 1, target: {}, content: "x" }, 1003, /msg\.target\.id.*group id/],
  [
    "msg",
    { type: 0, target: { id: "bob" }, content: "x" },
    1003,
    /msg\.target\.id.*user id.*"bob"/,
  ],
  ["msg", { type: 0, target: { id: 0 }, content: "x" }, 1003, /user id.*got 0/],
  ["msg", { type: 1, target: { id: 1 } }, 1003, /msg\.content.*nothing/],
  ["msg", { type: 1, target: { id: 1 }, content: { a: 1 } }, 1003, /msg\.content.*an object/],
  ["msg", { type: 1, target: { id: 1 }, content: "x", clientMsgId: "" }, 1003, /clientMsgId/],
  ["online", null, 1003, /online.*group id.*null/],
  ["online", {}, 1003, /online.*an object/],
  ["online", "a b", 1003, /online.*"a b"/],
  ["nonsense", {}, 1002, /nonsense: unknown event/],
];

Deno.test("every bad event is answered by its error, and the connection lives on", async (t) => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  for (const [event, argument, errorCode, message] of bad) {
    await t.step(`${event} ${JSON.stringify(argument)?.slice(0, 60)}`, async () => {
      assertError(await client.request(event, argument), errorCode, message);
    });
  }
  assert.equal((await client.request("online", 10)).success, true);
});

Deno.test("an old client is told of a bad event by the result event", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address, 1, old);
  client.send("msg", "no JSON");
  assertError(await client.next("msg_result"), 1003, /expected JSON, got "no JSON"/);
  client.send("online", "10");
  assert.deepEqual((await client.next("online_result")).data, { userIds: [] });
});

Deno.test("auth with a bad id or wrong tokens is answered by 1003 and a disconnect", async (t) => {
  await using spear = await singleSpear({ "auth.scheme": "gru" }, {}, { GRU_SALT_TOSPEAR: "salt" });
  for (
    const [claims, message] of [
      [{ id: 0, name: "x" }, /auth\.id.*got 0/],
      [{ id: "0" }, /auth\.id.*"0"/],
      [{ id: -1 }, /auth\.id.*-1/],
      [{ id: 1.5 }, /auth\.id.*1\.5/],
      [{ id: "x1" }, /auth\.id.*"x1"/],
      [{ id: null }, /auth\.id.*null/],
      [{ name: "x" }, /auth\.id.*nothing/],
      ["{", /expected JSON/],
      [undefined, /auth/],
      [
        { id: 1, name: "x", appType: "1", token1: "a", token2: "b" },
        /tokens are not valid.*user 1/,
      ],
      [{ id: 1, name: "x", appType: "1" }, /tokens are not valid/],
      [{ id: 1, name: { a: 1 } }, /auth\.name.*an object/],
    ] as const
  ) {
    await t.step(JSON.stringify(claims) ?? "nothing", async () => {
      await using client = await TestClient.connect(spear.address, modern);
      assertError(await client.request("auth", claims), 1003, message);
      await client.closed;
    });
  }
});

Deno.test("auth again as the same user is harmless, as another one is refused", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address, 7);
  assert.equal((await client.request("auth", { id: "7" })).success, true);
  assertError(await client.request("auth", { id: 8 }), 1003, /already authenticated as 7/);
  await client.closed;
});

Deno.test("events sent right behind auth wait for it", async () => {
  await using spear = await singleSpear();
  await using client = await TestClient.connect(spear.address, old);
  client.send("auth", JSON.stringify({ id: 1 }));
  client.send("subscribe", JSON.stringify({ userId: 1, subscribeGroups: [{ id: 10 }] }));
  client.send("msg", JSON.stringify({ type: 1, target: { id: 10 }, content: "x" }));
  for (const event of ["auth_result", "subscribe_result", "msg_result"]) {
    assert.equal((await client.next(event)).success, true);
  }
  assert.equal((await client.next("msg")).content, "x");
});

Deno.test('subscribing twice gives each message once, and 10 and "10" are one group', async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  for (const id of [10, "10"]) {
    await client.request("subscribe", { userId: 1, subscribeGroups: [{ id }, { id: 10 }] });
  }
  for (const content of ["a", "b"]) {
    await client.request("msg", { type: 1, target: { id: "10" }, content });
  }
  const messages = [await client.next("msg"), await client.next("msg")];
  assert.deepEqual(messages.map(({ content, target }) => [content, target.id]), [["a", 10], [
    "b",
    10,
  ]]);
  assert.deepEqual(client.pending("msg"), []);
});

for (const dialect of dialects.filter(({ name }) => name.includes("upgraded"))) {
  slowTest({
    name:
      `messages that come while a connection is upgraded all arrive, in order (${dialect.name})`,
    // The old client leaves timers behind for a few milliseconds.
    sanitizeOps: !dialect.old,
    sanitizeResources: !dialect.old,
    fn: async () => {
      await using spear = await singleSpear({ "limits.messagesPerSecond": 100_000 });
      await using sender = await authenticated(spear.address, 1);
      await using client = await authenticated(spear.address, 2, dialect);
      const argument = { userId: 2, subscribeGroups: [{ id: 10 }] };
      assert.equal((await client.request("subscribe", argument)).success, true);
      let last = 0;
      for (const until = performance.now() + 1000; performance.now() < until;) {
        const message = { type: 1, target: { id: 10 }, content: "x" };
        last = (await sender.request("msg", message)).data.seq;
      }
      await waitFor(() => client.pending("msg").at(-1)?.seq === last);
      const seqs = client.pending("msg").map(({ seq }) => seq);
      assert.deepEqual(seqs, Array.from({ length: last }, (_, i) => i + 1));
    },
  });
}

Deno.test("ids beyond what a JSON number holds stay exact, as strings", async () => {
  await using spear = await singleSpear();
  const id = "9223372036854775807";
  await using client = await authenticated(spear.address, id);
  await client.request("subscribe", { userId: id, subscribeGroups: [{ id: "room:ä" }] });
  assert.deepEqual((await client.request("online", "room:ä")).data.userIds, [id]);
  await client.request("msg", { type: 0, target: { id }, content: "self" });
  const message = await client.next("msg");
  assert.deepEqual([message.fromId, message.target.id], [id, id]);
});

Deno.test("a client that was away gets what it missed, in order, before its result", async () => {
  await using spear = await singleSpear();
  await using sender = await authenticated(spear.address, 1);
  const say = (content: string) => sender.request("msg", { type: 1, target: { id: 10 }, content });
  const subscribe = { userId: 2, subscribeGroups: [{ id: 10 }] };
  let since;
  {
    await using client = await authenticated(spear.address, 2);
    const { data } = await client.request("subscribe", subscribe);
    const [{ recovered: _, ...position }] = data.positions;
    assert.deepEqual(position, { id: 10, epoch: position.epoch, seq: 0 });
    await say("seen");
    const { epoch, seq } = await client.next("msg");
    since = { epoch, seq };
  }
  for (const content of ["a", "b", "c"]) await say(content);
  await using client = await authenticated(spear.address, 2);
  const again = { userId: 2, subscribeGroups: [{ id: 10, since }] };
  const { data } = await client.request("subscribe", again);
  assert.deepEqual(data.positions, [{ id: 10, epoch: since.epoch, seq: 4, recovered: true }]);
  // All of it came before the result.
  assert.deepEqual(client.pending("msg").map(({ content }) => content), ["a", "b", "c"]);
  await say("d");
  await waitFor(() => client.pending("msg").length === 4);
  assert.deepEqual(client.pending("msg").map(({ seq }) => seq), [2, 3, 4, 5]);
});

Deno.test("a client is told when history does not reach back to what it saw last", async () => {
  await using spear = await singleSpear({ "history.size": 3 });
  await using client = await authenticated(spear.address, 1);
  const join = (since?: object) =>
    client.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10, since }] });
  const { data: { positions: [{ epoch }] } } = await join();
  for (let i = 1; i <= 5; i++) {
    await client.request("msg", { type: 1, target: { id: 10 }, content: `${i}` });
    await client.next("msg");
  }
  assert.equal((await join({ epoch, seq: 1 })).data.positions[0].recovered, false);
  // What is left is given all the same.
  assert.deepEqual(client.pending("msg").map(({ seq }) => seq), [3, 4, 5]);
  assert.equal((await join({ epoch, seq: 2 })).data.positions[0].recovered, true);
  assert.equal((await join({ epoch: "other", seq: 2 })).data.positions[0].recovered, false);
});

Deno.test("the user's own messages are recovered by since on auth", async () => {
  await using spear = await singleSpear();
  await using sender = await authenticated(spear.address, 1);
  const { data } = await sender.request("msg", { type: 0, target: { id: 2 }, content: "first" });
  for (const content of ["a", "b"]) {
    await sender.request("msg", { type: 0, target: { id: 2 }, content });
  }
  await using client = await TestClient.connect(spear.address, modern);
  const since = { epoch: data.epoch, seq: data.seq };
  const result = await client.request("auth", { id: 2, since });
  assert.deepEqual(result.data, { epoch: data.epoch, seq: 3, recovered: true });
  assert.deepEqual(client.pending("msg").map(({ content }) => content), ["a", "b"]);
});

Deno.test("a message with a clientMsgId is accepted once, however often it is sent", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  const message = { type: 0, target: { id: 1 }, content: "x", clientMsgId: "m1" };
  const first = await client.request("msg", message);
  assert.deepEqual(await client.request("msg", message), first);
  await client.request("msg", { ...message, clientMsgId: "m2" });
  await waitFor(() => client.pending("msg").length >= 2);
  assert.deepEqual(client.pending("msg").map(({ seq }) => seq), [1, 2]);
});

Deno.test("a connection is in no more groups than the profile allows", async () => {
  await using spear = await singleSpear({ "limits.groupsPerConnection": 2 });
  await using client = await authenticated(spear.address);
  const join = (...ids: number[]) =>
    client.request("subscribe", { userId: 1, subscribeGroups: ids.map((id) => ({ id })) });
  assert.equal((await join(1, 2)).success, true);
  assertError(await join(2, 3), 1003, /at most 2 groups.*got 3/);
  assert.equal((await join(2)).success, true);
});

Deno.test("a packet beyond the limit closes its connection and no other", async () => {
  await using spear = await singleSpear({ "limits.payloadBytes": 2000 });
  await using other = await authenticated(spear.address, 2);
  await using client = await authenticated(spear.address, 1);
  client.send("msg", { type: 0, target: { id: 2 }, content: "x".repeat(3000) });
  await client.closed;
  assert.equal((await other.request("online", 10)).success, true);
  assert.deepEqual(other.pending("msg"), []);
});

Deno.test("a connection that does not authenticate in time is closed", async () => {
  await using spear = await singleSpear({ "limits.authMs": 200 });
  await using silent = await TestClient.connect(spear.address, modern);
  await using client = await authenticated(spear.address);
  await silent.closed;
  assert.equal((await client.request("online", 10)).success, true);
});

slowTest("whatever JSON is thrown at any event, the spear answers and lives on", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  const like = fc.record({
    type: fc.oneof(fc.constantFrom(0, 1), fc.jsonValue()),
    target: fc.oneof(
      fc.record({ id: fc.oneof(fc.integer(), fc.string(), fc.jsonValue()) }),
      fc.jsonValue(),
    ),
    content: fc.oneof(fc.string(), fc.jsonValue()),
    userId: fc.oneof(fc.constant(1), fc.jsonValue()),
    subscribeGroups: fc.oneof(fc.array(fc.record({ id: fc.jsonValue() })), fc.jsonValue()),
  }, { requiredKeys: [] });
  const event = fc.constantFrom(
    "subscribe",
    "unsubscribe",
    "msg",
    "online",
    "nonsense",
    "__proto__",
  );
  const argument = fc.oneof(like, fc.jsonValue(), like.map((value) => JSON.stringify(value)));
  await fc.assert(
    fc.asyncProperty(event, argument, async (event, argument) => {
      const result = await client.request(event, argument);
      assert.equal(typeof result.success, "boolean");
      assert.equal(result.success ? 0 : result.errorCode, result.errorCode);
      assert.equal(typeof result.msg, "string");
    }),
    { numRuns: 1000 },
  );
  const claims = fc.oneof(fc.jsonValue(), fc.record({ id: fc.jsonValue(), name: fc.jsonValue() }));
  await fc.assert(
    fc.asyncProperty(claims, async (claims) => {
      await using stranger = await TestClient.connect(spear.address, modern);
      const result = await stranger.request("auth", claims);
      if (!result.success) {
        assert.equal(result.errorCode, code.parameterError);
        await stranger.closed;
      }
    }),
    { numRuns: 50 },
  );
  assert.equal((await client.request("online", 10)).success, true);
});

Deno.test("an argument nested without end is refused and has no effect", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address, 1, old);
  const deep = "[".repeat(40_000) + "]".repeat(40_000);
  for (
    const [event, argument] of [
      ["msg", `{"type":0,"target":{"id":1},"content":"x","more":${deep}}`],
      ["subscribe", `{"userId":1,"subscribeGroups":[{"id":10}],"more":${deep}}`],
    ] as const
  ) {
    client.send(event, argument);
    assertError(await client.next(`${event}_result`), 1003, /nested more than 32 levels/);
  }
  client.send("online", 10);
  assert.deepEqual((await client.next("online_result")).data.userIds, []);
  assert.deepEqual(client.pending("msg"), []);
});
