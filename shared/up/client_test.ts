/** The client library against a whole cluster in this process. */
import assert from "node:assert/strict";
import {
  connect,
  type ConnectOptions,
  type Gru,
  type GruError,
  type Message,
  type State,
} from "@gru/client";
import { waitFor } from "@gru/shared/testing/harness";
import type { Up } from "./up.ts";
import { upOnFreePorts } from "./up_testing.ts";

function up(): Promise<Up> {
  return upOnFreePorts();
}

const retry = { firstMs: 50, mostMs: 500 };

/** Ends with the stack. */
function connected(
  stack: AsyncDisposableStack,
  cluster: Up,
  id: number,
  options: Partial<ConnectOptions> = {},
): Gru {
  const user = { id, name: `user${id}` };
  const gru = connect({ ticket: cluster.addresses.ticket, user, retry, ...options });
  stack.defer(() => gru.close({ waitMs: 0 }));
  return gru;
}

async function online(gru: Gru): Promise<void> {
  await waitFor(() => gru.state.name === "online", { what: "online" });
}

/** The contents that come. */
function contents(source: { on(event: "message", listener: (message: Message) => void): void }) {
  const all: string[] = [];
  source.on("message", ({ content }) => all.push(content));
  return all;
}

Deno.test("two users talk in a group and in private, and a sending resolves to the message's place", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const [ann, bob] = [connected(stack, cluster, 1), connected(stack, cluster, 2)];
  const rooms = [ann, bob].map((gru) => gru.group(10));
  const came = rooms.map(contents);
  const got: Message[] = [];
  rooms[1]?.on("message", (message) => got.push(message));
  await Promise.all([online(ann), online(bob)]);
  const { id, epoch, seq } = await ann.group(10).send("hello");
  await waitFor(() => came.every((all) => all.length === 1));
  const { createTime, ...message } = got[0] as Message & { expireTime: number; msgType: number };
  assert.ok(Math.abs(createTime - Date.now()) < 60_000);
  assert.equal(seq, 1);
  assert.deepEqual(
    { ...message, expireTime: 0 },
    {
      ...{ id, epoch, seq, fromId: "1", content: "hello", msgType: 1, expireTime: 0 },
      target: { kind: "group", id: "10" },
    },
  );

  const privately = contents(bob.user(2));
  await ann.user(2).send("psst");
  await waitFor(() => privately.length === 1);
  assert.deepEqual([came, privately], [[["hello"], ["hello"]], ["psst"]]);
});

Deno.test("what is sent before the connection stands is sent in order when it does", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const ann = connected(stack, cluster, 1);
  const room = ann.group(10);
  const came = contents(room);
  const sent = Array.from({ length: 30 }, (_, i) => room.send(`${i}`));
  const seqs = (await Promise.all(sent)).map(({ seq }) => seq);
  assert.deepEqual(seqs, Array.from({ length: 30 }, (_, i) => i + 1));
  await waitFor(() => came.length === 30);
  assert.deepEqual(came, Array.from({ length: 30 }, (_, i) => `${i}`));
});

Deno.test("iterations read at their own pace, and end when the client is closed", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const ann = connected(stack, cluster, 1);
  const own = ann.user(1);
  const read: string[] = [];
  const reading = (async () => {
    for await (const { content } of own) read.push(content);
  })();
  for (const content of ["a", "b", "c"]) await own.send(content);
  await waitFor(() => read.length === 3);
  assert.deepEqual(read, ["a", "b", "c"]);
  await ann.close();
  await reading;
  assert.deepEqual(ann.state, { name: "closed" });
  await assert.rejects(own.send("late"), { name: "GruError", code: "closed" });
});

Deno.test("one that enters later is given the newest messages first", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const ann = connected(stack, cluster, 1);
  for (let i = 0; i < 10; i++) await ann.group("lobby").send(`${i}`);
  const came = contents(connected(stack, cluster, 2).group("lobby", { last: 3 }));
  await waitFor(() => came.length === 3);
  await ann.group("lobby").send("new");
  await waitFor(() => came.length === 4);
  assert.deepEqual(came, ["7", "8", "9", "new"]);
});

Deno.test("presence tells who comes and goes, over both nodes", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const room = connected(stack, cluster, 1).group(10, { presence: true });
  const changes: string[] = [];
  room.on("presence", ({ joined, left }) => changes.push(`+${joined} -${left}`));
  await waitFor(() => room.users.has("1"));
  const others = [2, 3, 4, 5].map((id) => connected(stack, cluster, id));
  for (const other of others) other.group(10).on("message", () => {});
  await waitFor(() => room.users.size === 5);
  assert.deepEqual((await others[0]?.group(10).online())?.toSorted(), ["1", "2", "3", "4", "5"]);
  await others[3]?.close();
  await waitFor(() => !room.users.has("5"));
  assert.deepEqual([...room.users].toSorted(), ["1", "2", "3", "4"]);
  assert.ok(changes.length > 0 && changes.at(-1) === "+ -5", changes.join("; "));
});

Deno.test("a kick ends the client and says why", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const ann = connected(stack, cluster, 1);
  const states: State[] = [];
  ann.on("state", (state) => states.push(state));
  await online(ann);
  const kick = { method: "POST", body: JSON.stringify({ reason: "enough" }) };
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${cluster.addresses.stat}/users/1/kick`, { ...kick, headers });
  assert.equal(response.status, 200, await response.text());
  await waitFor(() => ann.state.name === "closed");
  const { why } = ann.state as { why: Error };
  assert.deepEqual({ ...why }, { ...why, code: "kicked", retryable: false });
  assert.match(why.message, /enough/);
  assert.deepEqual(states.map(({ name }) => name), ["connecting", "online", "closed"]);
});

Deno.test("a user whom the business system puts into a group gets its messages, and none when taken out", async () => {
  await using cluster = await up();
  await using stack = new AsyncDisposableStack();
  const ann = connected(stack, cluster, 1);
  const put = Promise.withResolvers<string>();
  ann.on("subscribed", put.resolve);
  await online(ann);
  const act = async (method: string, path: string, body?: object) => {
    const response = await fetch(`${cluster.addresses.stat}${path}`, {
      method,
      ...body === undefined
        ? {}
        : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) },
    });
    assert.equal(response.status, 200, await response.clone().text());
    return await response.json();
  };
  await act("PUT", "/users/1/groups/10");
  assert.equal(await put.promise, "10");
  await act("POST", "/groups/10/messages", { content: "one" });
  const room = ann.group("10");
  const came = contents(room);
  const closed = new Promise<GruError>((resolve) => room.on("closed", resolve));
  await waitFor(() => came.length === 1);
  assert.deepEqual(came, ["one"]);
  await act("DELETE", "/users/1/groups/10");
  assert.equal((await closed).code, "kicked");
  await act("POST", "/groups/10/messages", { content: "two" });
  await act("POST", "/users/1/messages", { content: "the end" });
  const own = contents(ann.user(1));
  await waitFor(() => own.length === 1);
  assert.deepEqual(came, ["one"]);
});
