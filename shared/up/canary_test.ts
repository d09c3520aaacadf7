/** Three spears over real servers: what the canary says of one that Redis does not reach, and the trail of a message past a frozen one. */
import assert from "node:assert/strict";
import { freePort, serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { authenticated } from "../../spear/spear_testing.ts";
import type { Json } from "../../spear/test_client.ts";
import { TestCluster } from "./processes.ts";
import { assertSuccess } from "./scenario.ts";

serverTest({
  name:
    "the canary shows which node hears nobody, and the trail of a message which node is missing",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using cluster = await TestCluster.start({ tickMs: 500 });
    await using line = new FaultyProxy({ port: cluster.redis.port });
    const httpPort = freePort();
    const flags = { canaryMs: 200, drainMs: 0 };
    const [spear1, , spear3] = await Promise.all([
      cluster.add("spear", "test1", { ...flags, id: 1 }),
      cluster.add("spear", "test1", { ...flags, id: 2, redis: `redis://${line.address}` }),
      cluster.add("spear", "test1", { ...flags, id: 3 }),
      cluster.add("stat", "test1", { httpPort }),
      cluster.add("idgen", "test1"),
    ]);
    const ask = async (path: string): Promise<Json> =>
      await (await fetch(`http://127.0.0.1:${httpPort}${path}`)).json();
    /** `spear1<spear2 ok`: the first one hears the second. */
    const matrix = async () => {
      const { nodes } = await ask("/canary");
      return nodes.flatMap(({ node, heard, periodMs }: Json) =>
        heard.map((one: Json) =>
          `${node}<${one.node} ${one.silentMs > 3 * periodMs ? "silent" : "ok"}`
        )
      );
    };
    const names = ["spear1", "spear2", "spear3"];
    const expected = (state: (hears: string, heard: string) => string) =>
      names.flatMap((hears) => names.map((heard) => `${hears}<${heard} ${state(hears, heard)}`));
    const shows = (state: (hears: string, heard: string) => string) =>
      waitFor(async () => `${await matrix()}` === `${expected(state)}`);
    await shows(() => "ok");

    line.freeze();
    // It hears nobody, and nobody hears it.
    await shows((hears, heard) => [hears, heard].includes("spear2") ? "silent" : "ok");
    line.pass();
    await shows(() => "ok");
    assert.deepEqual(
      (await ask("/canary")).nodes.flatMap(({ heard }: Json) => heard.map((one: Json) => one.lost)),
      new Array(9).fill(0),
    );

    await using ann = await authenticated(spear1.address, 1);
    await using bob = await authenticated(spear3.address, 2);
    for (const [id, client] of [[1, ann], [2, bob]] as const) {
      assertSuccess(
        await client.request("subscribe", { userId: id, subscribeGroups: [{ id: 10 }] }),
      );
    }
    spear3.process.freeze();
    const sent = await ann.request("msg", { type: 1, target: { id: 10 }, content: "who has it?" });
    assertSuccess(sent);
    const trail = await ask(`/messages/${sent.data.id}`);
    assert.deepEqual(trail.failed.map(({ node }: Json) => node), ["spear3"]);
    assert.deepEqual(trail.accepted.node, "spear1");
    assert.deepEqual(
      trail.nodes.map(({ node, connections }: Json) => `${node} ${connections}`),
      ["spear1 1", "spear2 0"],
    );
    spear3.process.thaw();
    await waitFor(async () => {
      const { nodes } = await ask(`/messages/${sent.data.id}`);
      return nodes.some(({ node, connections }: Json) => node === "spear3" && connections === 1);
    });
  },
});
