import assert from "node:assert/strict";
import { RpcError } from "@gru/shared/rpc/contract";
import { Vitals } from "./vitals.ts";

const good = {
  ...{ delivery: { p50: 1, p99: 4 }, refusedPerSecond: 0, errorsPerSecond: 0.2 },
  ...{ cutOff: 0, missed: 0, loopLagMs: 0.3 },
};

Deno.test("Vitals asks each spear once for all pages, and does not know of one that fails", async () => {
  const asked: string[] = [];
  let now = 0;
  const at = (name: string) => ({
    vitals: async () => {
      asked.push(name);
      if (name === "spear2") throw new RpcError("not_found", "vitals: no such method");
      return good;
    },
  });
  const vitals = new Vitals({ at: at as never }, () => ["spear1", "spear2"], () => now);
  const [one, other] = await Promise.all([vitals.read(), vitals.read()]);
  assert.equal(one, other);
  assert.deepEqual(one, [{ node: "spear1", vitals: good }, { node: "spear2", vitals: null }]);
  now = 1999;
  await vitals.read();
  assert.deepEqual(asked, ["spear1", "spear2"]);
  now = 2000;
  await vitals.read();
  assert.deepEqual(asked, ["spear1", "spear2", "spear1", "spear2"]);
});
