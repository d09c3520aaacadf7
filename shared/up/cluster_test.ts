import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { dialects } from "../../spear/test_client.ts";
import { type RunningProgram, spawnProgram, TestCluster } from "./processes.ts";
import { askTicket, playScenario } from "./scenario.ts";

/** By name, the address of every node that ticket knows: a ticket names them all. */
async function nodesAtTicket(ticket: RunningProgram): Promise<Record<string, string>> {
  const { name, addr, backupNodes } = await askTicket(ticket.address, 1);
  return Object.fromEntries([{ name, addr }, ...backupNodes].map(({ name, addr }) => [name, addr]));
}

/** The milliseconds until ticket names just these nodes. */
async function untilTicketNames(
  ticket: RunningProgram,
  nodes: Readonly<Record<string, RunningProgram>>,
): Promise<number> {
  const expected = Object.entries(nodes).map(([name, { address }]) => [name, address]);
  const began = performance.now();
  await waitFor(async () => {
    const known = await nodesAtTicket(ticket).catch(() => ({}));
    return JSON.stringify(Object.entries(known).sort()) === JSON.stringify(expected.sort());
  }, { what: `ticket names ${JSON.stringify(expected)}` });
  return Math.round(performance.now() - began);
}

serverTest({
  name:
    "separate programs over ZooKeeper and Redis do the main job, grow, lose a node, and heal by themselves",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using cluster = await TestCluster.start();
    const [idgen, stat, spear1, second, ticket] = await Promise.all([
      cluster.add("idgen", "test1"),
      cluster.add("stat", "test1"),
      cluster.add("spear", "test1"),
      cluster.add("spear", "test2"),
      cluster.add("ticket", "test1"),
    ]);
    let spear2 = second;
    let groups = 10;
    const play = async () => {
      for (const dialect of dialects.slice(0, 3)) {
        groups++;
        await playScenario(ticket.address, dialect, { group: groups, firstUser: groups * 1000 });
      }
    };
    await untilTicketNames(ticket, { spear1, spear2 });

    await t.step("clients old and new talk over two nodes", play);

    await t.step("a third spear, started by flags, is handed out; killed, it is gone", async () => {
      const spear3 = await cluster.add("spear", "test1", { id: 3 });
      const inMs = await untilTicketNames(ticket, { spear1, spear2, spear3 });
      await spear3.process.kill();
      const outMs = await untilTicketNames(ticket, { spear1, spear2 });
      // deno-lint-ignore no-console -- for people; nothing timed decides
      console.log(`  handed out ${inMs} ms after it was ready, gone ${outMs} ms after kill -9`);
    });

    await t.step("a spear that was killed starts again under its name", async () => {
      await spear2.process.kill();
      spear2 = await cluster.add("spear", "test2");
      await untilTicketNames(ticket, { spear1, spear2 });
      await play();
    });

    await t.step("a spear that is stopped is gone at once", async () => {
      await spear2.process.kill("SIGTERM");
      await untilTicketNames(ticket, { spear1 });
      spear2 = await cluster.add("spear", "test2");
      await untilTicketNames(ticket, { spear1, spear2 });
    });

    await t.step("ZooKeeper restarts, and everything works as before", async () => {
      await cluster.zookeeper.kill();
      assert.deepEqual(Object.keys(await nodesAtTicket(ticket)).sort(), ["spear1", "spear2"]);
      await cluster.zookeeper.start();
      await play();
      await untilTicketNames(ticket, { spear1, spear2 });
    });

    await t.step("Redis restarts, and everything works as before", async () => {
      await cluster.redis.kill();
      await cluster.redis.start();
      await play();
    });

    await t.step("every program ends with code 0 on SIGTERM", async () => {
      for (const { process } of [ticket, spear1, spear2, stat, idgen]) {
        await process.kill("SIGTERM");
        assert.equal((await process.ended).code, 0, process.output);
      }
    });
  },
});

for (
  const [what, flags, message] of [
    ["an unknown flag", { prot: 1 }, /unknown flag --prot; did you mean --port\?/],
    ["a port that is no number", { port: "x" }, /port: is "x"; expected number/],
    ["a port out of range", { port: 70000 }, /port: is 70000/],
    ["an unknown mode", { mode: "both" }, /mode: is "both"; expected one of "single"/],
    ["a bad registry", { registry: "etcd://x" }, /registry: is "etcd:\/\/x"; expected memory: or/],
    ["a profile that is not there", { profile: "none" }, /no profile none/],
    ["a missing secret", { "auth.scheme": "gru" }, /saltToSpear: .*GRU_SALT_TOSPEAR/],
    [
      "an address others can reach without a key",
      { host: "0.0.0.0" },
      /rpc\.advertise|GRU_CLUSTER_KEY/,
    ],
  ] as const
) {
  Deno.test(`spear with ${what} says so and exits with code 2`, async () => {
    await using process = spawnProgram("spear", "test1", { mode: "single", port: 0, ...flags });
    const { code } = await process.ended;
    await process.kill();
    assert.equal(code, 2, process.output);
    assert.match(process.output, message);
  });
}
