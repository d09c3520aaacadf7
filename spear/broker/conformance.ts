/** The behaviour that every broker engine must have. An engine's test registers each case under its own name. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { waitFor } from "@gru/shared/testing/harness";
import {
  type Broker,
  type Entry,
  type HistoryPage,
  messagesPerPage,
  NotAcceptedError,
  OverRateError,
  pageBytes,
  type Priority,
} from "./broker.ts";
import { type BrokerCluster, defaults, gets, newTarget, range, TestNode } from "./testing.ts";
import type { Position, Target } from "../wire.ts";

export interface BrokerCase {
  readonly name: string;
  /** The case does not apply to clusters without these functions. */
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

/** Reads all pages. */
async function readAll(broker: Broker, target: Target, after: Position) {
  const [entries, pages]: [Entry[], HistoryPage[]] = [[], []];
  for (let next: Position | undefined = after; next !== undefined;) {
    const page: HistoryPage = await broker.history(target, next);
    pages.push(page);
    entries.push(...page.entries);
    next = page.next;
  }
  return { entries, complete: pages.every(({ complete }) => complete) };
}

async function seqsAfter(broker: Broker, target: Target, after: Position) {
  const { entries, complete } = await readAll(broker, target, after);
  return { seqs: entries.map(({ seq }) => seq), complete };
}

