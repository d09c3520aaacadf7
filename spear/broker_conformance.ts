/** What every engine of the broker must do. An engine's test registers each case under its own name. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing";
import { type Broker, NotAcceptedError } from "./broker.ts";
import { type BrokerCluster, gets, newTarget, range, TestNode } from "./broker_testing.ts";
import type { Position, Target } from "./wire.ts";

export interface BrokerCase {
  readonly name: string;
  /** Without them in the cluster the case does not apply. */
  readonly needs?: "loseData" | "received";
  readonly run: (cluster: BrokerCluster) => Promise<void>;
}

async function nodes(cluster: BrokerCluster, options: Parameters<typeof TestNode.open>[1] = {}) {
  const stack = new AsyncDisposableStack();
  const open: BrokerCluster["open"] = (sink, settings) => cluster.open(sink, settings);
  const a = stack.use(await TestNode.open(open, options));
  const b = stack.use(await TestNode.open(open, options));
  return { a, b, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

async function publishAll(node: TestNode, target: Target, count: number, prefix = "m") {
  const accepted = await Promise.all(
    range(count).map((n) => node.publish(target, `${prefix}${n}`)),
  );
  const epoch = accepted[0]?.epoch ?? "";
  return { accepted, at: (seq: number): Position => ({ epoch, seq }) };
}

async function seqsAfter(broker: Broker, target: Target, after: Position, upTo?: number) {
  const { entries, complete } = await broker.history(target, after, upTo);
  return { seqs: entries.map(({ seq }) => seq), complete };
}

export const brokerCases: readonly BrokerCase[] = [
  {
    name: "every node that listens gets each message once, in order, whoever publishes",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const members = [await a.member(target), await b.member(target), await b.member(target)];
      const answers = [];
      for (const n of range(20)) answers.push(await (n % 3 ? a : b).publish(target, `m${n}`));
      assert.deepEqual(answers.map(({ seq }) => seq), range(20));
      assert.deepEqual(answers.map(({ id }) => id), range(20).map((n) => `m${n}`));
      assert.equal(new Set(answers.map(({ epoch }) => epoch)).size, 1);
      for (const member of members) {
        await gets(member, 20);
        assert.deepEqual(member.seqs, range(20));
        assert.deepEqual(member.ids, range(20).map((n) => `m${n}`));
        assert.deepEqual(member.lost, []);
      }
    },
  },
  {
    name: "publications under way at the same time are counted in the order of the calls",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const targets = [newTarget(), newTarget(), newTarget()] as const;
      const members = await Promise.all(targets.map((target) => b.member(target)));
      const published = await Promise.all(targets.map((target) => publishAll(a, target, 200)));
      for (const { accepted } of published) {
        assert.deepEqual(accepted.map(({ seq }) => seq), range(200));
      }
      for (const member of members) {
        await gets(member, 200);
        assert.deepEqual(member.ids, range(200).map((n) => `m${n}`));
      }
    },
  },
  {
    name: "any publications from two nodes at once are seen as exactly 1 to n by members on both",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const step = fc.record({ node: fc.nat(1), target: fc.nat(2), pause: fc.boolean() });
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 60 }), async (steps) => {
          const targets = [newTarget(), newTarget(), newTarget()];
          const members = await Promise.all(
            targets.map((target) => Promise.all([a.member(target), b.member(target)])),
          );
          const underWay: Promise<unknown>[] = [];
          for (const [i, { node, target, pause }] of steps.entries()) {
            const publisher = node === 0 ? a : b;
            underWay.push(publisher.publish(targets[target] ?? "g:", `${node}-${i}`));
            if (pause) await underWay.at(-1);
          }
          await Promise.all(underWay);
          for (const [i, both] of members.entries()) {
            const count = steps.filter(({ target }) => target === i).length;
            for (const member of both) {
              await gets(member, count);
              assert.deepEqual(member.seqs, range(count));
              assert.deepEqual(member.lost, []);
              for (const node of [0, 1]) {
                const sent = steps.entries().filter(([, step]) =>
                  step.target === i && step.node === node
                ).map(([i]) => `${node}-${i}`).toArray();
                assert.deepEqual(member.ids.filter((id) => id.startsWith(`${node}-`)), sent);
              }
            }
            assert.deepEqual(both[0].ids, both[1].ids);
          }
        }),
        { numRuns: 20 },
      );
    },
  },
  {
    name: "listen tells the position after which messages come",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const { at } = await publishAll(a, target, 5);
      assert.deepEqual(await b.broker.listen(target), at(5));
      await publishAll(a, target, 2, "later");
      await waitFor(() => b.arrivals.length >= 2);
      assert.deepEqual(b.arrivals.map(({ seq }) => seq), [6, 7]);
      assert.deepEqual(await b.broker.listen(target), at(7));
      assert.equal((await b.broker.listen(newTarget())).seq, 0);
    },
  },
  {
    name: "a node gets nothing of what it does not listen to, nor of what it no longer listens to",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const [wanted, unwanted, left] = [newTarget(), newTarget(), newTarget()];
      await a.member(unwanted);
      const member = await b.member(wanted);
      await b.broker.listen(left);
      await b.broker.unlisten(left);
      await publishAll(a, unwanted, 50);
      await publishAll(a, left, 50);
      await publishAll(a, wanted, 1);
      await gets(member, 1);
      assert.deepEqual(b.arrivals.map(({ target }) => target), [wanted]);
    },
  },
  {
    name: "what a node does not listen to costs its connection nothing",
    needs: "received",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const [loud, quiet] = [newTarget(), newTarget()];
      const members = [await a.member(loud), await b.member(quiet)] as const;
      const received = (node: TestNode) => cluster.received?.(node.broker) ?? NaN;
      const before = [received(a), received(b)] as const;
      const body = JSON.stringify({ id: "x", content: "x".repeat(10_000) });
      await Promise.all(
        range(100).map((n) => b.broker.publish({ target: loud, id: `m${n}`, body })),
      );
      await gets(members[0], 100);
      await publishAll(a, quiet, 1);
      await gets(members[1], 1);
      const [heard, unheard] = [received(a) - before[0], received(b) - before[1]];
      assert.ok(heard > 1_000_000, `the listening node received ${heard} bytes`);
      // Answers to 100 publications, and whatever keeps connections alive.
      assert.ok(unheard < 50_000, `the other node received ${unheard} bytes`);
    },
  },
  {
    name: "history tells what came after a position, and whether that is all",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a: { broker }, b } = pair;
      const target = newTarget();
      const { at } = await publishAll(b, target, 10);
      const all = { seqs: range(10), complete: true };
      assert.deepEqual(await seqsAfter(broker, target, at(0)), all);
      assert.deepEqual(await seqsAfter(broker, target, at(7)), {
        seqs: [8, 9, 10],
        complete: true,
      });
      assert.deepEqual(await seqsAfter(broker, target, at(10)), { seqs: [], complete: true });
      assert.deepEqual(await seqsAfter(broker, target, at(11)), { seqs: [], complete: false });
      assert.deepEqual(await seqsAfter(broker, target, at(3), 5), { seqs: [4, 5], complete: true });
      assert.deepEqual(await seqsAfter(broker, target, at(9), 99), { seqs: [10], complete: true });
      const unknown = await seqsAfter(broker, target, { epoch: "another", seq: 7 });
      assert.deepEqual(unknown, { ...all, complete: false });
      const { head, entries } = await broker.history(target, at(8));
      assert.deepEqual(head, at(10));
      assert.deepEqual(entries, [
        { ...at(9), body: '{"id":"m9"}' },
        { ...at(10), body: '{"id":"m10"}' },
      ]);
    },
  },
  {
    name: "history keeps no more messages than its size",
    run: async (cluster) => {
      await using pair = await nodes(cluster, { history: { size: 5, ageMs: 600_000 } });
      const { a, b: { broker } } = pair;
      const target = newTarget();
      const { at } = await publishAll(a, target, 300);
      const kept = range(300, 296);
      assert.deepEqual(await seqsAfter(broker, target, at(0)), { seqs: kept, complete: false });
      assert.deepEqual(await seqsAfter(broker, target, at(294)), { seqs: kept, complete: false });
      assert.deepEqual(await seqsAfter(broker, target, at(295)), { seqs: kept, complete: true });
      const unknown = await seqsAfter(broker, target, { epoch: "another", seq: 298 });
      assert.deepEqual(unknown, { seqs: kept, complete: false });
    },
  },
  {
    name: "history keeps no message for longer than its age",
    run: async (cluster) => {
      await using pair = await nodes(cluster, { history: { size: 100, ageMs: 1000 } });
      const { a, b } = pair;
      const target = newTarget();
      await a.member(target);
      const { at } = await publishAll(a, target, 3);
      await waitFor(async () => (await seqsAfter(b.broker, target, at(0))).seqs.length === 0);
      // The position stays as long as somebody is there.
      assert.deepEqual(await a.publish(target, "new"), { id: "new", ...at(4) });
      assert.deepEqual(await seqsAfter(b.broker, target, at(0)), { seqs: [4], complete: false });
      assert.deepEqual(await seqsAfter(b.broker, target, at(3)), { seqs: [4], complete: true });
    },
  },
  {
    name: "without history messages are counted and sent out, and none is kept",
    run: async (cluster) => {
      await using pair = await nodes(cluster, { history: { size: 0, ageMs: 600_000 } });
      const { a, b } = pair;
      const target = newTarget();
      const member = await b.member(target);
      const { at } = await publishAll(a, target, 20);
      await gets(member, 20);
      assert.deepEqual(member.seqs, range(20));
      assert.deepEqual(await seqsAfter(b.broker, target, at(19)), { seqs: [], complete: false });
      assert.deepEqual(await seqsAfter(b.broker, target, at(20)), { seqs: [], complete: true });
    },
  },
  {
    name: "an idempotency key gives the first one's answer, per target, on every node",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const [target, other] = [newTarget(), newTarget()];
      const member = await b.member(target);
      const first = await a.publish(target, "first", "7:key {1}");
      assert.deepEqual(await a.publish(target, "second", "7:key {1}"), first);
      assert.deepEqual(await b.publish(target, "third", "7:key {1}"), first);
      const others = await Promise.all(range(10).map((n) => a.publish(target, `o${n}`, "8:key")));
      for (const answer of others) assert.deepEqual(answer, others[0]);
      assert.deepEqual({ seq: others[0]?.seq, id: others[0]?.id }, { seq: 2, id: "o1" });
      assert.equal((await a.publish(other, "elsewhere", "7:key {1}")).id, "elsewhere");
      assert.equal((await b.publish(target, "last", "9:key")).seq, 3);
      await gets(member, 3);
      assert.deepEqual(member.ids, ["first", "o1", "last"]);
    },
  },
  {
    name:
      "whoever comes back with a position gets what it missed and then the rest, while others publish",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const { at } = await publishAll(a, target, 20);
      const underWay = range(200).map((n) => (n % 2 ? a : b).publish(target, `live${n}`));
      const joins = range(20).map(async (seq) => ({
        seq,
        member: await (seq % 2 ? a : b).member(target, at(seq)),
      }));
      await Promise.all(underWay);
      for (const { seq, member } of await Promise.all(joins)) {
        await gets(member, 220 - seq);
        assert.deepEqual(member.seqs, range(220, seq + 1));
        assert.deepEqual(member.lost, []);
      }
    },
  },
  {
    name: "bodies arrive as they were, whatever is in them",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const member = await b.member(target);
      const contents = ['"\\\r\n\0 }', "我是谁 🙂", "x".repeat(300_000), " 1 2 ", "%d %s {}"];
      for (const content of contents) {
        const body = JSON.stringify({ id: "1", content });
        await a.broker.publish({ target, id: "1", body });
      }
      await gets(member, contents.length);
      const sent = member.frames.map(({ text }) => JSON.parse(text.slice(2))[1].content);
      assert.deepEqual(sent, contents);
      const { entries } = await b.broker.history(target, { epoch: "", seq: 0 });
      assert.deepEqual(entries.map(({ body }) => JSON.parse(body).content), contents);
    },
  },
  {
    name: "positions begins a new epoch for a target that is behind what a node has seen",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const [target, other] = [newTarget(), newTarget()];
      const member = await b.member(target);
      const { at } = await publishAll(a, target, 3);
      const { at: otherAt } = await publishAll(a, other, 4);
      const known = [{ target, ...at(3) }, { target: other, ...otherAt(2) }];
      assert.deepEqual(await a.broker.positions(known), [at(3), otherAt(4)]);
      const ahead = [{ target, ...at(5) }, { target: other, ...otherAt(4) }];
      const [renewed, same] = await a.broker.positions(ahead);
      assert.deepEqual(same, otherAt(4));
      assert.notEqual(renewed?.epoch, at(0).epoch);
      assert.equal(renewed?.seq, 0);
      assert.deepEqual((await b.broker.positions(ahead))[0], renewed);
      await gets(member, 3);
      assert.deepEqual(await a.publish(target, "new"), { id: "new", ...renewed, seq: 1 });
      await gets(member, 4);
      assert.deepEqual(member.seqs, [1, 2, 3, 1]);
      assert.deepEqual(member.lost, []);
      const rejoin = await b.hub.join(target, member, at(3));
      rejoin.activate();
      assert.equal(rejoin.recovered, false);
      assert.deepEqual(rejoin.missed.map(({ epoch, seq }) => ({ epoch, seq })), [
        { epoch: renewed?.epoch, seq: 1 },
      ]);
    },
  },
  {
    name: "data loss shows as a new epoch, and messages go on",
    needs: "loseData",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const members = [await a.member(target), await b.member(target)];
      const { at } = await publishAll(a, target, 3);
      for (const member of members) await gets(member, 3);
      await cluster.loseData?.();
      const { accepted } = await publishAll(b, target, 2, "after");
      assert.deepEqual(accepted.map(({ seq }) => seq), [1, 2]);
      assert.notEqual(accepted[0]?.epoch, at(0).epoch);
      for (const member of members) {
        await gets(member, 5);
        assert.deepEqual(member.ids, ["m1", "m2", "m3", "after1", "after2"]);
        assert.deepEqual(member.lost, []);
      }
      const { complete } = await a.broker.history(target, at(2));
      assert.equal(complete, false);
    },
  },
  {
    name: "a broker that is closed refuses, and the others go on",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const member = await b.member(target);
      await a.member(target);
      await publishAll(a, target, 1);
      await a.broker[Symbol.asyncDispose]();
      await assert.rejects(a.publish(target, "late"), NotAcceptedError);
      await assert.rejects(a.broker.listen(target), NotAcceptedError);
      assert.equal((await b.publish(target, "m2")).seq, 2);
      await gets(member, 2);
      assert.deepEqual(member.ids, ["m1", "m2"]);
    },
  },
];
