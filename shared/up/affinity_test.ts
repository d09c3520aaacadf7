/** Clients that ask with the same affinity are placed on the same node, and go together when it is emptied. */
import assert from "node:assert/strict";
import { connect, type Gru } from "@gru/client";
import { waitFor } from "@gru/shared/testing/harness";
import { upOnFreePorts } from "./up_testing.ts";

Deno.test("clients with the same affinity are on one node, also after it was drained, and stat says which it is", async () => {
  await using cluster = await upOnFreePorts();
  const { ticket, stat } = cluster.addresses;
  await using stack = new AsyncDisposableStack();
  const rooms = ["room 1", "lesson:7", "game/9", "a", "房间 5", "table 12"];
  const clients = new Map<string, Gru[]>();
  let id = 0;
  for (const affinity of rooms) {
    const members = Array.from({ length: 5 }, (_, i) => {
      const gru = connect({
        ...{ ticket, affinity, user: { id: ++id, name: "x" }, retry: { firstMs: 50, mostMs: 500 } },
        method: i % 2 === 0 ? "POST" : "GET",
      });
      stack.defer(() => gru.close({ waitMs: 0 }));
      return gru;
    });
    clients.set(affinity, members);
  }
  const nodesOf = (members: readonly Gru[]) =>
    new Set(members.map(({ state }) => state.name === "online" ? state.node : "none"));
  const places = () => [...clients.values()].map(nodesOf);
  const areTogether = () => places().every((nodes) => nodes.size === 1 && !nodes.has("none"));
  await waitFor(areTogether, { what: "each room on one node" });
  const before = new Set(places().flatMap((nodes) => [...nodes]));
  assert.deepEqual([...before].sort(), ["spear1", "spear2"]);

  const connection = async (user: number) => {
    const { nodes } = await (await fetch(`${stat}/users/${user}`)).json();
    return nodes[0]?.connections[0];
  };
  await waitFor(async () => (await connection(1))?.affinity === "room 1");

  const drain = await fetch(`${stat}/nodes/spear1/drain`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: '{"overMs":500}',
  });
  assert.equal(drain.status, 200, await drain.text());
  await waitFor(() => places().every((nodes) => nodes.size === 1 && nodes.has("spear2")), {
    what: "all on the other node",
  });
});

Deno.test("a ticket's affinity that is none is refused with its name", async () => {
  await using cluster = await upOnFreePorts();
  const query = new URLSearchParams({
    ...{ userId: "1", userName: "x", appType: "1", token1: "t", affinity: "a".repeat(129) },
  });
  const answer = await (await fetch(`${cluster.addresses.ticket}/ticket?${query}`)).json();
  assert.deepEqual([answer.errorCode, answer.msg], [
    710,
    "parameter affinity: expected text of 1 to 128 characters",
  ]);
  const post = await fetch(`${cluster.addresses.ticket}/ticket`, {
    method: "POST",
    headers: { authorization: "Bearer t", "content-type": "application/json" },
    body: '{"userId":1,"affinity":[]}',
  });
  assert.equal((await post.json()).detail, "body.affinity: expected text or an integer");
});
