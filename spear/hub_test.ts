import assert from "node:assert/strict";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing";
import { MemoryBus } from "./broker_memory.ts";
import { Collector, defaults, gets, newTarget, range, TestNode } from "./broker_testing.ts";
import { Hub } from "./hub.ts";
import { HubHistory, type Step, step } from "./hub_simulation.ts";

function overMemory(bus = new MemoryBus(defaults.history)): Promise<TestNode> {
  return TestNode.open(async (sink) => bus.connect(sink));
}

/** What the listening begins from is two epochs old when it is answered, and further back than history reaches. */
const twoFailovers: Step[] = [
  { do: "join", who: 0, since: "none" },
  { do: "read", which: 0 },
  { do: "publish" },
  { do: "drop" },
  { do: "publish" },
  { do: "failover", lost: 0 },
  { do: "failover", lost: 0 },
];

Deno.test("Hub gives every member exactly the right messages in order, whatever the broker does", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 120 }), async (steps) => {
      const history = new HubHistory();
      for (const step of steps) await history.take(step);
      await history.settle();
      history.check();
      await history.end();
    }),
    { numRuns: 500, examples: [[twoFailovers]] },
  );
});

Deno.test("Hub reads a gap from history before it goes on", async () => {
  await using node = await overMemory();
  const target = newTarget();
  const member = await node.member(target);
  const { epoch } = await node.publish(target, "m1");
  await node.broker.unlisten(target);
  for (const n of range(5, 2)) await node.publish(target, `m${n}`);
  node.hub.message(target, epoch, 5, '{"id":"m5"}');
  await gets(member, 5);
  assert.deepEqual(member.ids, ["m1", "m2", "m3", "m4", "m5"]);
});

Deno.test("Hub tells members which messages are lost for good", async () => {
  await using node = await overMemory(new MemoryBus({ size: 2, ageMs: 600_000 }));
  const target = newTarget();
  const member = await node.member(target);
  const { epoch } = await node.publish(target, "m1");
  await node.broker.unlisten(target);
  for (const n of range(9, 2)) await node.publish(target, `m${n}`);
  node.hub.disrupted();
  await gets(member, 3);
  assert.deepEqual(member.seqs, [1, 8, 9]);
  assert.deepEqual(member.lost, [{ epoch, from: 2, to: 7 }]);
});

Deno.test("Hub loses nothing when a disruption comes while it is reading after another", async () => {
  await using node = await overMemory();
  const target = newTarget();
  const member = await node.member(target);
  await node.broker.unlisten(target);
  for (const n of range(50)) {
    await node.publish(target, `m${n}`);
    node.hub.disrupted();
    if (n % 3 === 0) await Promise.resolve();
  }
  await gets(member, 50);
  assert.deepEqual(member.seqs, range(50));
});

Deno.test("Hub.join gives who comes from a faster node nothing twice, and does not call that a loss", async () => {
  await using node = await overMemory();
  const target = newTarget();
  const slow = await node.member(target);
  await node.broker.unlisten(target);
  const { epoch } = await node.publish(target, "m1");
  await node.publish(target, "m2");
  const fast = new Collector();
  const join = await node.hub.join(target, fast, { epoch, seq: 2 });
  join.activate();
  assert.equal(join.recovered, true);
  assert.deepEqual(join.position, { epoch, seq: 2 });
  assert.deepEqual(join.missed, []);
  await gets(slow, 2);
  node.hub.message(target, epoch, 3, '{"id":"m3"}');
  assert.deepEqual(fast.ids, ["m3"]);
  const liar = await node.hub.join(target, new Collector(), { epoch, seq: 99 });
  assert.equal(liar.recovered, false);
  liar.cancel();
});

Deno.test("Hub.join of a member leaves out nothing between its two memberships", async () => {
  await using node = await overMemory();
  const target = newTarget();
  const member = await node.member(target);
  const { epoch } = await node.publish(target, "m1");
  const join = await node.hub.join(target, member);
  await node.publish(target, "m2");
  assert.deepEqual(member.ids, ["m1"]);
  assert.deepEqual(join.position, { epoch, seq: 1 });
  join.activate();
  assert.deepEqual(member.ids, ["m1", "m2"]);
  const again = await node.hub.join(target, member, { epoch, seq: 1 });
  await node.publish(target, "m3");
  again.cancel();
  assert.deepEqual(member.ids, ["m1", "m2", "m3"]);
});

Deno.test("Hub rejects a join that the broker rejects, and keeps nothing of it", async () => {
  await using node = await overMemory();
  await node.broker[Symbol.asyncDispose]();
  const target = newTarget();
  await assert.rejects(node.hub.join(target, new Collector()), /closed/);
  assert.deepEqual([...node.hub.targets()], []);
});

