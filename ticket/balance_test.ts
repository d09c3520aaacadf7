import assert from "node:assert/strict";
import fc from "fast-check";
import { type BalancedNode, Balancer } from "./balance.ts";
import { Ring } from "./ring.ts";
import { slowTest } from "@gru/shared/testing/harness";

function nodesOf(loads: readonly number[], changes: Partial<BalancedNode> = {}): BalancedNode[] {
  return loads.map((load, i) => ({
    name: `spear${i + 1}`,
    addr: `http://${i + 1}`,
    load,
    ...changes,
  }));
}

function balancerOf(nodes: readonly BalancedNode[], maxOverMean = 1.05): Balancer {
  const balancer = new Balancer({ maxOverMean, nowMs: () => 0 });
  balancer.update(nodes);
  return balancer;
}

Deno.test("Balancer.place returns the user's own node and the ring's order while the loads are even", () => {
  const nodes = nodesOf([1000, 1000, 1000]);
  const ring = new Ring(nodes);
  const balancer = balancerOf(nodes);
  for (let user = 1; user <= 30; user++) {
    const place = balancer.place(String(user));
    assert.deepEqual(place?.nodes, ring.order(String(user)));
    assert.deepEqual(place?.passedOver, []);
  }
});

/** A user whose own node has this name. */
function userOf(nodes: readonly BalancedNode[], name: string): string {
  const ring = new Ring(nodes);
  for (let user = 1;; user++) {
    if (ring.order(String(user))[0]?.name === name) return String(user);
  }
}

for (
  const [what, change, why] of [
    ["that has more than its share", { load: 1300 }, "above its share"],
    ["that is full", { capacity: 1000 }, "full"],
  ] as const
) {
  Deno.test(`Balancer.place skips a node ${what}, takes the next one on the ring, and reports why`, () => {
    const even = nodesOf([1000, 1000, 1000, 1000]);
    const nodes = even.map((node) => node.name === "spear2" ? { ...node, ...change } : node);
    const user = userOf(nodes, "spear2");
    const [own, next] = new Ring(nodes).order(user);
    for (let i = 0; i < 3; i++) {
      const place = balancerOf(nodes).place(user);
      assert.equal(place?.nodes[0], next);
      assert.equal(place?.nodes.at(-1), own);
      assert.deepEqual(place?.passedOver, [{ name: "spear2", why }]);
    }
    assert.equal(balancerOf(even).place(user)?.nodes[0].name, "spear2");
  });
}

Deno.test("Balancer.place sends no user to a node of weight 0, and moves only that node's users", () => {
  const nodes = nodesOf([1000, 1000, 1000]);
  const drained = nodes.map((node) => node.name === "spear2" ? { ...node, weight: 0 } : node);
  for (let user = 1; user <= 100; user++) {
    const before = balancerOf(nodes).place(String(user))?.nodes.map(({ name }) => name);
    const after = balancerOf(drained).place(String(user))?.nodes.map(({ name }) => name);
    assert.deepEqual(after, before?.filter((name) => name !== "spear2"));
  }
});

Deno.test("Balancer.place returns undefined when all nodes are full or there are none", () => {
  assert.equal(balancerOf([]).place("1"), undefined);
  assert.equal(balancerOf(nodesOf([10, 10], { capacity: 10 })).place("1"), undefined);
  assert.equal(balancerOf(nodesOf([0], { weight: 0 })).place("1"), undefined);
});

Deno.test("Balancer.place counts the users it has sent until the nodes report them", () => {
  let nowMs = 0;
  const balancer = new Balancer({ maxOverMean: 1.05, nowMs: () => nowMs });
  balancer.update(nodesOf([0, 0], { capacity: 3 }));
  const places = Array.from({ length: 8 }, (_, user) => balancer.place(String(user)));
  assert.equal(places.filter(Boolean).length, 6);
  nowMs = 10_000;
  assert.notEqual(balancer.place("1"), undefined);
});

Deno.test("Balancer.place keeps every bound for any loads, weights and capacities", () => {
  const node = fc.record({
    load: fc.nat(10_000),
    weight: fc.constantFrom(0, 0.5, 1, 2),
    capacity: fc.nat(12_000),
  });
  fc.assert(fc.property(fc.array(node, { maxLength: 6 }), fc.nat(), (given, user) => {
    const nodes = given.map((node, i) => ({ ...node, name: `spear${i}`, addr: "http://x" }));
    const place = balancerOf(nodes).place(String(user));
    const open = nodes.filter(({ weight, load, capacity }) => weight > 0 && load < capacity);
    if (place === undefined) return assert.deepEqual(open, []);
    const [chosen] = place.nodes;
    assert.ok(open.some(({ name }) => name === chosen.name));
    assert.equal(new Set(place.nodes).size, nodes.filter(({ weight }) => weight > 0).length);
    const taking = nodes.filter(({ weight }) => weight > 0);
    const total = taking.reduce((all, { load }) => all + load, 0);
    const weights = taking.reduce((all, { weight }) => all + weight, 0);
    const mean = (total + 1) * (chosen.weight ?? 1) / weights;
    const others = open.filter(({ load, weight }) => load < (total + 1) * weight / weights);
    if (others.length > 0) assert.ok((chosen.load ?? 0) < Math.max(1.05 * mean, mean + 50));
  }));
});

