/** Clients that are far away, and one that was away while very much was published: on real processes, under load. */
import assert from "node:assert/strict";
import { pause } from "@gru/shared/pause";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { authenticated } from "../../spear/spear_testing.ts";
import type { Json, TestClient } from "../../spear/test_client.ts";
import { type Flags, TestCluster } from "./processes.ts";
import { faultsOf, Ledger, noFaults } from "../../spear/load/ledger.ts";
import { settled, Talk, Witness } from "../../spear/load/witness.ts";

const flags = { "zookeeper.sessionMs": 2500, drainMs: 0 };

async function startCluster() {
  const cluster = await TestCluster.start({ tickMs: 1000 });
  const idgen = cluster.add("idgen", "test1", { "zookeeper.sessionMs": 2500, ceilingMs: 2000 });
  await Promise.all([idgen, cluster.add("stat", "test1", { "zookeeper.sessionMs": 2500 })]);
  return cluster;
}

serverTest({
  name:
    "clients on default transports 40 ms away that lose their connections under load get each message once and in order",
  needs: ["zookeeper", "redis"],
  // socket.io-client keeps the ping timer of a connection that was cut in a bad moment until the ping is due, 45 s later.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const [clientCount, groups, perSecond, cuts] = [60, 6, 300, 6];
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await startCluster());
    const proxies: FaultyProxy[] = [];
    let upgrades = 0;
    const onAnswer = (bytes: Uint8Array) => {
      if (new TextDecoder().decode(bytes.subarray(0, 12)) === "HTTP/1.1 101") upgrades++;
    };
    async function addSpear(id: number): Promise<void> {
      const port = freePort();
      const proxy = stack.use(new FaultyProxy({ port }, { delayMs: 40, onAnswer }));
      proxies.push(proxy);
      const advertise = `http://${proxy.address}`;
      await cluster.add("spear", "test1", { ...flags, id, port, advertise });
    }
    await Promise.all([addSpear(1), addSpear(2)]);
    const ticket = await cluster.add("ticket", "test1", { "zookeeper.sessionMs": 2500 });

    const ledger = new Ledger();
    const clients = Array.from({ length: clientCount }, (_, i) =>
      stack.use(
        new Witness({
          ...{ ticket: ticket.address, userId: i + 1, group: 1 + i % groups, ledger: () => ledger },
          // As socket.io-client has them.
          transports: ["polling", "websocket"],
          retry: { firstMs: 200, mostMs: 2000 },
        }),
      ));
    await waitFor(() => clients.every(({ ready }) => ready), { what: "all clients are in" });
    using talk = new Talk(clients, perSecond);
    talk.start();
    for (let i = 0; i < cuts; i++) {
      // At any moment of a connection: while it polls, while it is upgraded, and after that.
      await pause(100 + 300 * i);
      proxies[i % 2]?.cut();
    }
    await pause(1000);
    talk.stop();
    const counts = await settled(clients, ledger);
    // deno-lint-ignore no-console -- the figures are for people
    console.log({ ...counts, upgrades });
    assert.deepEqual({ ...faultsOf(counts), missed: counts.missed }, { ...noFaults, missed: 0 });
    assert.equal(counts.accepted, counts.sent);
    assert.ok(upgrades > clientCount, `${upgrades} upgrades`);
    assert.ok(counts.reconnects >= clientCount, `${counts.reconnects} reconnects`);
  },
});

serverTest({
  name:
    "a client with 20 MB to recover gets all of it on another node, in order, while others publish",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    const [count, content] = [400, "x".repeat(50_000)];
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await startCluster());
    const history: Flags = { "history.bytes": 40_000_000, "history.size": 100_000 };
    const [near, far] = await Promise.all([
      cluster.add("spear", "test1", { ...flags, ...history }),
      cluster.add("spear", "test2", { ...flags, ...history }),
    ]);
    const subscribe = (client: TestClient, userId: number, since?: Json) =>
      client.request("subscribe", { userId, subscribeGroups: [{ id: 10, since }] });
    async function positionOf(result: Promise<Json>): Promise<Json> {
      const { success, data } = await result;
      assert.equal(success, true);
      return data.positions[0];
    }

    const early = stack.use(await authenticated(near.address, 1));
    const { epoch, seq: start } = await positionOf(subscribe(early, 1));
    await early[Symbol.asyncDispose]();
    const publisher = stack.use(await authenticated(near.address, 2));
    async function publish(text: string): Promise<number> {
      const result = await publisher.request("msg", { type: 1, target: { id: 10 }, content: text });
      assert.equal(result.success, true, JSON.stringify(result));
      return result.data.seq;
    }
    const sent = new Map<number, string>();
    for (let i = 0; i < count; i++) {
      const text = `${i} ${content}`;
      sent.set(await publish(text), text);
    }

    const back = stack.use(await authenticated(far.address, 1));
    let recovered = false;
    const publishing = (async () => {
      for (let i = 0; !recovered; i++) sent.set(await publish(`live ${i}`), `live ${i}`);
    })();
    const position = await positionOf(subscribe(back, 1, { epoch, seq: start }))
      .finally(() => recovered = true);
    await publishing;
    const last = Math.max(...sent.keys());
    await waitFor(() => back.pending("msg").at(-1)?.seq === last);
    const received = back.pending("msg").map(({ seq, content }) => [seq, content] as const);
    assert.equal(position.recovered, true);
    // deno-lint-ignore no-console -- the figures are for people
    console.log({ recovered: count, live: received.length - count, at: position.seq });
    assert.ok(received.length > count, "others published meanwhile");
    assert.deepEqual(received.map(([seq]) => seq), received.map((_, i) => start + 1 + i));
    assert.ok(received.every(([seq, text]) => sent.get(seq) === text));
    assert.equal(received.length, sent.size);
  },
});
