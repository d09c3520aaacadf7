import assert from "node:assert/strict";
import type { IdgenContract } from "@gru/idgen/contract";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import type { RpcClient } from "@gru/shared/rpc/client";
import { waitFor } from "@gru/shared/testing/harness";
import { watchCluster } from "./cluster.ts";
import { withIdgens } from "./idgens.ts";

Deno.test("withIdgens shows which idgens issue reserved ids without the registry", async () => {
  await using registry = new MemoryRegistry();
  for (const name of ["idgen1", "idgen2"]) {
    const meta = { active: name === "idgen1" };
    await registry.register({ service: "idgen-node", name, addresses: {}, startedAt: 1, meta });
  }
  const asked: string[] = [];
  const status = { worker: 0, withoutRegistry: true, reservedMs: 5 };
  const idgen = {
    at: (name: string) => {
      asked.push(name);
      return { status: async () => status };
    },
  } as unknown as RpcClient<IdgenContract>;
  using cluster = withIdgens(await watchCluster(registry, ["idgen-node"]), idgen);
  await waitFor(() => cluster.view.instances[0]?.meta.withoutRegistry === true);
  assert.equal(cluster.view.instances[1]?.meta.withoutRegistry, undefined);
  assert.deepEqual(asked, ["idgen1"], "a standby is not asked");
});