/**
 * A cluster whose nodes report their loads once every so many tickets, and the ticket programs that send users to them.
 */
class Simulation {
  readonly home = new Map<number, string>();
  readonly #loads = new Map<string, number>();
  readonly #balancers: Balancer[];
  #nodes: BalancedNode[] = [];
  #nowMs = 0;
  tickets = 0;

  constructor(readonly ticketsPerSecond: number, programs: number) {
    this.#balancers = Array.from(
      { length: programs },
      () => new Balancer({ maxOverMean: 1.04, nowMs: () => this.#nowMs }),
    );
  }

  setNodes(nodes: readonly { readonly name: string; readonly weight?: number }[]): void {
    this.#nodes = nodes.map((node) => ({ ...node, addr: "http://x" }));
    for (const name of this.#loads.keys()) {
      if (!nodes.some((node) => node.name === name)) this.#loads.delete(name);
    }
    this.#report();
  }

  enter(user: number): void {
    if (this.tickets++ % this.ticketsPerSecond === 0) this.#report();
    this.#nowMs += 1000 / this.ticketsPerSecond;
    const old = this.home.get(user);
    if (old !== undefined && this.#loads.has(old)) this.#add(old, -1);
    const balancer = this.#balancers[this.tickets % this.#balancers.length];
    const name = balancer?.place(String(user), 0)?.nodes[0].name ?? "";
    this.home.set(user, name);
    this.#add(name, 1);
  }

  loads(): Map<string, number> {
    return new Map(this.#nodes.map(({ name }) => [name, this.#loads.get(name) ?? 0]));
  }

  maxOverMean(): number {
    const loads = [...this.loads().values()];
    return Math.max(...loads) / (loads.reduce((a, b) => a + b, 0) / loads.length);
  }

  #add(name: string, change: number): void {
    this.#loads.set(name, (this.#loads.get(name) ?? 0) + change);
  }

  #report(): void {
    this.#nodes = this.#nodes.map((node) => ({ ...node, load: this.#loads.get(node.name) ?? 0 }));
    for (const balancer of this.#balancers) balancer.update(this.#nodes);
  }
}

const users = 100_000;
const ten = Array.from({ length: 10 }, (_, i) => ({ name: `spear${i + 1}` }));

function enterAll(simulation: Simulation, which = (_user: number) => true): void {
  for (let user = 1; user <= users; user++) if (which(user)) simulation.enter(user);
}

function table(rows: readonly (readonly [string, number])[]): void {
  // deno-lint-ignore no-console
  for (const [what, value] of rows) console.log(`  ${what.padEnd(60)} ${value.toFixed(4)}`);
}

slowTest("100 000 users spread over ten nodes with max/mean of at most 1.05", () => {
  const plain = new Map<string, number>();
  const ring = new Ring(ten.map((node) => ({ ...node, addr: "" })));
  for (let user = 1; user <= users; user++) {
    const name = ring.order(String(user))[0]?.name ?? "";
    plain.set(name, (plain.get(name) ?? 0) + 1);
  }
  const rows: [string, number][] = [
    ["consistent hashing alone: max/mean", Math.max(...plain.values()) / (users / 10)],
  ];
  for (const programs of [1, 3]) {
    const simulation = new Simulation(2000, programs);
    simulation.setNodes(ten);
    enterAll(simulation);
    const ratio = simulation.maxOverMean();
    rows.push([`bounded load, ${programs} ticket, reports a second late: max/mean`, ratio]);
    const away = simulation.home.entries().filter(([user, name]) =>
      ring.order(String(user))[0]?.name !== name
    ).toArray().length;
    rows.push(["  share of users not on their own node", away / users]);
    assert.ok(ratio <= 1.05, `${programs} programs: ${ratio}`);
  }
  table(rows);
});

slowTest(
  "a new node takes its share and no more; after a node's death its users spread evenly",
  () => {
    const simulation = new Simulation(2000, 1);
    simulation.setNodes(ten);
    enterAll(simulation);
    const before = new Map(simulation.home);
    const loadsBefore = simulation.loads();
    const rows: [string, number][] = [];

    // A node dies: its users ask for new tickets, the others stay connected.
    const dead = "spear3";
    simulation.setNodes(ten.filter(({ name }) => name !== dead));
    enterAll(simulation, (user) => before.get(user) === dead);
    const gained = simulation.loads().entries().map(([name, load]) =>
      load - (loadsBefore.get(name) ?? 0)
    ).toArray();
    const fair = (loadsBefore.get(dead) ?? 0) / 9;
    rows.push(["after a death: max/mean over the nine left", simulation.maxOverMean()]);
    rows.push(["  most users gained by one node / an even part", Math.max(...gained) / fair]);
    assert.ok(simulation.maxOverMean() <= 1.05);
    assert.ok(Math.min(...gained) > 0);
    for (const [user, name] of simulation.home) {
      if (before.get(user) !== dead) assert.equal(name, before.get(user));
    }

    // All users ask for tickets again, in this order. The test counts how many stay on their node.
    enterAll(simulation);
    const nine = new Map(simulation.home);
    simulation.setNodes(ten);
    enterAll(simulation);
    const moved = nine.entries().filter(([user, name]) => simulation.home.get(user) !== name)
      .toArray().length;
    const share = (simulation.loads().get(dead) ?? 0) / (users / 10);
    rows.push(["a node joins, all users return: max/mean", simulation.maxOverMean()]);
    rows.push(["  the new node's load / its share", share]);
    rows.push(["  share of users that moved", moved / users]);
    rows.push(["  the theoretical minimum", 1 / 10]);
    assert.ok(simulation.maxOverMean() <= 1.05);
    assert.ok(share <= 1.05);
    assert.ok(moved / users < 0.2, `${moved} moved`);

    // And the node leaves again.
    const withTen = new Map(simulation.home);
    simulation.setNodes(ten.filter(({ name }) => name !== dead));
    enterAll(simulation);
    const movedAgain =
      withTen.entries().filter(([user, name]) => simulation.home.get(user) !== name)
        .toArray().length;
    rows.push(["a node leaves, all users return: share of users that moved", movedAgain / users]);
    rows.push([
      "  the theoretical minimum",
      withTen.values().filter((name) => name === dead).toArray().length / users,
    ]);
    assert.ok(movedAgain / users < 0.2, `${movedAgain} moved`);
    table(rows);
  },
);

slowTest("each node gets the share of users that its weight asks for", () => {
  const simulation = new Simulation(2000, 1);
  simulation.setNodes([{ name: "a", weight: 1 }, { name: "b", weight: 2 }, {
    name: "c",
    weight: 0,
  }]);
  enterAll(simulation);
  const { a = 0, b = 0, c = 0 } = Object.fromEntries(simulation.loads());
  assert.equal(c, 0);
  assert.ok(a / (users / 3) <= 1.05 && b / (2 * users / 3) <= 1.05, `${a} ${b}`);
});

slowTest(
  "200 nodes of weights from 0.01 to 100 get at most 1.04 of their shares, the heavier half at least 0.85",
  () => {
    const nodes = Array.from({ length: 200 }, (_, i) => ({
      name: `spear${i + 1}`,
      weight: 10 ** (4 * ((i * 73) % 200) / 199 - 2),
    }));
    const total = nodes.reduce((sum, { weight }) => sum + weight, 0);
    const simulation = new Simulation(5000, 2);
    simulation.setNodes(nodes);
    // 1300 on each node of mean weight: below 1250 the fixed slack would decide, not the ratio.
    const users = 260_000;
    for (let user = 1; user <= users; user++) simulation.enter(user);
    const shares = simulation.loads();
    let least = 1;
    for (const { name, weight } of nodes) {
      const due = users * weight / total;
      const has = shares.get(name) ?? 0;
      // Each of the two programs learns a second late what the other one has done.
      assert.ok(has <= 1.04 * due + 2, `${name}, weight ${weight}: ${has} of ${due}`);
      if (weight > 1) least = Math.min(least, has / due);
    }
    table([["200 nodes, weights 0.01 to 100: the least share of the heavier half", least]]);
    assert.ok(least > 0.85, `${least}`);
  },
);

Deno.test("Balancer.place follows the ring when the nodes report no loads", () => {
  const nodes = ten.map((node) => ({ ...node, addr: "http://x" }));
  const ring = new Ring(nodes);
  const balancer = new Balancer({ maxOverMean: 10, nowMs: () => 0 });
  balancer.update(nodes);
  for (let user = 0; user < 1000; user++) {
    assert.equal(balancer.place(String(user))?.nodes[0], ring.walk(String(user)).next().value);
  }
});
