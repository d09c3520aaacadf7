/** What differs in groups of a kind that the profile names, as clients see it. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { spearSchema } from "./config.ts";
import { groupKinds } from "./groups_config.ts";
import { Frame, missedOf } from "./packets.ts";
import { type SpearOverrides, startSpear } from "./spear.ts";
import { authenticated, modern, old } from "./spear_testing.ts";
import type { Json, TestClient } from "./test_client.ts";

/** The dev profile with these kinds, as a file would have them. */
function load(groups: unknown) {
  const file = Deno.makeTempFileSync({ suffix: ".json" });
  try {
    const profile = { mode: "single", port: 0, drainMs: 0, auth: { scheme: "open" }, groups };
    Deno.writeTextFileSync(file, JSON.stringify(profile));
    return loadConfig({
      program: "spear",
      schema: spearSchema,
      profiles: new URL("./profiles/", import.meta.url),
      args: ["--profile", file],
      environment: () => undefined,
    });
  } finally {
    Deno.removeSync(file);
  }
}

function open(groups: readonly object[], overrides: SpearOverrides = {}) {
  return startSpear(load(groups), overrides);
}

function subscribe(client: TestClient, userId: number, id: string, more = {}): Promise<Json> {
  return client.request("subscribe", { userId, subscribeGroups: [{ id, ...more }] });
}

async function member(address: string, userId: number, group: string, dialect = modern) {
  const client = await authenticated(address, userId, dialect);
  const result = await subscribe(client, userId, group);
  assert.equal(result.success, true, JSON.stringify(result));
  return client;
}

function say(client: TestClient, group: string, content: string, more = {}): Promise<Json> {
  return client.request("msg", { type: 1, target: { id: group }, content, ...more });
}

Deno.test("the first kind that fits a group holds", () => {
  const kinds = groupKinds(
    load([
      { match: "live:quiet", presence: false },
      { match: "live:*", members: 5 },
      { match: [100, 199], echo: false, history: { size: 7 } },
    ]),
  );
  assert.equal(kinds?.of("live:quiet")?.presence, false);
  assert.equal(kinds?.of("live:quiet")?.members, undefined);
  assert.equal(kinds?.of("live:1")?.members, 5);
  assert.equal(kinds?.of("150")?.echo, false);
  assert.equal(kinds?.of("200"), undefined);
  assert.deepEqual(kinds?.historyOf("g:150"), { size: 7, ageMs: 300_000, bytes: 16_000_000 });
  assert.equal(kinds?.historyOf("u:150").size, 1000);
  assert.equal(groupKinds(load([])), undefined);
});

Deno.test("a kind of groups that is not right is named with its value", () => {
  assert.throws(() => load([{ match: "a*b" }]), /groups\.0\.match: is "a\*b"; expected a group id/);
  assert.throws(() => load([{ match: "*", members: 0 }]), /groups\.0\.members: .*0/);
  assert.throws(() => load([{ match: "*", echos: false }]), /groups\.0\.echos: .*echo/);
  assert.throws(() => load([{ match: "*", history: { ageMs: 1 } }]), /groups\.0\.history\.ageMs/);
  assert.throws(() => load([{ match: "*", history: { sizes: 1 } }]), /sizes: .*mean .*size/);
  assert.throws(() => load([{ match: "*", drop: true }]), /groups\.0\.drop: .*messagesPerSecond/);
  assert.throws(() => load([{ match: "*", colour: 1 }]), /groups\.0\.colour: unknown key/);
});

