/**
 * The events of hooks over real processes: what a receiver rebuilds from them alone is the truth, whatever is killed, and however
 * the receiver answers.
 */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import type { Json, TestClient } from "../../spear/test_client.ts";
import { holderOf, Receiver, startHookStats } from "./hooks_scene.ts";
import { TestCluster } from "./processes.ts";
import { assertSuccess } from "./scenario.ts";

const graceMs = 1500;

serverTest({
  name:
    "hooks: the receiver's view is the truth after spears and the sending stat are killed, and after it was away",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(new Receiver());
    const cluster = stack.use(await TestCluster.start({ tickMs: 500 }));
    const stats = await startHookStats(cluster, stack, receiver, { graceMs });
    const spears = await Promise.all([
      ...[1, 2, 3].map((id) => cluster.add("spear", "test1", { id, drainMs: 500 })),
      cluster.add("idgen", "test1"),
    ]);
    const ask = async (path: string, init?: RequestInit): Promise<Json> => {
      for (const { httpPort } of stats) {
        const answer = await fetch(`http://127.0.0.1:${httpPort}${path}`, init)
          .catch(() => undefined);
        if (answer?.ok) return await answer.json();
        await answer?.body?.cancel();
      }
      throw new Error(`${path}: no stat answers`);
    };

    /** Connections by user, and where each is. */
    const clients = new Map<string, { readonly client: TestClient; readonly groups: string[] }>();
    let nextUser = 0;
    stack.defer(async () => {
      for (const { client } of clients.values()) await client[Symbol.asyncDispose]();
    });
    const enter = async (spear: number, user = ++nextUser) => {
      const at = spears[spear];
      assert.ok(at);
      const client = await authenticated(at.address, user);
      const groups = [`g${user % 5}`, `own${user}`];
      clients.set(`${user}`, { client, groups });
      const subscribeGroups = groups.map((id) => ({ id }));
      assertSuccess(await client.request("subscribe", { userId: user, subscribeGroups }));
    };
    const leave = async (user: string) => {
      await clients.get(user)?.client[Symbol.asyncDispose]();
      clients.delete(user);
    };
    /** Waits until the receiver's view is the truth: who is connected, and in which groups. */
    const agrees = async (what: string) => {
      const truth = () => {
        const members = [...clients].flatMap(([user, { groups }]) =>
          groups.map((group) => `${group} ${user}`)
        );
        const groups = new Set(members.map((member) => member.split(" ")[0]));
        return [[...clients.keys()], members, [...groups]].map((list) => list.sort().join());
      };
      const view = () =>
        [receiver.online, receiver.members, receiver.occupied].map((set) => [...set].sort().join());
      await waitFor(() => `${view()}` === `${truth()}`, { timeoutMs: 120_000, what })
        .catch((error) => {
          throw new Error(
            `${error.message}: ${view()} instead of ${truth()}; ${JSON.stringify(receiver.counts)}`,
          );
        });
      const { invented, inverted } = receiver.counts;
      assert.deepEqual({ invented, inverted }, { invented: 0, inverted: 0 }, what);
      rows.push({ what, ...receiver.counts, gaps: receiver.gaps.length });
    };
    const rows: Json[] = [];

    for (let n = 0; n < 30; n++) await enter(n % 3);
    await agrees("30 users on three spears");
    assert.deepEqual([...receiver.nodes].sort(), ["spear1", "spear2", "spear3"]);
    assert.deepEqual(receiver.gaps.map(({ reason, reset }) => [reason, reset]), [["lost", true]]);

    // Who is back within the grace makes no noise.
    const before = receiver.counts.events;
    for (const user of ["1", "2", "3"]) {
      await leave(user);
      await enter((Number(user) - 1) % 3, Number(user));
    }
    for (const user of ["4", "5"]) await leave(user);
    await agrees("three are back within the grace, two have left");
    // Each of the two was online, in a group with others, and alone in one.
    assert.equal(receiver.counts.events - before, 2 * 4);

    const kick = { method: "POST", headers: { "content-type": "application/json" } };
    await ask("/users/6/kick", { ...kick, body: '{"reason":"spam"}' });
    clients.delete("6");
    await agrees("a user was kicked");
    assert.deepEqual(receiver.kicked, ["6"]);

    // A spear dies: nobody says goodbye for its users.
    await spears[0]?.process.kill();
    for (const user of [...clients.keys()].filter((user) => (Number(user) - 1) % 3 === 0)) {
      clients.delete(user);
    }
    await waitFor(() => !receiver.nodes.has("spear1"), { timeoutMs: 60_000 });
    await agrees("a spear was killed");

    // The stat that sends dies in the middle of changes; the other one takes over.
    const { sender } = await ask("/hooks");
    assert.equal(sender, true);
    let isAway = true;
    receiver.behave = () => Promise.resolve({ status: isAway ? 503 : 200, takes: !isAway });
    for (let n = 0; n < 10; n++) await enter(1 + n % 2);
    const holder = await holderOf(stats);
    await holder.process.kill();
    for (let n = 0; n < 10; n++) await enter(1 + n % 2);
    isAway = false;
    await agrees("the sending stat was killed while the receiver was away");
    await holder.restart();

    // Slow, failing after it has taken them, answers lost.
    let turn = 0;
    receiver.behave = async () => {
      turn++;
      if (turn % 4 === 0) return { status: 500, takes: true };
      if (turn % 4 === 1) await new Promise((resolve) => setTimeout(resolve, 1500));
      return { status: 200, takes: true };
    };
    for (let n = 0; n < 15; n++) await enter(1 + n % 2);
    for (const user of [...clients.keys()].slice(0, 8)) await leave(user);
    // For good, an endpoint that fails every other time may be left alone for minutes.
    await waitFor(() => turn >= 12, { timeoutMs: 60_000, what: "twelve requests" });
    receiver.behave = () => Promise.resolve({ status: 200, takes: true });
    await agrees("the receiver was slow, failed and lost answers");

    const { endpoints } = await ask("/hooks");
    assert.deepEqual(endpoints.map(({ name }: Json) => name), ["crm"]);
    assert.ok(endpoints[0].delivered > 0);
    // deno-lint-ignore no-console
    console.table(rows);
  },
});
