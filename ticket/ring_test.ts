import assert from "node:assert/strict";
import fc from "fast-check";
import { Ring, type RingNode } from "./ring.ts";

const names = fc.uniqueArray(fc.integer({ min: 1, max: 99 }).map((id) => `spear${id}`), {
  minLength: 2,
  maxLength: 8,
});
const user = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }).map(String);

function nodesOf(list: readonly string[]): RingNode[] {
  return list.map((name) => ({ name, addr: `http://${name}` }));
}

Deno.test("Ring.order holds every node once, whatever the order they are given in", () => {
  fc.assert(fc.property(names, user, (list, userId) => {
    const order = new Ring(nodesOf(list)).order(userId);
    assert.deepEqual(order.map(({ name }) => name).sort(), list.toSorted());
    assert.deepEqual(new Ring(nodesOf(list.toReversed())).order(userId), order);
  }));
});

Deno.test("Ring.order without some node is the order before, less that node", () => {
  fc.assert(fc.property(names, user, fc.nat(), (list, userId, pick) => {
    const gone = list[pick % list.length];
    const before = new Ring(nodesOf(list)).order(userId).filter(({ name }) => name !== gone);
    assert.deepEqual(new Ring(nodesOf(list.filter((name) => name !== gone))).order(userId), before);
  }));
});

Deno.test("Ring.order of an empty ring is empty", () => {
  assert.deepEqual(new Ring([]).order("1"), []);
});