Deno.test("a group without presence is joined, and says that nobody is told who comes and goes", async () => {
  await using spear = await open([{ match: "live:*", presence: false }]);
  await using ann = await authenticated(spear.address, 1);
  const joined = await subscribe(ann, 1, "live:1", { presence: true });
  assert.equal(joined.success, true, JSON.stringify(joined));
  assert.equal(joined.data.positions[0].presence, false);
  const unasked = await subscribe(ann, 1, "live:2");
  assert.equal("presence" in unasked.data.positions[0], false);
  const { errorCode, msg } = await ann.request("online", "live:1");
  assert.deepEqual([errorCode, msg], [1002, "online: group live:1 has no presence"]);

  // Another group tells, so that what was not told by then never will be.
  assert.equal((await subscribe(ann, 1, "talk", { presence: true })).success, true);
  await using _bob = await member(spear.address, 2, "live:1");
  await using _eve = await member(spear.address, 3, "talk");
  const told = await ann.next("presence");
  assert.deepEqual([told.groupId, told.joined.includes(3)], ["talk", true]);
  assert.deepEqual(ann.pending("presence"), []);
  assert.deepEqual((await ann.request("online", "talk")).data.userIds.sort(), [1, 3]);
});

for (const dialect of [modern, old]) {
  Deno.test(`${dialect.name}: without echo the sender's connection gets its message's place, everybody else the message`, async () => {
    await using spear = await open([{ match: "live:*", echo: false }]);
    await using ann = await member(spear.address, 1, "live:1", dialect);
    await using annAtHome = await member(spear.address, 1, "live:1");
    await using bob = await member(spear.address, 2, "live:1");
    const first = await say(ann, "live:1", "first", { clientMsgId: "a" });
    const repeated = await say(ann, "live:1", "first", { clientMsgId: "a" });
    assert.deepEqual(repeated, first);
    await say(bob, "live:1", "second");

    const { epoch, seq } = first.data;
    assert.deepEqual(await ann.next("passed"), { target: { id: "live:1", type: 1 }, epoch, seq });
    assert.equal((await ann.next("msg")).content, "second");
    assert.deepEqual((await bob.next("passed")).seq, seq + 1);
    assert.equal((await bob.next("msg")).content, "first");
    for (const content of ["first", "second"]) {
      assert.equal((await annAtHome.next("msg")).content, content);
    }
    for (const client of [ann, annAtHome, bob]) assert.deepEqual(client.pending("msg"), []);

    // Elsewhere it is as ever.
    assert.equal((await subscribe(ann, 1, "talk")).success, true);
    await say(ann, "talk", "hello");
    assert.equal((await ann.next("msg")).content, "hello");
  });
}

Deno.test("a full group takes nobody but those who are in it, until somebody leaves", async () => {
  await using spear = await open([{ match: "class:*", members: 2 }]);
  await using ann = await member(spear.address, 1, "class:1");
  await using bob = await member(spear.address, 2, "class:1");
  await using _annAtHome = await member(spear.address, 1, "class:1");
  await using eve = await authenticated(spear.address, 3);
  const refused = await subscribe(eve, 3, "class:1");
  assert.deepEqual([refused.errorCode, refused.msg], [
    1002,
    "subscribe: group class:1 is full: it has 2 users, of 2 at most",
  ]);
  assert.equal((await subscribe(ann, 1, "class:1")).success, true);
  await bob.request("unsubscribe", { userId: 2, subscribeGroups: [{ id: "class:1" }] });
  assert.equal((await subscribe(eve, 3, "class:1")).success, true);
});

Deno.test("of many who enter a group at once only as many are taken as it has places", async () => {
  await using spear = await open([{ match: "class:*", members: 3 }]);
  await using stack = new AsyncDisposableStack();
  const clients = await Promise.all(
    Array.from({ length: 10 }, async (_, i) => ({
      userId: i + 1,
      client: stack.use(await authenticated(spear.address, i + 1)),
    })),
  );
  const results = await Promise.all(
    clients.map(({ client, userId }) => subscribe(client, userId, "class:1")),
  );
  assert.equal(results.filter(({ success }) => success).length, 3);
  const { data } = await clients[0]?.client.request("online", "class:1");
  assert.equal(data.userIds.length, 3);
});