export const brokerCases: readonly BrokerCase[] = [
  {
    name: "every node that listens gets each message once, in order, whichever node publishes",
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
    name: "concurrent publications get their seqs in the order of the calls",
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
    name: "members on two nodes see exactly 1 to n when both nodes publish at once",
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
    name: "listen resolves to the position after which messages arrive",
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
    name: "a node gets no messages of targets that it does not listen to, or no longer listens to",
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
    name: "messages of targets that a node does not listen to do not use its connection",
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
      // The answers to 100 publications, and keep-alive traffic.
      assert.ok(unheard < 50_000, `the other node received ${unheard} bytes`);
    },
  },
  {
    name: "a history that is cleared is empty and incomplete for everybody, and goes on",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const [target, other] = [newTarget(), newTarget()];
      const { at } = await publishAll(a, target, 5);
      await publishAll(a, other, 1);
      const member = await b.member(target);
      await b.broker.clear(target);
      assert.deepEqual(await seqsAfter(a.broker, target, at(2)), { seqs: [], complete: false });
      assert.deepEqual(await seqsAfter(a.broker, target, at(5)), { seqs: [], complete: true });
      await publishAll(a, target, 2, "later");
      assert.deepEqual(await seqsAfter(b.broker, target, at(2)), { seqs: [6, 7], complete: false });
      assert.deepEqual(await seqsAfter(b.broker, target, at(5)), { seqs: [6, 7], complete: true });
      assert.equal((await a.broker.history(other, { epoch: "", seq: 0 })).entries.length, 1);
      await gets(member, 2);
      assert.deepEqual(member.lost, []);
      await a.broker.clear(newTarget());
    },
  },
  {
    name: "history returns the messages after a position, and whether they are complete",
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
      const absurd = at(Number.MAX_SAFE_INTEGER);
      assert.deepEqual(await seqsAfter(broker, target, absurd), { seqs: [], complete: false });
      const unknown = await seqsAfter(broker, target, { epoch: "another", seq: 7 });
      assert.deepEqual(unknown, { ...all, complete: false });
      const { head, entries, next } = await broker.history(target, at(8));
      assert.deepEqual(head, at(10));
      assert.equal(next, undefined);
      assert.deepEqual(entries, [
        { ...at(9), body: '{"id":"m9"}' },
        { ...at(10), body: '{"id":"m10"}' },
      ]);
    },
  },
  {
    name: "history keeps no more messages than its size",
    run: async (cluster) => {
      await using pair = await nodes(cluster, { history: { ...defaults.history, size: 5 } });
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
    name: "history keeps no more bytes than its limit, but always the newest message",
    run: async (cluster) => {
      const history = { ...defaults.history, bytes: 10_000 };
      await using pair = await nodes(cluster, { history });
      const { a, b: { broker } } = pair;
      const target = newTarget();
      const publish = (length: number) =>
        a.broker.publish({ target, id: "m", body: JSON.stringify({ id: "x".repeat(length - 9) }) });
      const kept = async () => (await seqsAfter(broker, target, { epoch: "", seq: 0 })).seqs;
      for (const _ of range(100)) await publish(100);
      assert.deepEqual(await kept(), range(100));
      await publish(100);
      assert.deepEqual(await kept(), range(101, 2));
      await publish(1000);
      assert.deepEqual(await kept(), range(102, 12));
      await publish(20_000);
      assert.deepEqual(await kept(), [103]);
      await publish(9_000);
      assert.deepEqual(await kept(), [104]);
      await publish(1000);
      await publish(1000);
      assert.deepEqual(await kept(), [105, 106]);
    },
  },
  {
    name: "of some targets more or less is kept, for another time, than of others",
    run: async (cluster) => {
      const [short, long, brief, none] = [newTarget(), newTarget(), newTarget(), newTarget()];
      const history = { ...defaults.history, size: 5 };
      const limits = new Map([
        [short, { ...history, size: 2 }],
        [long, { ...history, size: 300 }],
        [brief, { ...history, ageMs: 1000 }],
        [none, { ...history, size: 0 }],
      ]);
      await using pair = await nodes(cluster, {
        history,
        historyOf: (target) => limits.get(target) ?? history,
      });
      const { a, b } = pair;
      const kept = async (target: Target, after: Position) =>
        (await seqsAfter(b.broker, target, after)).seqs;
      const at = new Map<Target, Position>();
      for (const target of [newTarget(), short, long, none]) {
        const published = await publishAll(a, target, 250);
        at.set(target, published.at(0));
        const size = Math.min(limits.get(target)?.size ?? history.size, 250);
        assert.deepEqual(await kept(target, published.at(0)), range(250, 251 - size));
      }
      await b.member(brief);
      const first = await b.publish(brief, "m", "key");
      await waitFor(async () => (await kept(brief, { ...first, seq: 0 })).length === 0);
      assert.deepEqual(await a.publish(brief, "n"), { ...first, id: "n", seq: 2 });
      assert.deepEqual((await kept(long, at.get(long) ?? first)).length, 250);
    },
  },
  {
    name: "history is read in pages limited by messages and bytes, without gaps between pages",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b: { broker } } = pair;
      const lengths = fc.array(fc.constantFrom(20, 300, 5000, pageBytes, 2 * pageBytes), {
        minLength: 1,
        maxLength: 40,
      });
      await fc.assert(
        fc.asyncProperty(lengths, fc.nat(40), fc.constantFrom(1, 4000, pageBytes), async (
          lengths,
          from,
          bytes,
        ) => {
          const target = newTarget();
          const bodies = lengths.map((length) => JSON.stringify({ id: "x".repeat(length - 9) }));
          const accepted = await Promise.all(
            bodies.map((body) => a.broker.publish({ target, id: "m", body })),
          );
          const { epoch } = accepted[0] ?? assert.fail();
          const read: string[] = [];
          for (let next: Position | undefined = { epoch, seq: from }; next !== undefined;) {
            const page: HistoryPage = await broker.history(target, next, bytes);
            const length = page.entries.reduce((sum, { body }) => sum + body.length, 0);
            assert.ok(length <= bytes || page.entries.length === 1, `a page of ${length} bytes`);
            assert.equal(page.complete, from <= lengths.length);
            read.push(...page.entries.map(({ body }) => body));
            next = page.next;
          }
          assert.deepEqual(read, bodies.slice(from));
        }),
        { numRuns: 20 },
      );
      const target = newTarget();
      const { at } = await publishAll(a, target, messagesPerPage + 1);
      const page = await broker.history(target, at(0));
      assert.equal(page.entries.length, messagesPerPage);
      assert.deepEqual(page.next, at(messagesPerPage));
    },
  },
  {
    name: "history keeps no message for longer than its age",
    run: async (cluster) => {
      await using pair = await nodes(cluster, { history: { ...defaults.history, ageMs: 1000 } });
      const { a, b } = pair;
      const target = newTarget();
      await a.member(target);
      const { at } = await publishAll(a, target, 3);
      await waitFor(async () => (await seqsAfter(b.broker, target, at(0))).seqs.length === 0);
      // The position stays as long as a node listens.
      assert.deepEqual(await a.publish(target, "new"), { id: "new", ...at(4) });
      assert.deepEqual(await seqsAfter(b.broker, target, at(0)), { seqs: [4], complete: false });
      assert.deepEqual(await seqsAfter(b.broker, target, at(3)), { seqs: [4], complete: true });
    },
  },
  {
    name: "without history messages get a seq and are sent, and none is kept",
    run: async (cluster) => {
      await using pair = await nodes(cluster, { history: { ...defaults.history, size: 0 } });
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
    name: "a repeated idempotency key returns the first result, per target, on every node",
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
      "a member that comes back with a position gets what it missed before anything new, while others publish",
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
    name:
      "a target takes so many messages from all nodes, low ones give way first, and a repetition is answered",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const target = newTarget();
      const member = await b.member(target);
      // Two at once, and the next one after a minute and more.
      const rate = (priority: Priority) => ({ rate: { perSecond: 0.01, priority } });
      const above = (publication: Promise<unknown>) =>
        assert.rejects(publication, (error) => {
          assert.ok(error instanceof OverRateError, `${error}`);
          assert.ok(
            error.retryAfterMs > 0 && error.retryAfterMs <= 200_000,
            `${error.retryAfterMs}`,
          );
          return true;
        });
      const first = await a.publish(target, "m1", "key", rate("low"));
      await above(b.publish(target, "m2", undefined, rate("low")));
      assert.equal((await b.publish(target, "m3", undefined, rate("normal"))).seq, 2);
      await above(a.publish(target, "m4", "other", rate("normal")));
      assert.deepEqual(await b.publish(target, "m5", "key", rate("low")), first);
      const last = await a.publish(target, "m6", "other", rate("system"));
      assert.deepEqual(last, { ...first, id: "m6", seq: 3 });
      await above(b.publish(target, "m7", undefined, rate("normal")));
      await a.publish(newTarget(), "m8", undefined, rate("low"));
      await a.publish(target, "m9");
      await gets(member, 4);
      assert.deepEqual(member.ids, ["m1", "m3", "m6", "m9"]);
      assert.deepEqual(member.seqs, range(4));
    },
  },
  {
    name: "an ephemeral message is delivered, is in no history, and takes no seq",
    run: async (cluster) => {
      await using pair = await nodes(cluster);
      const { a, b } = pair;
      const [target, fresh] = [newTarget(), newTarget()];
      const members = [await a.member(target), await b.member(target)];
      const others = [await a.member(fresh), await b.member(fresh)];
      const ephemeral = { ephemeral: true } as const;
      const first = await a.publish(target, "m1");
      const passing = { id: "e1", epoch: "", seq: 0 };
      assert.deepEqual(await a.publish(target, "e1", "key", ephemeral), passing);
      assert.deepEqual(await b.publish(target, "e2", "key", ephemeral), passing);
      assert.deepEqual(await b.publish(fresh, "f1", undefined, ephemeral), {
        ...passing,
        id: "f1",
      });
      const last = await b.publish(target, "m2");
      assert.deepEqual(last, { ...first, id: "m2", seq: 2 });
      for (const member of members) {
        await gets(member, 3);
        assert.deepEqual([...member.ids].sort(), ["e1", "m1", "m2"]);
        assert.deepEqual(member.seqs.filter((seq) => seq > 0), [1, 2]);
        const passed = member.frames.find(({ seq }) => seq === 0);
        assert.deepEqual(JSON.parse(passed?.text.slice(2) ?? "")[1], { id: "e1" });
        assert.deepEqual(member.lost, []);
      }
      for (const member of others) {
        await gets(member, 1);
        assert.deepEqual(member.ids, ["f1"]);
      }
      const { entries } = await readAll(a.broker, target, { ...first, seq: 0 });
      assert.deepEqual(entries.map(({ seq }) => seq), [1, 2]);
      const [position] = await b.broker.positions([{ target: fresh, epoch: "", seq: 0 }]);
      assert.equal(position?.seq, 0);
      const rate = { perSecond: 0.01, priority: "low" } as const;
      await a.publish(fresh, "f2", undefined, { ...ephemeral, rate });
      await assert.rejects(
        b.publish(fresh, "f3", undefined, { ...ephemeral, rate }),
        OverRateError,
      );
      const counted = await a.publish(fresh, "m3");
      assert.equal(counted.seq, 1);
      for (const member of others) {
        await gets(member, 3);
        assert.deepEqual([...member.ids].sort(), ["f1", "f2", "m3"]);
      }
    },
  },
  {
    name: "bodies arrive unchanged, whatever they contain",
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
      const { entries } = await readAll(b.broker, target, { epoch: "", seq: 0 });
      assert.deepEqual(entries.map(({ body }) => JSON.parse(body).content), contents);
    },
  },
  {
    name: "positions begins a new epoch for a target whose position is behind what a node has seen",
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
    name: "a loss of data begins a new epoch, and messages continue",
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
    name: "a closed broker rejects calls, and the other brokers continue",
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
