import assert from "node:assert/strict";
import { Trail } from "./trail.ts";

function trailOf(size: number) {
  let now = 0;
  return new Trail({ size, now: () => ++now });
}

Deno.test("Trail remembers the newest messages and forgets the others", () => {
  const trail = trailOf(2);
  const target = "g:10";
  for (const seq of [1, 2, 3]) {
    trail.accepted({ id: `m${seq}`, target, epoch: "e", seq, fromId: "5" });
    trail.received(target, "e", seq, 10 * seq);
  }
  assert.equal(trail.acceptedWith("m1"), undefined);
  assert.deepEqual(trail.acceptedWith("m2"), {
    id: "m2",
    target,
    epoch: "e",
    seq: 2,
    fromId: "5",
    at: 3,
  });
  assert.equal(trail.receivedAt(target, { epoch: "e", seq: 1 }), undefined);
  assert.deepEqual(trail.receivedAt(target, { epoch: "e", seq: 3 }), { at: 6, connections: 30 });
  assert.equal(trail.receivedAt("g:11", { epoch: "e", seq: 3 }), undefined);
  assert.equal(trail.receivedAt(target, { epoch: "f", seq: 3 }), undefined);
});

Deno.test("Trail names each user who missed a message once", () => {
  const trail = trailOf(10);
  const target = "g:10";
  trail.missed({ target, epoch: "e", from: 2, to: 4 }, "5");
  trail.missed({ target, epoch: "e", from: 4, to: 4 }, "5");
  trail.missed({ target, epoch: "e", from: 4, to: 9 }, "6");
  const who = (seq: number, limit = 10) =>
    trail.missedAt(target, { epoch: "e", seq }, limit).map(({ userId }) => userId);
  assert.deepEqual([who(1), who(2), who(4), who(9), who(4, 1)], [[], ["5"], ["6", "5"], ["6"], [
    "6",
  ]]);
  assert.deepEqual(trail.missedAt(target, { epoch: "f", seq: 4 }, 10), []);
});

Deno.test("Trail of size 0 remembers nothing", () => {
  const trail = trailOf(0);
  trail.accepted({ id: "m1", target: "g:10", epoch: "e", seq: 1, fromId: "5" });
  trail.received("g:10", "e", 1, 10);
  trail.missed({ target: "g:10", epoch: "e", from: 1, to: 1 }, "5");
  assert.equal(trail.acceptedWith("m1"), undefined);
  assert.equal(trail.receivedAt("g:10", { epoch: "e", seq: 1 }), undefined);
  assert.deepEqual(trail.missedAt("g:10", { epoch: "e", seq: 1 }, 10), []);
});
