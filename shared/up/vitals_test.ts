/** What the console says of the last minute of each node, over a whole cluster in this process. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import type { NodeVitals } from "../../minions/snapshot.ts";
import { authenticated } from "../../spear/spear_testing.ts";
import { assertSuccess } from "./scenario.ts";
import { upOnFreePorts } from "./up_testing.ts";

Deno.test("the console tells how long messages took on each node in the last minute, and how often clients got errors", async () => {
  await using cluster = await upOnFreePorts(() => undefined);
  const { minions, spear1 } = cluster.addresses;
  const ofNode = async (name: string) => {
    const nodes: readonly NodeVitals[] = await (await fetch(`${minions}/vitals`)).json();
    const found = nodes.find(({ node }) => node === name);
    assert.ok(found !== undefined && found.vitals !== null, JSON.stringify(nodes));
    return found.vitals;
  };
  assert.equal((await ofNode("spear1")).delivery, null);
  assert.equal((await ofNode("spear1")).errorsPerSecond, 0);

  await using ann = await authenticated(spear1, 1);
  assertSuccess(await ann.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10 }] }));
  assertSuccess(await ann.request("msg", { type: 1, target: { id: 10 }, content: "hello" }));
  for (let i = 0; i < 20; i++) {
    assert.equal((await ann.request("msg", { type: 7, target: { id: 10 } })).success, false);
  }
  await waitFor(async () => {
    const { delivery, errorsPerSecond, refusedPerSecond } = await ofNode("spear1");
    return delivery !== null && errorsPerSecond > 0 && refusedPerSecond > 0;
  });
  const { delivery, loopLagMs, cutOff, missed } = await ofNode("spear1");
  assert.ok(delivery !== null && delivery.p50 <= delivery.p99 && loopLagMs >= 0);
  assert.deepEqual([cutOff, missed], [0, 0]);
  assert.equal((await ofNode("spear2")).errorsPerSecond, 0);
});
