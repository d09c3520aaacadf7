import assert from "node:assert/strict";
import fc from "fast-check";
// @ts-types="npm:@types/hashring@3.2.5"
import HashRing from "hashring";
import { Ring, type RingNode } from "./ring.ts";
import { slowTest } from "@gru/shared/testing/harness";

const names = fc.uniqueArray(fc.integer({ min: 1, max: 99 }).map((id) => `spear${id}`), {
  minLength: 2,
  maxLength: 8,
});
const user = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }).map(String);
/** From 0.01 to 100, as many below 1 as above. */
const weight = fc.double({ min: -2, max: 2, noNaN: true }).map((log) => 10 ** log);
const cluster = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 99 }), weight), {
  selector: ([id]) => id,
  minLength: 2,
  maxLength: 8,
}).map((list) => list.map(([id, weight]) => nodeOf(`spear${id}`, weight)));

function nodeOf(name: string, weight?: number): RingNode {
  return { name, addr: `http://${name}`, ...(weight === undefined ? {} : { weight }) };
}

function namesOf(nodes: readonly RingNode[]): string[] {
  return nodes.map(({ name }) => name);
}

/** The user's own node for each of `count` users. */
function homes(ring: Ring, count: number): string[] {
  return Array.from({ length: count }, (_, user) => {
    const { value } = ring.walk(String(user)).next();
    return value?.name ?? "";
  });
}

/** The number of users for each node. */
function countOf(homes: readonly string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const name of homes) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

slowTest("Ring.order contains every node once, whatever order they are given in", () => {
  fc.assert(
    fc.property(cluster, user, (nodes, userId) => {
      const order = namesOf(new Ring(nodes).order(userId));
      assert.deepEqual(order.toSorted(), namesOf(nodes).sort());
      assert.deepEqual(namesOf(new Ring(nodes.toReversed()).order(userId)), order);
    }),
    { numRuns: 30 },
  );
});

slowTest("Ring.order after a node left is the earlier order without that node", () => {
  fc.assert(
    fc.property(cluster, user, fc.nat(), (nodes, userId, pick) => {
      const gone = nodes[pick % nodes.length]?.name;
      const whole = new Ring(nodes);
      const before = namesOf(whole.order(userId)).filter((name) => name !== gone);
      const left = nodes.filter(({ name }) => name !== gone);
      assert.deepEqual(namesOf(new Ring(left).order(userId)), before);
      assert.deepEqual(namesOf(new Ring(left, whole).order(userId)), before);
    }),
    { numRuns: 30 },
  );
});

slowTest(
  "a node that changes its weight wins or loses users; no user moves between other nodes",
  () => {
    fc.assert(
      fc.property(cluster, weight, fc.nat(), user, (nodes, weight, pick, userId) => {
        const changed = nodes[pick % nodes.length];
        assert.ok(changed);
        const before = new Ring(nodes);
        const after = new Ring(
          nodes.map((node) => node === changed ? { ...node, weight } : node),
          before,
        );
        const others = (ring: Ring) =>
          namesOf(ring.order(userId)).filter((n) => n !== changed.name);
        assert.deepEqual(others(after), others(before));
        const placeIn = (ring: Ring) => namesOf(ring.order(userId)).indexOf(changed.name);
        const moved = placeIn(after) - placeIn(before);
        assert.ok(weight > (changed.weight ?? 1) ? moved <= 0 : moved >= 0, `${moved}`);
      }),
      { numRuns: 50 },
    );
  },
);

slowTest(
  "among 200 nodes with weights from 0.01 to 100 a change moves only the users it must move",
  () => {
    const nodes = Array.from(
      { length: 200 },
      (_, i) => nodeOf(`spear${i + 1}`, 10 ** (4 * ((i * 73) % 200) / 199 - 2)),
    );
    const users = 20_000;
    const total = nodes.reduce((sum, { weight = 1 }) => sum + weight, 0);
    const ring = new Ring(nodes);
    const before = homes(ring, users);
    for (const [i, factor] of [[3, 0], [50, 0.5], [120, 3], [199, 1.5]] as const) {
      const node = nodes[i] ?? nodeOf("");
      const weight = factor * (node.weight ?? 1);
      const changed = nodes.map((other) => other === node ? { ...node, weight } : other);
      const after = homes(new Ring(changed, ring), users);
      const moved = after.filter((name, user) => name !== before[user]).length;
      const between = after.filter((name, user) =>
        name !== before[user] && name !== node.name && before[user] !== node.name
      );
      assert.deepEqual(between, []);
      const due = Math.abs(weight - (node.weight ?? 1)) / total * users;
      // The parts of a ring are random (4 %), and so are the users.
      assert.ok(moved <= 1.25 * due + 4 * Math.sqrt(due) + 4, `${moved} moved, ${due} due`);
    }
  },
);

slowTest("a node's share matches its weight, also for the lightest nodes", () => {
  const heavy = Array.from({ length: 20 }, (_, i) => nodeOf(`spear${i + 1}`));
  for (const weight of [0.001, 0.01, 0.02, 0.1, 0.3]) {
    // Many light nodes, so that the random errors cancel out.
    const light = Array.from({ length: 200 }, (_, i) => nodeOf(`spear${i + 100}`, weight));
    const users = 100_000;
    const counts = countOf(homes(new Ring([...heavy, ...light]), users));
    const got = light.reduce((sum, { name }) => sum + (counts.get(name) ?? 0), 0) / users;
    const due = 200 * weight / (20 + 200 * weight);
    assert.ok(Math.abs(got / due - 1) < 0.12, `weight ${weight}: ${got} of ${due}`);
  }
});

slowTest("nodes of equal weight get the same users as in hashring", () => {
  fc.assert(fc.property(names, fc.constantFrom(0.5, 1, 2), user, (list, weight, userId) => {
    const vnodes = 160 * weight;
    const plain = new HashRing(Object.fromEntries(list.map((name) => [name, { vnodes }])));
    const order = namesOf(new Ring(list.map((name) => nodeOf(name, weight))).order(userId));
    assert.deepEqual(order, plain.range(userId, list.length));
  }));
});

slowTest("a ring has a bounded size, whatever the weights", () => {
  const heaviest = Array.from({ length: 300 }, (_, i) => nodeOf(`spear${i + 1}`, 100));
  const counts = countOf(homes(new Ring(heaviest), 30_000));
  assert.ok(Math.max(...counts.values()) < 200, "of 100 each");
});

slowTest("Ring.order of an empty ring is empty", () => {
  assert.deepEqual(new Ring([]).order("1"), []);
  assert.deepEqual(new Ring([nodeOf("a", 0)]).order("1"), []);
});

Deno.test("hashring: `hashValue` and `points`, which its types do not declare, give numbers of 32 bits", () => {
  const ring = new HashRing({ a: { vnodes: 40 } }) as unknown as {
    hashValue(key: string): number;
    points(names: string[]): Record<string, number[]>;
  };
  const points = ring.points(["a"])["a"] ?? [];
  assert.ok(points.length >= 40, `${points.length} points`);
  for (const number of [...points, ring.hashValue("user")]) {
    assert.ok(Number.isInteger(number) && number >= 0 && number < 2 ** 32, `${number}`);
  }
});
