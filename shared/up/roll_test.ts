/** A cluster whose spears are stopped and started one after the other, under load: nothing is lost, and nobody is thought to be gone. */
import assert from "node:assert/strict";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { RawClient } from "../../spear/load/raw_client.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";
import { faultsOf, Ledger, noFaults } from "../../spear/load/ledger.ts";
import { settled, Talk, Witness } from "../../spear/load/witness.ts";

const clientCount = 300;
const groups = 30;
const messagesPerSecond = 600;
const drainMs = 4000;
/** Beyond `drainMs`, with room for a machine that has much else to do. */
const stopMs = drainMs + 6000;
/** What stat says of who came may be so old, with the same room. */
const presenceMs = 6000;

/** A client that is in, and does not answer any more: as when its machine has lost the network. */
async function vanishedClient(address: string, userId: number): Promise<RawClient> {
  const { hostname, port } = new URL(address);
  const answered = Promise.withResolvers<void>();
  const client = await RawClient.connect({
    ...{ host: hostname, port: Number(port) },
    onPacket: (packet) => packet.toString().startsWith("32") && answered.resolve(),
  });
  client.send(`21${JSON.stringify(["auth", { id: userId, name: "v", appType: "1" }])}`);
  const subscribeGroups = [{ id: 1 }];
  client.send(`22${JSON.stringify(["subscribe", { userId, subscribeGroups }])}`);
  await answered.promise;
  client.pause();
  return client;
}

/**
 * Whether it is now where it was since then. On a busy machine a client learns late that its connection is gone: one that is there still
 * is reached there by a message that is sent now.
 */
async function stays(client: Witness, since: number): Promise<boolean> {
  const now = Date.now();
  await waitFor(() => client.readySince !== since || client.newestAt > now);
  return client.readySince === since;
}

serverTest({
  name:
    "a rolling restart loses nothing, takes each node no longer than it may, and never shows a connected user as offline",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 1000 });
    const flags = { "zookeeper.sessionMs": 2500 };
    const httpPort = freePort();
    const spear = { ...flags, drainMs };
    const [ticket, ...spears] = await Promise.all([
      cluster.add("ticket", "test1", flags),
      cluster.add("spear", "test1", spear),
      cluster.add("spear", "test2", spear),
      cluster.add("spear", "test1", { ...spear, id: 3 }),
      cluster.add("idgen", "test1", { ...flags, ceilingMs: 2000 }),
      cluster.add("stat", "test1", { ...flags, httpPort }),
    ]).then(([ticket, one, two, three]) => [ticket, one, two, three] as const);

    await using running = new AsyncDisposableStack();
    const ledger = new Ledger();
    const clients = Array.from({ length: clientCount }, (_, i) => {
      const group = 1 + i % groups;
      return running.use(
        new Witness({ ticket: ticket.address, userId: i + 1, group, ledger: () => ledger }),
      );
    });
    await waitFor(() => clients.every(({ ready }) => ready), { what: "all clients are in" });
    const vanished: RawClient[] = [];
    for (const [i, { address }] of spears.entries()) {
      for (let n = 0; n < clientCount / 20 / spears.length; n++) {
        vanished.push(await vanishedClient(address, 10_000 + 100 * i + n));
      }
    }
    running.defer(() => vanished.forEach((client) => client.close()));

    async function offline(group: number): Promise<number[]> {
      const askedAt = performance.now();
      const members = clients.filter((client) => client.group === group)
        .map((client) => ({ client, since: client.readySince }))
        .filter(({ since }) => since < askedAt - presenceMs);
      const url = `http://127.0.0.1:${httpPort}/getGroupStat?groupId=${group}`;
      const { userIds } = await (await fetch(url)).json();
      const missing = members.filter(({ client }) => !userIds.includes(client.userId));
      // Who left while stat was asked may be missing.
      const stayed = await Promise.all(missing.map(({ client, since }) => stays(client, since)));
      return missing.filter((_, i) => stayed[i]).map(({ client }) => client.userId);
    }

    using talk = new Talk(clients, messagesPerSecond);
    talk.start();
    let rolling = true;
    let looks = 0;
    const watching = (async () => {
      for (let group = 1; rolling; group = 1 + group % groups) {
        assert.deepEqual(await offline(group), [], `group ${group}`);
        looks++;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    })();
    const stops: number[] = [];
    const roll = (async () => {
      for (const program of spears) stops.push(await stopAndStart(program));
    })().finally(() => rolling = false);
    await Promise.all([roll, watching]);
    talk.stop();

    const counts = await settled(clients, ledger);
    // deno-lint-ignore no-console -- the figures are for people
    console.log({ ...counts, looks, stops });
    assert.deepEqual(faultsOf(counts), noFaults);
    assert.equal(counts.accepted, counts.sent);
    assert.ok(stops.every((ms) => ms < stopMs), `a stop took ${stops} ms`);
  },
});

/** Milliseconds from SIGTERM to the end of the process. */
async function stopAndStart(program: RunningProgram): Promise<number> {
  const began = performance.now();
  await program.process.kill("SIGTERM");
  assert.equal((await program.process.ended).code, 0, program.process.output);
  const tookMs = Math.round(performance.now() - began);
  await program.restart();
  return tookMs;
}
