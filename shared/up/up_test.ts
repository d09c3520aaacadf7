import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { assertSuccess, enter, playScenario, usersOnTwoNodes } from "./scenario.ts";
import { upOnFreePorts } from "./up_testing.ts";

function up() {
  return upOnFreePorts();
}

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");

Deno.test("a message to a user reaches all connections of that user, on every node", async () => {
  await using cluster = await up();
  const { ticket, spear1, spear2 } = cluster.addresses;
  await using sender = await enter(ticket, 1, modern);
  await using stack = new AsyncDisposableStack();
  const receivers = [];
  for (const address of [spear1, spear1, spear2]) {
    const client = stack.use(await TestClient.connect(address, modern));
    assertSuccess(await client.request("auth", { id: "2" }));
    receivers.push(client);
  }
  assertSuccess(await sender.request("msg", { type: 0, target: { id: 2 }, content: "hello" }));
  const messages = await Promise.all(receivers.map((client) => client.next("msg")));
  assert.deepEqual(
    new Set(messages.map(({ seq, content }) => `${seq} ${content}`)),
    new Set(["1 hello"]),
  );
});

Deno.test("stat's GET /getGroupStat tells the users of a group over both nodes, and that they left", async () => {
  await using cluster = await up();
  const { ticket, stat } = cluster.addresses;
  const users = await usersOnTwoNodes(ticket, 1);
  async function groupStat() {
    const answer = await (await fetch(`${stat}/getGroupStat?groupId=10`)).json();
    return { ...answer, userIds: answer.userIds.toSorted() };
  }
  {
    await using stack = new AsyncDisposableStack();
    for (const userId of users) {
      const client = stack.use(await enter(ticket, userId, modern));
      assertSuccess(await client.request("subscribe", { userId, subscribeGroups: [{ id: 10 }] }));
    }
    await waitFor(async () => (await groupStat()).userIds.length === 2);
    assert.deepEqual(await groupStat(), { groupId: 10, userIds: users });
  }
  await waitFor(async () => (await groupStat()).userIds.length === 0);
});

Deno.test("minions shows the live nodes", async () => {
  await using cluster = await up();
  const { minions } = cluster.addresses;
  const { instances } = await (await fetch(`${minions}/nodes`)).json();
  const names = ["ticket1", "spear1", "spear2", "idgen1", "stat1", "minions1"];
  assert.deepEqual(instances.map(({ name }: { name: string }) => name), names);
  assert.match(await (await fetch(minions)).text(), /<script type="module" src="\/ui\/app.ts">/);
  const ready = await fetch(`${minions}/readyz`);
  assert.equal(ready.status, 200);
  await ready.body?.cancel();
});

Deno.test({
  name: "all five programs in one process do the main job for old clients and new",
  // socket.io-client 2 leaves timers behind for a few milliseconds; hence also at the end of the file.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using cluster = await up();
    for (const [i, dialect] of dialects.entries()) {
      await t.step(
        dialect.name,
        () =>
          playScenario(cluster.addresses.ticket, dialect, {
            group: 10 + i,
            firstUser: 1 + 100 * i,
          }),
      );
    }
  },
});