/** Over answers of history that are written down beforehand; an error is thrown, a function is called first. */
async function overHistory(
  ...answers: (Error | { seqs: number[]; head: number; first?: () => void })[]
) {
  const target = newTarget();
  const hub = new Hub<Collector>({
    fanOut: (frame, members) => {
      for (const member of members) member.send(frame);
    },
    retryMs: 0,
  });
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => ({ epoch: "a", seq: 0 }),
    unlisten: async () => {},
    positions: () => Promise.reject(new Error("not asked for")),
    history: async () => {
      const answer = answers.shift();
      assert.ok(answer !== undefined, "history asked for once too often");
      if (answer instanceof Error) throw answer;
      answer.first?.();
      const entries = answer.seqs.map((seq) => ({ epoch: "a", seq, body: `{"id":"m${seq}"}` }));
      return { head: { epoch: "a", seq: answer.head }, entries, complete: true };
    },
    [Symbol.asyncDispose]: async () => {},
  });
  const member = new Collector();
  (await hub.join(target, member)).activate();
  const arrive = (seq: number) => hub.message(target, "a", seq, `{"id":"m${seq}"}`);
  return { member, arrive, [Symbol.dispose]: () => hub.close() };
}

Deno.test("Hub keeps what has arrived when history cannot be read at first", async () => {
  using scene = await overHistory(new Error("away"), { seqs: [], head: 2 });
  const { member, arrive } = scene;
  arrive(2);
  await gets(member, 1);
  assert.deepEqual(member.seqs, [2]);
  assert.deepEqual(member.lost, [{ epoch: "a", from: 1, to: 1 }]);
});

Deno.test("Hub does not call lost what was published while it read history", async () => {
  using scene = await overHistory(
    { seqs: [1, 2], head: 2, first: () => arrive(4) },
    { seqs: [3, 4], head: 4 },
  );
  const { member, arrive } = scene;
  arrive(2);
  await gets(member, 4);
  assert.deepEqual(member.seqs, [1, 2, 3, 4]);
  assert.deepEqual(member.lost, []);
});

Deno.test("Hub does not go back to an epoch that is over, but has another one begun", async () => {
  const target = newTarget();
  let head = { epoch: "a", seq: 0 };
  const known: unknown[] = [];
  const hub = new Hub<Collector>({
    fanOut: (frame, members) => {
      for (const member of members) member.send(frame);
    },
    retryMs: 0,
  });
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => head,
    unlisten: async () => {},
    positions: async (positions) => {
      known.push(...positions.map(({ epoch, seq }) => ({ epoch, seq })));
      // An old copy of the data is ahead of nobody who says so.
      if (positions[0]?.epoch === head.epoch && positions[0].seq > head.seq) {
        head = { epoch: "c", seq: 0 };
      }
      return [head];
    },
    history: async () => ({
      head,
      entries: head.seq === 0 ? [] : [{ ...head, body: `{"id":"${head.epoch}${head.seq}"}` }],
      complete: true,
    }),
    [Symbol.asyncDispose]: async () => {},
  });
  const member = new Collector();
  (await hub.join(target, member)).activate();
  hub.message(target, "a", 1, '{"id":"a1"}');
  head = { epoch: "b", seq: 1 };
  hub.message(target, "b", 1, '{"id":"b1"}');
  await gets(member, 2);
  head = { epoch: "a", seq: 1 };
  hub.disrupted();
  await waitFor(() => head.epoch === "c");
  assert.deepEqual(known.at(-1), { epoch: "a", seq: Number.MAX_SAFE_INTEGER });
  head = { epoch: "c", seq: 1 };
  hub.message(target, "a", 2, '{"id":"a2"}');
  hub.message(target, "c", 1, '{"id":"c1"}');
  await gets(member, 3);
  assert.deepEqual(member.ids, ["a1", "b1", "c1"]);
  hub.close();
});

Deno.test("Hub stops trying when it is closed", async () => {
  let asked = 0;
  const hub = new Hub<Collector>({ fanOut: () => {}, retryMs: 600_000 });
  const position = { epoch: "a", seq: 0 };
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => position,
    unlisten: async () => {},
    positions: () => Promise.reject(new Error(`away ${++asked}`)),
    history: () => Promise.reject(new Error(`away ${++asked}`)),
    [Symbol.asyncDispose]: async () => {},
  });
  const [gap, calm] = [newTarget(), newTarget()];
  for (const target of [gap, calm]) (await hub.join(target, new Collector())).activate();
  hub.message(gap, "a", 5, "{}");
  hub.disrupted();
  await waitFor(() => asked >= 2);
  // The sanitizers see whether the timers of ten minutes are gone.
  hub.close();
  await assert.rejects(hub.join(gap, new Collector()), /closing/);
  assert.deepEqual([...hub.targets()], []);
});