Deno.test("of a kind of groups as much is kept as it says, and messages say for how long", async () => {
  await using spear = await open([
    { match: "live:*", history: { size: 0 } },
    { match: "talk:*", history: { size: 2, ageMs: 60_000 } },
  ]);
  await using ann = await authenticated(spear.address, 1);
  await using bob = await authenticated(spear.address, 2);
  const kept: string[][] = [];
  for (const group of ["live:1", "talk:1", "any"]) {
    for (const content of ["1", "2", "3"]) await say(ann, group, content);
    const joined = await subscribe(bob, 2, group, { last: 10 });
    const messages = bob.pending("msg").splice(0);
    kept.push(messages.map(({ content }) => content));
    assert.equal(joined.data.positions[0].seq, 3);
    await say(ann, group, "4");
    const { createTime, expireTime } = await bob.next("msg");
    const keptMs = { "live:1": -createTime, "talk:1": 60_000, any: 300_000 }[group];
    assert.equal(expireTime - createTime, keptMs);
  }
  assert.deepEqual(kept, [[], ["2", "3"], ["1", "2", "3"]]);
});

/** Two messages at once, and the next one after a minute and more. */
const slow = { match: "room:*", messagesPerSecond: 0.01 };

Deno.test("beyond its rate a group refuses messages, low ones first, and says when to try again", async () => {
  await using spear = await open([slow]);
  await using ann = await member(spear.address, 1, "room:1");
  await using bob = await member(spear.address, 2, "room:1");
  const key = { clientMsgId: "a", priority: "low" };
  const first = await say(ann, "room:1", "1", key);
  const low = await say(bob, "room:1", "2", { priority: "low" });
  assert.deepEqual([low.success, low.errorCode, low.msg], [
    false,
    1002,
    "msg: not accepted: its group takes 0.01 messages a second",
  ]);
  assert.ok(low.data.retryAfterMs > 0 && low.data.retryAfterMs <= 200_000);
  assert.equal((await say(bob, "room:1", "3")).success, true);
  assert.equal((await say(bob, "room:1", "4")).errorCode, 1002);
  assert.deepEqual(await say(ann, "room:1", "1", key), first);
  assert.equal((await say(bob, "room:2", "elsewhere")).success, true);
  const wrong = await say(bob, "room:2", "5", { priority: "high" });
  assert.equal(wrong.errorCode, 1003);
  assert.match(wrong.msg, /^msg\.priority: .*"low".*"normal".*, got "high"$/);
  for (const client of [ann, bob]) {
    assert.equal((await client.next("msg")).content, "1");
    assert.equal((await client.next("msg")).content, "3");
    assert.deepEqual(client.pending("msg"), []);
  }
});

Deno.test("a group that drops says so to the sender, counts it, and has no gap", async () => {
  await using spear = await open([{ ...slow, drop: true, echo: false }]);
  await using ann = await member(spear.address, 1, "room:1");
  await using bob = await member(spear.address, 2, "room:1");
  const [first, second] = [await say(ann, "room:1", "1"), await say(ann, "room:1", "2")];
  assert.equal(second.data.seq, first.data.seq + 1);
  const dropped = await say(ann, "room:1", "3");
  assert.deepEqual([dropped.success, dropped.data], [true, { dropped: true }]);
  // Nothing is waited for that does not come.
  const joined = await subscribe(ann, 1, "room:1", { since: second.data });
  assert.deepEqual(joined.data.positions, [{ id: "room:1", ...place(second), recovered: true }]);
  assert.equal((await bob.next("msg")).content, "1");
  assert.equal((await bob.next("msg")).content, "2");
  assert.deepEqual([...bob.pending("msg"), ...ann.pending("msg")], []);
  const metrics = await (await fetch(`${spear.monitorAddress}/metrics`)).text();
  for (const [result, count] of [["accepted", 2], ["dropped", 1], ["refused", 0]]) {
    assert.match(
      metrics,
      new RegExp(`gru_spear_messages_total{.*result="${result}".*} ${count}\n`),
    );
  }
});

