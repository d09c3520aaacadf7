import assert from "node:assert/strict";
import { parseView, slotOf } from "./cluster.ts";

Deno.test("slotOf is what the Redis Cluster specification computes", () => {
  assert.equal(slotOf("123456789"), 0x31c3);
  assert.equal(slotOf("foo"), 12_182);
  assert.equal(slotOf(""), 0);
});

Deno.test("parseView reads the slots of primaries, and takes the address asked for a node that has none", () => {
  const view = [
    "a1 127.0.0.1:7001@17001,host1 master - 0 1 5 connected 0-5460 6000",
    "b2 :0@0 slave,fail a1 0 1 5 connected",
    "c3 :7003@17003 myself,master - 0 1 7 connected 5461-5999 [5462->-a1]",
    "",
  ].join("\n");
  assert.deepEqual(parseView(view, "10.0.0.3:7003"), [
    { address: "127.0.0.1:7001", epoch: 5, from: 0, to: 5460 },
    { address: "127.0.0.1:7001", epoch: 5, from: 6000, to: 6000 },
    { address: "10.0.0.3:7003", epoch: 7, from: 5461, to: 5999 },
  ]);
  assert.deepEqual(parseView("", "h:1"), []);
});
