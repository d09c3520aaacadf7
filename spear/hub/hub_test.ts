import assert from "node:assert/strict";
import fc from "fast-check";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { MemoryBus } from "../broker/memory.ts";
import { Collector, defaults, gets, newTarget, range, TestNode } from "../broker/testing.ts";
import { Hub } from "./hub.ts";
import type { Target } from "../wire.ts";
import { HubHistory, type Step, step } from "./simulation.ts";

function overMemory(bus = new MemoryBus(defaults.history)): Promise<TestNode> {
  return TestNode.open(async (sink) => bus.connect(sink));
}

/** What the listening begins from is two epochs old when it is answered, and further back than history reaches. */
const twoFailovers: Step[] = [
  { do: "join", who: 0, since: "none", room: Infinity },
  { do: "read", which: 0 },
  { do: "publish" },
  { do: "drop" },
  { do: "publish" },
  { do: "failover", lost: 0 },
  { do: "failover", lost: 0 },
];

/** One comes from a node that is ahead while this one waits for an answer that was given before. */
const aheadOfAnOldAnswer: Step[] = [
  { do: "join", who: 0, since: "none", room: Infinity },
  { do: "answer", which: 0 },
  { do: "activate", who: 0 },
  { do: "publish" },
  { do: "publish" },
  { do: "drop" },
  { do: "deliver" },
  { do: "read", which: 0 },
  { do: "publish" },
  { do: "join", who: 1, since: "head", room: Infinity },
  { do: "answer", which: 0 },
];

slowTest(
  "Hub gives every member exactly the right messages in order, whatever the broker does",
  async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 120 }), async (steps) => {
        const history = new HubHistory();
        for (const step of steps) await history.take(step);
        await history.settle();
        history.check();
        await history.end();
      }),
      { numRuns: 500, examples: [[twoFailovers], [aheadOfAnOldAnswer]] },
    );
  },
);

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
  await using node = await overMemory(new MemoryBus({ ...defaults.history, size: 2 }));
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
    clear: async () => {},
    positions: () => Promise.reject(new Error("not asked for")),
    history: async () => {
      const answer = answers.shift();
      assert.ok(answer !== undefined, "history asked for once too often");
      if (answer instanceof Error) throw answer;
      answer.first?.();
      const entries = answer.seqs.map((seq) => ({ epoch: "a", seq, body: `{"id":"m${seq}"}` }));
      return { head: { epoch: "a", seq: answer.head }, entries, next: undefined, complete: true };
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

Deno.test("Hub gives members nothing of an epoch before theirs, when history has it and has lost theirs", async () => {
  const target = newTarget();
  let head = { epoch: "b", seq: 0 };
  const hub = new Hub<Collector>({
    fanOut: (frame, members) => {
      for (const member of members) member.send(frame);
    },
  });
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => head,
    unlisten: async () => {},
    clear: async () => {},
    positions: async () => [head],
    history: async () => ({
      head,
      entries: ["a", "c"].map((epoch) => ({ epoch, seq: 1, body: `{"id":"${epoch}1"}` })),
      next: undefined,
      complete: false,
    }),
    [Symbol.asyncDispose]: async () => {},
  });
  const member = new Collector();
  (await hub.join(target, member)).activate();
  hub.message(target, "b", 1, '{"id":"b1"}');
  head = { epoch: "c", seq: 1 };
  hub.message(target, "c", 1, '{"id":"c1"}');
  await gets(member, 2);
  assert.deepEqual(member.frames.map(({ epoch, seq }) => [epoch, seq]), [["b", 1], ["c", 1]]);
  hub.close();
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
    clear: async () => {},
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
      next: undefined,
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
    clear: async () => {},
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

Deno.test("Hub repairs each target by itself: one that nothing answers for, or only with errors, holds up no other", async () => {
  const [dead, mute, ...alive] = range(1002).map(newTarget) as [Target, Target, ...Target[]];
  const hub = new Hub<Collector>({
    fanOut: (frame, members) => {
      for (const member of members) member.send(frame);
    },
    retryMs: 1,
  });
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => ({ epoch: "a", seq: 3 }),
    unlisten: async () => {},
    clear: async () => {},
    positions: async (known) => {
      if (known.some(({ target }) => target === dead)) throw new Error("CLUSTERDOWN");
      if (known.some(({ target }) => target === mute)) await new Promise(() => {});
      return known.map(() => ({ epoch: "a", seq: 4 }));
    },
    history: async () => ({
      head: { epoch: "a", seq: 4 },
      entries: [{ epoch: "a", seq: 4, body: '{"id":"a4"}' }],
      next: undefined,
      complete: true,
    }),
    [Symbol.asyncDispose]: async () => {},
  });
  const members: Collector[] = [];
  for (const target of [dead, mute, ...alive]) {
    const member = new Collector();
    (await hub.join(target, member)).activate();
    members.push(member);
  }
  hub.disrupted();
  await waitFor(() => members.slice(2).every(({ frames }) => frames.length === 1));
  // And again, while the two are still waited for.
  hub.disrupted();
  assert.deepEqual(members.slice(0, 2).flatMap(({ seqs }) => seqs), []);
  hub.close();
});

