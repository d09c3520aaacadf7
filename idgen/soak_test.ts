import assert from "node:assert/strict";
import { serverTest } from "@gru/shared/testing/harness";
import { tableOf } from "./faults.ts";
import { soak } from "./soak.ts";

serverTest({
  name: "idgen: no duplicate and no inversion in 10 s of random faults",
  needs: "zookeeper",
  fn: async () => {
    const { rows, isGood } = await soak(10_000);
    // deno-lint-ignore no-console
    console.log(tableOf(rows));
    assert.ok(isGood);
  },
});
