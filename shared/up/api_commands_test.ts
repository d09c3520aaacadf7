/** Every command of stat's HTTP API, as clients on two nodes see its effect. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { dialects, type Json, TestClient } from "../../spear/test_client.ts";
import { assertSuccess } from "./scenario.ts";
import { upOnFreePorts } from "./up_testing.ts";

const [modern, old] = dialects;
if (modern === undefined || old === undefined) throw new Error("no dialects");

async function start() {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(
    await upOnFreePorts(() => undefined),
  );
  const { spear1, spear2, stat: api, ticket } = cluster.addresses;
  const owned = stack.move();

  async function request(method: string, path: string, body?: unknown, headers = {}) {
    const response = await fetch(`${api}${path}`, {
      method,
      ...(body === undefined ? {} : {
        headers: { "content-type": "application/json", ...headers },
        body: JSON.stringify(body),
      }),
    });
    return { status: response.status, answer: await response.json() as Json };
  }
  async function enter(node: 1 | 2, id: number, groups: readonly (number | string)[] = []) {
    const client = await TestClient.connect(node === 1 ? spear1 : spear2, modern!);
    owned.use(client);
    assertSuccess(await client.request("auth", { id }));
    if (groups.length > 0) {
      const subscribeGroups = groups.map((id) => ({ id }));
      assertSuccess(await client.request("subscribe", { userId: id, subscribeGroups }));
    }
    return client;
  }
  return {
    ...{ api, ticket, spear1, enter },
    get: async (path: string): Promise<Json> => (await request("GET", path)).answer,
    post: async (path: string, body: unknown = {}, headers = {}): Promise<Json> => {
      const { status, answer } = await request("POST", path, body, headers);
      assert.equal(status, 200, JSON.stringify(answer));
      return answer;
    },
    request,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

const both = (connections1: number, connections2: number) => ({
  connections: connections1 + connections2,
  nodes: [{ node: "spear1", connections: connections1 }, {
    node: "spear2",
    connections: connections2,
  }],
  failed: [],
});

Deno.test("publish reaches the members of a group and a user's connections, once for each key", async () => {
  await using gru = await start();
  const [ann, bob] = [await gru.enter(1, 1, [10]), await gru.enter(2, 2, [10])];
  const headers = { "idempotency-key": "order-7" };
  const first = await gru.post("/groups/10/messages", { content: "hello", fromId: "99" }, headers);
  const again = await gru.post("/groups/10/messages", { content: "hello", fromId: "99" }, headers);
  assert.deepEqual(again, first);
  const second = await gru.post("/groups/10/messages", { content: "next" });
  assert.equal(second.seq, first.seq + 1);
  for (const client of [ann, bob]) {
    const { id, seq, epoch, content, fromId } = await client.next("msg");
    assert.deepEqual({ id, seq, epoch }, first);
    assert.deepEqual([content, fromId], ["hello", 99]);
    assert.equal((await client.next("msg")).content, "next");
  }
  await gru.post("/users/2/messages", { content: "only you" });
  assert.deepEqual((await bob.next("msg")).target, { id: 2, type: -1 });

  const { messages, more, seq } = await gru.get("/groups/10/history?limit=1");
  assert.deepEqual([messages.length, messages[0].content, more, seq], [
    1,
    "next",
    true,
    second.seq,
  ]);
  const before = await gru.get(`/groups/10/history?before=${second.seq}`);
  assert.deepEqual(before.messages.map((one: Json) => one.content), ["hello"]);
  assert.equal((await gru.get("/users/2/history")).messages[0].content, "only you");
});

Deno.test("the trail of a message says where it was accepted and which nodes wrote it to how many connections", async () => {
  await using gru = await start();
  const [ann] = [
    await gru.enter(1, 1, [10]),
    await gru.enter(2, 2, [10]),
    await gru.enter(2, 3, [10]),
  ];
  const argument = { type: 1, target: { id: 10 }, content: "where did it go?" };
  const { data: { id, epoch, seq } } = await ann.request("msg", argument);
  await waitFor(async () => {
    const { nodes } = await gru.get(`/messages/${id}`);
    return nodes.every(({ receivedAt }: Json) => receivedAt !== null);
  });
  const trail = await gru.get(`/messages/${id}`);
  assert.deepEqual([trail.id, trail.target, trail.epoch, trail.seq], [
    ...[id, { kind: "group", id: "10" }, epoch, seq],
  ]);
  assert.deepEqual([trail.accepted.node, trail.accepted.fromId], ["spear1", "1"]);
  assert.deepEqual(
    trail.nodes.map(({ node, connections, missed }: Json) => [node, connections, missed]),
    [["spear1", 1, []], ["spear2", 2, []]],
  );
  assert.ok(trail.createTime <= trail.accepted.at);

  const unknown = await gru.request("GET", "/messages/5?group=10");
  assert.equal(unknown.status, 404);
  assert.match(unknown.answer.error.message, /^id: no node remembers the message 5 and is not/);
  const both = await gru.request("GET", "/messages/5?group=10&user=1");
  assert.match(both.answer.error.message, /^group: must not be set together with user/);
});

Deno.test("broadcast reaches every connection, and tells how many", async () => {
  await using gru = await start();
  const clients = [await gru.enter(1, 1), await gru.enter(1, 1), await gru.enter(2, 2)];
  const { id, ...touched } = await gru.post("/broadcast", { content: "closing at ten" });
  assert.deepEqual(touched, both(2, 1));
  for (const client of clients) {
    const { id: received, content, fromId, msgType, target } = await client.next("msg");
    assert.deepEqual([received, content, fromId, msgType], [id, "closing at ten", 0, 2]);
    assert.deepEqual(target, { id: 0, type: -1 });
  }
});

Deno.test("kick closes a user's connections on all nodes, and a ban keeps the user out until it is lifted", async () => {
  await using gru = await start();
  const clients = [await gru.enter(1, 5), await gru.enter(2, 5)];
  const bystander = await gru.enter(1, 6);
  assert.deepEqual(await gru.post("/users/5/kick", { reason: "spam", banMs: 600_000 }), both(1, 1));
  for (const client of clients) {
    const { reason, until } = await client.next("kicked");
    assert.equal(reason, "spam");
    assert.ok(until > Date.now());
    await client.closed;
  }
  const { bans } = await gru.get("/bans");
  assert.deepEqual([bans[0].kind, bans[0].id, bans[0].reason], ["user", "5", "spam"]);
  const client = await TestClient.connect(gru.spear1, old!);
  client.send("auth", JSON.stringify({ id: 5 }));
  const refused = await client.next("auth_result");
  assert.match(refused.msg, /^auth: user 5 is banned until .*: spam$/);
  await client.closed;
  assert.equal((await gru.request("DELETE", "/bans/user/5")).status, 200);
  await waitFor(async () => {
    await using client = await TestClient.connect(gru.spear1, modern!);
    return (await client.request("auth", { id: 5 })).success;
  }, { what: "user 5 may come in again" });
  assert.equal(bystander.connected, true);
  assert.deepEqual(await gru.post("/users/77/kick"), both(0, 0));
});

Deno.test("where a user is tells connections, each of which can be kicked alone", async () => {
  await using gru = await start();
  const [first, second] = [await gru.enter(1, 5, [10, 11]), await gru.enter(1, 5)];
  await gru.enter(2, 5);
  let place: Json;
  await waitFor(async () => (place = await gru.get("/users/5")).nodes.length === 2);
  assert.equal(place.online, true);
  const [on1] = place.nodes;
  assert.deepEqual(on1.connections.map((one: Json) => one.groups), [2, 0]);
  assert.ok(Math.abs(Date.now() - on1.connections[0].since) < 60_000);
  const { connectionId } = on1.connections[0];
  const touched = await gru.post(`/connections/${connectionId}/kick`, { reason: "old client" });
  assert.equal(touched.connections, 1);
  assert.deepEqual(await first.next("kicked"), { reason: "old client" });
  await first.closed;
  assert.equal(second.connected, true);
  const again = await gru.request("POST", `/connections/${connectionId}/kick`, {});
  assert.equal(again.status, 404);
  assert.deepEqual((await gru.get("/users/404")).online, false);
});

Deno.test("kick takes one user or all out of a group, who stay connected, and a ban closes the group", async () => {
  await using gru = await start();
  const [ann, bob, eve] = [
    await gru.enter(1, 1, ["a/b"]),
    await gru.enter(2, 2, ["a/b"]),
    await gru.enter(2, 3, ["a/b"]),
  ];
  let presence: Json;
  await waitFor(async () => (presence = await gru.get("/groups/a%2Fb/presence")).users === 3);
  assert.deepEqual([presence.connections, presence.nodes.length], [3, 2]);
  assert.deepEqual(
    await gru.post("/groups/a%2Fb/kick", { userId: "3", reason: "rude" }),
    both(0, 1),
  );
  assert.deepEqual(await eve.next("kicked"), { groupId: "a/b", reason: "rude" });
  await gru.post("/groups/a%2Fb/messages", { content: "two of us" });
  for (const client of [ann, bob]) assert.equal((await client.next("msg")).content, "two of us");
  assert.deepEqual(await gru.post("/groups/a%2Fb/kick", { banMs: 600_000 }), both(1, 1));
  for (const client of [ann, bob]) assert.equal((await client.next("kicked")).groupId, "a/b");
  const request = { userId: 2, subscribeGroups: [{ id: "a/b" }] };
  const refused = await bob.request("subscribe", request);
  assert.match(refused.msg, /^subscribe: group a\/b is closed until /);
  await waitFor(async () => (await gru.get("/groups/a%2Fb")).nodes.length === 0);
  assert.equal(eve.pending("msg").length, 0);
});

Deno.test("drain sends a node's clients elsewhere, and ticket names it to nobody any more", async () => {
  await using gru = await start();
  const client = await gru.enter(1, 5);
  const result = await gru.post("/nodes/spear1/drain", { overMs: 300 });
  assert.deepEqual(result, { node: "spear1", connections: 1, overMs: 300 });
  assert.equal((await client.next("move")).name, "spear2");
  await client.closed;
  await waitFor(async () => {
    const query = "userId=5&userName=a&appType=1&token1=t";
    const { data } = await (await fetch(`${gru.ticket}/ticket?${query}`)).json();
    return data.name === "spear2" && data.backupNodes.length === 0;
  });
  const { nodes } = await gru.get("/nodes");
  assert.deepEqual(
    nodes.map(({ node, draining, address }: Json) => [node, draining, address === null]),
    [["spear1", true, true], ["spear2", false, false]],
  );
});

Deno.test("a drain is undone: those that have not left stay, and the node gets clients again", async () => {
  await using gru = await start();
  const [ann, bob] = [await gru.enter(1, 5), await gru.enter(1, 6)];
  const undo = () => fetch(`${gru.api}/nodes/spear1/drain`, { method: "DELETE" });
  await gru.post("/nodes/spear1/drain", { overMs: 600_000 });
  await Promise.race([ann.next("move"), bob.next("move")]);
  for (let times = 0; times < 2; times++) {
    const answer = await undo();
    assert.deepEqual([answer.status, await answer.json()], [200, {
      node: "spear1",
      draining: false,
    }]);
  }
  await waitFor(async () => {
    const { draining, connections } = await gru.get("/nodes/spear1");
    return !draining && connections === 2;
  });
  await using eve = await gru.enter(1, 7, [10]);
  const { entries } = await gru.get("/audit");
  assert.deepEqual(
    entries.filter(({ target }: Json) => target === "spear1").map(({ via, command }: Json) =>
      `${via}: ${command}`
    ).sort(),
    [
      ...["api: DELETE /nodes/:node/drain", "api: DELETE /nodes/:node/drain"],
      ...["api: POST /nodes/:node/drain", "cluster: draining", "cluster: joined"],
      "cluster: undrained",
    ],
  );
  // A drain that is undone can begin again.
  await gru.post("/nodes/spear1/drain", { overMs: 300 });
  await Promise.all([ann.closed, bob.closed, eve.closed]);
});

Deno.test("a user is put into a group and taken out, on all connections, between what its clients ask", async () => {
  await using gru = await start();
  const [here, there] = [await gru.enter(1, 5), await gru.enter(2, 5)];
  const bob = await gru.enter(1, 6, [20]);
  const change = async (method: "PUT" | "DELETE", group: string) => {
    const answer = await fetch(`${gru.api}/users/5/groups/${group}`, { method });
    return [answer.status, await answer.json()] as const;
  };
  const say = async (content: string) =>
    await bob.request("msg", { type: 1, target: { id: 20 }, content });
  await say("before");
  const [status, { connections, failed }] = await change("PUT", "20");
  assert.deepEqual([status, connections, failed], [200, 2, []]);
  const { data } = await say("after");
  for (const client of [here, there]) {
    const { groupId, epoch, seq } = await client.next("subscribed");
    assert.deepEqual([groupId, epoch, seq], [20, data.epoch, 1]);
    assert.equal((await client.next("msg")).content, "after");
  }
  // Again: nothing happens to those who are in.
  assert.equal((await change("PUT", "20"))[1].connections, 2);
  await waitFor(async () => (await gru.get("/groups/20/presence")).connections === 3);
  // It may ask itself, too, at the same time.
  const request = { userId: 5, subscribeGroups: [{ id: 21 }] };
  const [asked] = await Promise.all([here.request("subscribe", request), change("PUT", "21")]);
  assert.equal(asked.success, true);
  assert.equal((await there.next("subscribed")).groupId, 21);

  assert.equal((await change("DELETE", "20"))[1].connections, 2);
  for (const client of [here, there]) {
    assert.deepEqual(await client.next("unsubscribed"), { groupId: 20 });
  }
  assert.equal((await change("DELETE", "20"))[1].connections, 0);
  await say("alone");
  assert.deepEqual([here.pending("msg").length, there.pending("msg").length], [0, 0]);

  // A closed group takes nobody in.
  await gru.post("/groups/22/kick", { banMs: 60_000 });
  const [refused, { error }] = await change("PUT", "22");
  assert.equal(refused, 400, JSON.stringify(error));
  assert.match(error.message, /group 22 is closed until/);
});

Deno.test("a message to many has a result for each target, and a repetition with the same key sends nothing twice", async () => {
  await using gru = await start();
  const [ann, bob] = [await gru.enter(1, 1, [10]), await gru.enter(2, 2, [11])];
  const send = async () =>
    await (await fetch(`${gru.api}/messages`, {
      method: "POST",
      headers: { "content-type": "application/json", "idempotency-key": "order-7" },
      body: JSON.stringify({ content: "sale", groupIds: ["10", "11"], userIds: ["2"] }),
    })).json();
  const first = await send();
  assert.deepEqual(
    first.results.map(({ groupId, userId, seq }: Json) => [groupId ?? null, userId ?? null, seq]),
    [["10", null, 1], ["11", null, 1], [null, "2", 1]],
  );
  assert.deepEqual(await send(), first);
  assert.equal((await ann.next("msg")).content, "sale");
  const got = [(await bob.next("msg")).target, (await bob.next("msg")).target];
  assert.deepEqual(got.map(({ id }) => id).sort(), [11, 2].sort());
  assert.deepEqual([ann.pending("msg").length, bob.pending("msg").length], [0, 0]);

  await waitFor(async () => {
    const { users } = await gru.post("/presence", { userIds: ["1", "99", "2"] });
    return JSON.stringify(users) === JSON.stringify([
      { userId: "1", online: true, nodes: ["spear1"] },
      { userId: "99", online: false, nodes: [] },
      { userId: "2", online: true, nodes: ["spear2"] },
    ]);
  });
});

Deno.test("listen gives messages of groups and users as they flow, samples a flood, and counts as nobody", async () => {
  await using gru = await start();
  const [ann] = [await gru.enter(1, 1, [10]), await gru.enter(2, 2, [10])];
  const stopped = new AbortController();
  const response = await fetch(`${gru.api}/listen?group=10&user=2`, { signal: stopped.signal });
  const events = readEvents(response);
  assert.equal((await events.next()).value?.event, "listening");
  await ann.request("msg", { type: 1, target: { id: 10 }, content: "to all" });
  await ann.request("msg", { type: 0, target: { id: 2 }, content: "to bob" });
  const heard: Json[] = [];
  while (heard.length < 2) heard.push(...(await events.next()).value?.data.messages ?? []);
  assert.deepEqual(heard.map(({ target, message }) => [target.kind, message.content]), [
    ["group", "to all"],
    ["user", "to bob"],
  ]);
  const flood = 1000;
  for (let i = 0; i < flood; i++) ann.send("msg", { type: 1, target: { id: 10 }, content: `${i}` });
  let [seen, shown] = [0, 0];
  while (seen < flood) {
    const { value } = await events.next();
    if (value?.event !== "messages") continue;
    seen += value.data.seen;
    shown += value.data.messages.length;
  }
  assert.equal(seen, flood);
  // How many are left out depends on how fast they come.
  assert.ok(shown <= flood, `${shown} of ${flood} are shown`);
  let online: Json[] = [];
  await waitFor(async () => {
    online = (await ann.request("online", 10)).data.userIds;
    return online.length >= 2;
  });
  assert.deepEqual(online.sort(), [1, 2]);
  stopped.abort();
});

Deno.test("totals and rates tell what the nodes reported, a user or group on two nodes once", async () => {
  await using gru = await start();
  const [ann] = [await gru.enter(1, 1, [10]), await gru.enter(2, 2, [10, 11])];
  await gru.enter(2, 1, [10]);
  await ann.request("msg", { type: 1, target: { id: 10 }, content: "x" });
  await waitFor(async () => {
    const { connections, users, groups, acceptedPerSecond, deliveredPerSecond } = await gru.get(
      "/totals",
    );
    return connections === 3 && users === 2 && groups === 2 && acceptedPerSecond > 0 &&
      deliveredPerSecond > 0;
  });
  await waitFor(async () => (await gru.get("/rates")).at.length > 0);
  const rates = await gru.get("/rates?node=spear2");
  assert.equal(rates.stepMs, 10_000);
  for (const series of ["connections", "memoryBytes"]) {
    assert.equal(rates[series].length, rates.at.length);
  }
  const { groups, next } = await gru.get("/nodes/spear2/groups?limit=1");
  assert.deepEqual([groups[0].groupId, next], ["10", "10"]);
  const rest = await gru.get(`/nodes/spear2/groups?limit=1&cursor=${next}`);
  assert.deepEqual([rest.groups[0].groupId, rest.next], ["11", null]);
});

interface ServerEvent {
  readonly event: string;
  readonly data: Json;
}

async function* readEvents(response: Response): AsyncGenerator<ServerEvent, void> {
  let text = "";
  const chunks = response.body?.pipeThrough(new TextDecoderStream()) ?? [];
  try {
    for await (const chunk of chunks) {
      text += chunk;
      const parts = text.split("\n\n");
      text = parts.pop() ?? "";
      for (const part of parts) {
        const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(part) ?? [];
        if (event !== undefined && data !== undefined) yield { event, data: JSON.parse(data) };
      }
    }
  } catch {
    // Aborted by the test.
  }
}

Deno.test("who is muted may send nothing there, until it is lifted; everything else goes on", async () => {
  await using gru = await start();
  const [ann, bob] = [await gru.enter(1, 1, [10, 11]), await gru.enter(2, 2, [10])];
  const say = async (client: TestClient, groupId: number): Promise<string> => {
    const message = { type: 1, target: { id: groupId }, content: "x" };
    const { success, errorCode, msg } = await client.request("msg", message);
    return success ? "accepted" : `${errorCode} ${msg}`;
  };
  const cases = [
    ["/users/1/mute", { userId: "1" }, [1, 0, "msg: user 1 is muted"], ["refused", "refused"]],
    ["/groups/10/mute", { groupId: "10" }, [1, 1, "msg: group 10 is muted"], [
      "refused",
      "accepted",
    ]],
    [
      ...["/users/1/groups/10/mute", { userId: "1", groupId: "10" }] as const,
      ...[[1, 0, "msg: user 1 is muted in group 10"], ["refused", "accepted"]] as const,
    ],
  ] as const;
  for (const [path, whom, [here, there, words], outcomes] of cases) {
    const { status, answer } = await gru.request("PUT", path, { reason: "spam", muteMs: 600_000 });
    assert.equal(status, 200, JSON.stringify(answer));
    const { until, ...touched } = answer;
    assert.deepEqual(touched, both(here, there));
    assert.deepEqual((await gru.get("/mutes")).mutes, [{ ...whom, reason: "spam", until }]);
    const answers = [await say(ann, 10), await say(ann, 11)];
    for (const [i, outcome] of outcomes.entries()) {
      const refused = `1002 ${words} until ${new Date(until).toISOString()}: spam`;
      assert.equal(answers[i], outcome === "refused" ? refused : "accepted");
    }
    assert.equal(await say(bob, 10) === "accepted", there === 0);
    await gru.post("/groups/10/messages", { content: "business systems may" });
    assert.equal((await gru.request("DELETE", path)).status, 200);
    assert.equal(await say(ann, 10), "accepted");
    const again = await gru.request("DELETE", path);
    assert.deepEqual([again.status, again.answer.error.code], [404, "not_found"]);
    assert.deepEqual((await gru.get("/mutes")).mutes, []);
  }
  const wrong = await gru.request("PUT", "/users/1/mute", { reason: "spam" });
  assert.match(wrong.answer.error.message, /^muteMs: .* is missing/);
});

Deno.test("a history that was cleared is empty, and who returns for it is told", async () => {
  await using gru = await start();
  const ann = await gru.enter(1, 1, [10]);
  await gru.post("/groups/10/messages", { content: "one" });
  const { seq, epoch } = await ann.next("msg");
  await gru.post("/groups/10/messages", { content: "two" });
  await ann.next("msg");
  assert.deepEqual((await gru.request("DELETE", "/groups/10/history")).answer, { cleared: true });
  assert.deepEqual((await gru.get("/groups/10/history")).messages, []);
  const bob = await gru.enter(2, 2);
  const subscribeGroups = [{ id: 10, since: { epoch, seq } }];
  const { data } = await bob.request("subscribe", { userId: 2, subscribeGroups });
  assert.deepEqual([data.positions[0].seq, data.positions[0].recovered], [seq + 1, false]);
  await gru.post("/groups/10/messages", { content: "three" });
  assert.equal((await bob.next("msg")).seq, seq + 2);
});
