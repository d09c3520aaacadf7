import assert from "node:assert/strict";
import fc from "fast-check";
import type { Priority } from "../broker/broker.ts";
import { Overload, periodMs, price } from "./overload.ts";

/** Members of its group, and how many of its messages come a second. */
interface Flow {
  readonly key: string;
  readonly members: number;
  readonly perSecond: number;
  readonly priority?: Priority;
}

interface Outcome {
  taken: number;
  refused: number;
  /** Milliseconds, of each that was taken. */
  readonly delays: number[];
}

/** How late what is taken may be; what is then late is told in parts of it. */
const limitMs = 275;

/** A node that does so many deliveries a second, one after the other, on a clock of its own. */
class Node {
  readonly overload: Overload;
  readonly #perSecond: number;
  #now = 0;
  #waiting = 0;
  #taken = 0;
  readonly #due = new Map<Flow, number>();
  readonly #probes: { readonly began: number; readonly taken: number; left: number }[] = [];
  #returned = { at: 0, ms: 0, taken: 0 };
  #seen = this.#returned;

  constructor(perSecond: number, seed: number) {
    this.#perSecond = perSecond;
    let state = seed;
    this.overload = new Overload(() =>
      (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32
    );
  }

  /** What becomes of each flow's messages. */
  run(flows: readonly Flow[], seconds: number): Map<Flow, Outcome> {
    const outcomes = new Map<Flow, Outcome>(
      flows.map((flow) => [flow, { taken: 0, refused: 0, delays: [] }]),
    );
    for (const until = this.#now + seconds * 1000; this.#now < until; this.#now++) {
      for (const [flow, outcome] of outcomes) {
        let due = (this.#due.get(flow) ?? 0) + flow.perSecond / 1000;
        for (; due >= 1; due--) this.#ask(flow, outcome);
        this.#due.set(flow, due);
      }
      this.#work();
      if (this.#now % periodMs === 0) this.#look();
    }
    return outcomes;
  }

  #ask({ key, members, priority = "normal" }: Flow, outcome: Outcome): void {
    const cost = price.ofMessage(members);
    if (this.overload.take(key, cost, priority) > 0) {
      outcome.refused++;
      return;
    }
    outcome.taken++;
    this.#taken += cost;
    this.#waiting += cost;
    outcome.delays.push(this.#waiting * 1000 / this.#perSecond);
  }

  #work(): void {
    const done = Math.min(this.#waiting, this.#perSecond / 1000);
    this.#waiting -= done;
    for (const probe of this.#probes) probe.left -= done;
    while (this.#probes[0] !== undefined && this.#probes[0].left <= 1e-6) {
      const { began, taken } = this.#probes.shift() ?? { began: 0, taken: 0 };
      this.#returned = { at: this.#now, ms: this.#now - began, taken };
    }
  }

  #look(): void {
    const oldest = this.#probes[0]?.began ?? this.#now;
    const late = Math.max(this.#returned.ms, this.#now - oldest) / limitMs;
    const tookMs = this.#returned.at - this.#seen.at;
    let donePerSecond;
    if (tookMs >= 250) {
      donePerSecond = (this.#returned.taken - this.#seen.taken) * 1000 / tookMs;
      this.#seen = this.#returned;
    }
    this.overload.look(late, donePerSecond, periodMs);
    this.#probes.push({ began: this.#now, taken: this.#taken, left: this.#waiting });
  }
}

const members = fc.constantFrom(2, 20, 200, 1000);
const perSecond = fc.constantFrom(2e5, 1e6);
const seed = fc.nat();

/** Of all together that a node can do. */
function flowsOf(load: number, nodePerSecond: number, size: number, groups: number): Flow[] {
  return Array.from({ length: groups }, (_, i) => ({
    key: `g:${i}`,
    members: size,
    perSecond: load * nodePerSecond / price.ofMessage(size) / groups,
  }));
}

function sum(outcomes: Map<Flow, Outcome>) {
  let [taken, refused, cost] = [0, 0, 0];
  for (const [flow, outcome] of outcomes) {
    taken += outcome.taken;
    refused += outcome.refused;
    cost += outcome.taken * price.ofMessage(flow.members);
  }
  const delays = [...outcomes.values()].flatMap((one) => one.delays).sort((a, b) => a - b);
  return { taken, refused, cost, p99Ms: delays[Math.floor(delays.length * 0.99)] ?? 0 };
}

Deno.test("Overload refuses nothing of what a node can do", () => {
  fc.assert(
    fc.property(members, perSecond, seed, fc.double({ min: 0.1, max: 0.9, noNaN: true }), (
      size,
      nodePerSecond,
      seed,
      load,
    ) => {
      const node = new Node(nodePerSecond, seed);
      const { refused } = sum(node.run(flowsOf(load, nodePerSecond, size, 5), 6));
      assert.equal(refused, 0);
    }),
    { numRuns: 8 },
  );
});

Deno.test("Overload keeps a node busy and in time whatever is asked for, and refuses nothing 2 s after that is over", () => {
  fc.assert(
    fc.property(members, perSecond, seed, fc.double({ min: 1.2, max: 3, noNaN: true }), (
      size,
      nodePerSecond,
      seed,
      load,
    ) => {
      const node = new Node(nodePerSecond, seed);
      node.run(flowsOf(0.5, nodePerSecond, size, 5), 2);
      node.run(flowsOf(load, nodePerSecond, size, 5), 4);
      const { cost, p99Ms } = sum(node.run(flowsOf(load, nodePerSecond, size, 5), 5));
      assert.ok(p99Ms <= 3 * limitMs, `${p99Ms} ms`);
      assert.ok(cost >= 0.85 * 5 * nodePerSecond, `${cost / 5 / nodePerSecond} of what it can do`);
      node.run(flowsOf(0.5, nodePerSecond, size, 5), 2);
      assert.equal(sum(node.run(flowsOf(0.5, nodePerSecond, size, 5), 1)).refused, 0);
    }),
    { numRuns: 8 },
  );
});

Deno.test("in an overload by one large group small ones get all that they ask for", () => {
  const node = new Node(1e6, 1);
  const large = flowsOf(3, 1e6, 1000, 1);
  const small = Array.from(
    { length: 20 },
    (_, i) => ({ key: `g:s${i}`, members: 5, perSecond: 100 }),
  );
  node.run([...large, ...small], 4);
  const outcomes = node.run([...large, ...small], 5);
  const ofSmall = sum(new Map([...outcomes].filter(([{ members }]) => members === 5)));
  assert.ok(ofSmall.refused <= 0.01 * ofSmall.taken, `${ofSmall.refused} of ${ofSmall.taken}`);
  assert.ok(sum(outcomes).cost >= 0.85 * 5e6);
});

Deno.test("in an overload of one group, messages of the system come before others, and low ones last", () => {
  const node = new Node(1e6, 1);
  const flows = (["system", "normal", "low"] as const).map((priority) => ({
    ...{ key: "g:1", members: 1000, perSecond: 1000, priority },
  }));
  node.run(flows, 4);
  const [system = 0, normal = 0, low = 0] = [...node.run(flows, 5).values()].map((one) =>
    one.taken
  );
  assert.ok(system > 1.5 * normal && normal > 1.5 * low && low > 0, `${system} ${normal} ${low}`);
});

Deno.test("a node that is late whatever it refuses still takes on a little of everything", () => {
  const overload = new Overload();
  let taken = 0;
  for (let second = 0; second < 60; second++) {
    for (let period = 0; period < 10; period++) {
      for (let i = 0; i < 100; i++) if (overload.take(`g:${i}`, 100, "normal") === 0) taken += 100;
      overload.look(5, taken === 0 ? undefined : 10_000, periodMs);
    }
    if (second === 30) taken = 0;
  }
  assert.ok(taken / 29 > 15_000, `${taken / 29} a second`);
});