function place({ data: { epoch, seq } }: Json) {
  return { epoch, seq };
}

Deno.test("in a live room of 200 in a flood everybody gets the same few messages, and every normal one", async () => {
  const perSecond = 40;
  await using spear = await open([
    { match: "live:*", messagesPerSecond: perSecond, drop: true, presence: false },
  ]);
  await using stack = new AsyncDisposableStack();
  const clients: TestClient[] = [];
  for (let id = 1; id <= 200; id++) {
    clients.push(stack.use(await member(spear.address, id, "live:1")));
  }
  // Half of what comes at once is kept for these.
  const normal = perSecond / 2;
  const began = performance.now();
  const results = await Promise.all(
    Array.from({ length: 1000 }, (_, n) => {
      const isNormal = n % (1000 / normal) === 0;
      const more = isNormal ? {} : { priority: "low" };
      const sender = clients[n % clients.length] ?? assert.fail();
      return say(sender, "live:1", isNormal ? "normal" : "low", more);
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  assert.ok(results.every(({ success }) => success));
  const accepted = results.filter(({ data }) => !data.dropped);
  const last = Math.max(...accepted.map(({ data }) => data.seq));
  assert.equal(accepted.length, last);
  assert.ok(last <= perSecond * (1 + seconds) + 1, `${last} in ${seconds} s`);
  for (const client of clients) {
    const got = [];
    for (let n = 0; n < last; n++) got.push(await client.next("msg"));
    assert.deepEqual(got.map(({ seq }) => seq), Array.from({ length: last }, (_, n) => n + 1));
    assert.equal(got.filter(({ content }) => content === "normal").length, normal);
    assert.deepEqual(client.pending("msg"), []);
  }
});

for (const dialect of [modern, old]) {
  Deno.test(`${dialect.name}: ephemeral messages are delivered without a place, and are not kept`, async () => {
    await using spear = await open([
      { match: "typing:quiet", ephemeral: true, echo: false },
      { match: "typing:*", ephemeral: true, history: { size: 10 } },
    ]);
    await using ann = await member(spear.address, 1, "typing:1", dialect);
    await using bob = await member(spear.address, 2, "typing:1");
    for (const group of ["typing:1", "typing:quiet"]) {
      if (group === "typing:quiet") {
        for (const [client, id] of [[ann, 1], [bob, 2]] as const) {
          await subscribe(client, id, group);
        }
      }
      const said = await say(ann, group, "ann types", { clientMsgId: "a" });
      assert.equal(said.success, true);
      assert.deepEqual(Object.keys(said.data), ["id"]);
      assert.deepEqual(await say(ann, group, "ann types", { clientMsgId: "a" }), said);
      const message = await bob.next("msg");
      assert.deepEqual([message.id, message.content, message.expireTime], [
        said.data.id,
        "ann types",
        0,
      ]);
      assert.equal("seq" in message || "epoch" in message, false);
      if (group === "typing:1") assert.deepEqual(await ann.next("msg"), message);
      // What it says is behind what was sent to the group: nobody waits for what has no place.
      const { positions } = (await subscribe(bob, 2, group, { last: 10 })).data;
      assert.deepEqual([positions[0].seq, positions[0].recovered], [0, false]);
    }
    for (const client of [ann, bob]) {
      for (const event of ["msg", "missed", "passed"]) assert.deepEqual(client.pending(event), []);
    }
  });
}

Deno.test("of ephemeral frames that a slow client is not sent, it is told nothing", () => {
  const frames = [0, 4, 0, 5].map((seq) => new Frame("g:1", seq === 0 ? "" : "e", seq, "…"));
  assert.deepEqual(missedOf(frames).map(({ epoch, from, to }) => [epoch, from, to]), [["e", 4, 5]]);
});
