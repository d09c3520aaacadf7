/** A rolling restart makes no noise: nobody who is back within the grace is told of, and who really went is. */
import assert from "node:assert/strict";
import { connect } from "@gru/client";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { Receiver, startHookStats } from "./hooks_scene.ts";
import { TestCluster } from "./processes.ts";

const users = 60;
const graceMs = 10_000;
const presence = /^(user\.(online|offline)|group\.|member\.)/;

serverTest({
  name: "hooks: a rolling restart with a grace of ten seconds tells nothing of users who are back",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(new Receiver());
    const cluster = stack.use(await TestCluster.start({ tickMs: 500 }));
    await startHookStats(cluster, stack, receiver, { graceMs });
    const [ticket, , ...spears] = await Promise.all([
      cluster.add("ticket", "test1"),
      cluster.add("idgen", "test1"),
      ...[1, 2, 3].map((id) => cluster.add("spear", "test1", { id, drainMs: 2000 })),
    ]);
    assert.ok(ticket !== undefined);
    const retry = { firstMs: 200, mostMs: 2000 };
    const clients = Array.from({ length: users }, (_, i) => {
      const gru = connect({
        ticket: ticket.address,
        user: { id: i + 1, name: `user${i + 1}` },
        retry,
      });
      gru.group(`g${i % 6}`).on("message", () => {});
      return gru;
    });
    stack.defer(async () => {
      await Promise.all(clients.map((gru) => gru.close({ waitMs: 0 })));
    });
    const total = () => receiver.online.size + receiver.members.size;
    await waitFor(() => total() === 2 * users, { timeoutMs: 60_000, what: "all are told of" });

    const before = receiver.kinds.length;
    const nodes = () => clients.map(({ state }) => state.name === "online" ? state.node : "");
    const moved = new Set<string>();
    for (const [i, spear] of spears.entries()) {
      const here = nodes();
      spears[i] = await spear.restart({ signal: "SIGTERM" });
      await waitFor(() => nodes().every((node) => node !== ""), {
        ...{ timeoutMs: 60_000, what: "all are back" },
      });
      for (const [n, node] of nodes().entries()) if (node !== here[n]) moved.add(`${n}`);
    }
    assert.ok(moved.size >= users / 2, `only ${moved.size} clients moved`);
    // The last event that this user causes comes behind all that the roll could have caused.
    await clients[0]?.close();
    await waitFor(() => total() === 2 * (users - 1), {
      ...{ timeoutMs: 60_000, what: "who really went is told of" },
    });
    const noise = receiver.kinds.slice(before).filter((kind) => presence.test(kind));
    assert.deepEqual(noise.toSorted(), ["member.left", "user.offline"]);
    const { invented, inverted } = receiver.counts;
    assert.deepEqual({ invented, inverted }, { invented: 0, inverted: 0 });
  },
});
