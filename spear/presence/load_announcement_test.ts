import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { type SpearNode, spearNodes, spearService } from "../contract.ts";
import { startLoadAnnouncement } from "./load_announcement.ts";
import { authenticated, singleSpear } from "../spear_testing.ts";

slowTest(
  "a spear announces its connections, its capacity and its weight in the registry",
  async () => {
    await using registry = new MemoryRegistry();
    let nodes: SpearNode[] = [];
    using _watch = await registry.watch(spearService, ({ instances }) => {
      nodes = spearNodes(instances);
    });
    const flags = { weight: 2, "limits.connections": 50 };
    await using spear = await singleSpear(flags, { registry });
    const expected = { name: "spear1", addr: spear.address, weight: 2, capacity: 50 };
    assert.deepEqual(nodes, [{ ...expected, load: 0 }]);
    await using stack = new AsyncDisposableStack();
    for (let id = 1; id <= 6; id++) stack.use(await authenticated(spear.address, id));
    await waitFor(() => nodes[0]?.load === 6);
    assert.deepEqual(nodes, [{ ...expected, load: 6 }]);
  },
);

Deno.test("startLoadAnnouncement writes noticeable changes soon, and others from time to time", async () => {
  let load = 0;
  const written: unknown[] = [];
  let broken = false;
  let detours = false;
  await using _announcement = startLoadAnnouncement({
    registration: {
      held: true,
      update: async ({ meta }) => {
        if (broken) throw new Error("no registry");
        written.push(meta);
      },
      [Symbol.asyncDispose]: async () => {},
    },
    meta: () => ({ weight: 1, capacity: 100, ...(detours ? { detour: true } : {}) }),
    load: () => load,
    log: logger("spear"),
    periodMs: 5,
  });
  load = 1000;
  await waitFor(() => written.length === 1);
  load = 1001;
  await waitFor(() => written.length === 2);
  broken = true;
  load = 2000;
  await new Promise((resolve) => setTimeout(resolve, 20));
  broken = false;
  await waitFor(() => written.length === 3);
  // Other values are written as soon as they change.
  detours = true;
  await waitFor(() => written.length === 4);
  const others = { weight: 1, capacity: 100 };
  assert.deepEqual(written, [
    ...[1000, 1001, 2000].map((load) => ({ ...others, load })),
    { ...others, load: 2000, detour: true },
  ]);
});