Deno.test("Hub.join of one that has seen the next epoch on another node waits until this node is there too", async () => {
  const target = newTarget();
  const kept = (epoch: string, count: number) =>
    range(count).map((seq) => ({ epoch, seq, body: `{"id":"${epoch}${seq}"}` }));
  let readings = 0;
  const first = Promise.withResolvers<void>();
  const hub = new Hub<Collector>({
    fanOut: (frame, members) => {
      for (const member of members) member.send(frame);
    },
    retryMs: 0,
  });
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => ({ epoch: "a", seq: 3 }),
    unlisten: async () => {},
    clear: async () => {},
    positions: () => Promise.reject(new Error("not asked for")),
    history: async (_target, after) => {
      // The first answer was given before the second message of the epoch.
      const seq = ++readings === 1 ? 1 : 2;
      if (readings === 1) await first.promise;
      const entries = kept("b", seq).filter((entry) =>
        after.epoch !== "b" || entry.seq > after.seq
      );
      return {
        head: { epoch: "b", seq },
        entries,
        next: undefined,
        complete: after.epoch === "b" && after.seq <= seq,
      };
    },
    [Symbol.asyncDispose]: async () => {},
  });
  const slow = new Collector();
  (await hub.join(target, slow)).activate();
  hub.message(target, "b", 1, '{"id":"b1"}');
  const fast = new Collector();
  const joining = hub.join(target, fast, { epoch: "b", seq: 2 });
  first.resolve();
  const join = await joining;
  assert.deepEqual([join.position, join.recovered], [{ epoch: "b", seq: 2 }, true]);
  for (const frame of join.missed) fast.send(frame);
  join.activate();
  for (const seq of [2, 3]) hub.message(target, "b", seq, `{"id":"b${seq}"}`);
  assert.deepEqual(fast.ids, ["b3"]);
  assert.deepEqual(slow.ids, ["b1", "b2", "b3"]);
  hub.close();
});

Deno.test("Hub.join takes no answer that was on its way before the latest message came", async () => {
  const target = newTarget();
  const answers: (() => void)[] = [];
  let head = 3;
  const hub = new Hub<Collector>({
    fanOut: (frame, members) => {
      for (const member of members) member.send(frame);
    },
    retryMs: 0,
  });
  hub.connect({
    connected: true,
    publish: () => Promise.reject(new Error("not asked for")),
    listen: async () => ({ epoch: "a", seq: head }),
    unlisten: async () => {},
    clear: async () => {},
    positions: () => Promise.reject(new Error("not asked for")),
    history: (_target, after) => {
      const entries = range(head, after.seq + 1)
        .map((seq) => ({ epoch: "a", seq, body: `{"id":"a${seq}"}` }));
      const page = { head: { epoch: "a", seq: head }, entries, next: undefined, complete: true };
      return new Promise((resolve) => answers.push(() => resolve(page)));
    },
    [Symbol.asyncDispose]: async () => {},
  });
  const [early, late] = [new Collector(), new Collector()];
  const joins = [hub.join(target, early, { epoch: "a", seq: 1 })];
  await waitFor(() => answers.length === 1);
  hub.message(target, "a", head = 4, '{"id":"a4"}');
  joins.push(hub.join(target, late, { epoch: "a", seq: 1 }));
  await waitFor(() => answers.length === 2);
  for (const answer of answers) answer();
  for (const [i, member] of [early, late].entries()) {
    const join = await joins[i];
    assert.equal(join?.recovered, true);
    for (const frame of join?.missed ?? []) member.send(frame);
    join?.activate();
    assert.deepEqual(member.ids, ["a2", "a3", "a4"]);
  }
  hub.close();
});
