/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { Track } from "./track.ts";
import type { Missed, Position } from "./types.ts";

/** What a node sends about one target. */
type Packet =
  | { readonly kind: "message"; readonly at: Position }
  | { readonly kind: "missed"; readonly epoch: string; readonly from: number; readonly to: number }
  | { readonly kind: "result"; readonly at: Position; readonly recovered: boolean };

/** A target as the cluster keeps it: what is out of `kept` is lost for everybody who has not got it. */
class Target {
  readonly log: Position[] = [];
  kept: Position[] = [];
  at: Position = { epoch: "e0", seq: 0 };
  #epochs = 0;

  publish(): Position {
    const at = this.at = { ...this.at, seq: this.at.seq + 1 };
    this.log.push(at);
    this.kept.push(at);
    return at;
  }

  trim(count: number): void {
    this.kept.splice(0, count);
  }

  beginEpoch(): void {
    this.at = { epoch: `e${++this.#epochs}`, seq: 0 };
  }
}

/** A connection to a node, which serves in the order of what was asked and sends in the order of what happens. */
class Line {
  readonly wire: Packet[] = [];
  readonly asked: (Position | undefined)[] = [];
  isMember = false;

  serve(target: Target): void {
    if (this.asked.length === 0) return;
    const since = this.asked.shift();
    this.isMember = true;
    let recovered = since !== undefined && since.epoch === target.at.epoch;
    if (since !== undefined) {
      const index = target.log.findIndex((at) => at.epoch === since.epoch && at.seq > since.seq);
      const from = target.log.slice(index < 0 ? target.log.length : index);
      const lost = from.filter((at) => !target.kept.includes(at));
      if (lost.length > 0) recovered = false;
      const [first] = lost;
      // As a node does, only within the epoch in which it knows where the client is.
      if (first !== undefined && since.epoch === target.at.epoch) {
        const { epoch, seq } = lost.at(-1) ?? first;
        this.wire.push({ kind: "missed", epoch, from: first.seq, to: seq });
      }
      const rest = index < 0 ? target.kept.filter(({ epoch }) => epoch !== since.epoch) : from;
      for (const at of rest) if (target.kept.includes(at)) this.wire.push({ kind: "message", at });
    }
    this.wire.push({ kind: "result", at: target.at, recovered });
  }

  /** The client does not read: the newest `count` packets that are on their way are dropped, and told. */
  skip(count: number): void {
    const dropped = [];
    while (dropped.length < count && this.wire.at(-1)?.kind === "message") {
      dropped.unshift((this.wire.pop() as { at: Position }).at);
    }
    for (const { epoch, seq } of dropped) {
      this.wire.push({ kind: "missed", epoch, from: seq, to: seq });
    }
  }
}

class Client {
  readonly got: Position[] = [];
  readonly missed: Missed[] = [];
  readonly track = new Track<Position>({
    deliver: (message) => this.got.push({ epoch: message.epoch, seq: message.seq }),
    missed: (missed) => this.missed.push(missed),
    heldAtMost: 1000,
  }, undefined);

  join(line: Line): void {
    line.asked.push(this.track.join());
  }

  read(line: Line): void {
    const packet = line.wire.shift();
    if (packet === undefined) return;
    if (packet.kind === "message") this.track.message(packet.at);
    else if (packet.kind === "result") this.track.joined(packet.at, packet.recovered);
    else if (this.track.missed(packet.epoch, packet.from, packet.to)) this.join(line);
  }
}

const steps = [
  "publish",
  "read",
  "read next",
  "serve",
  "serve next",
  "skip",
  "trim",
  "epoch",
  "cut",
  "move",
  "switch",
] as const;

function play(plan: readonly { readonly step: typeof steps[number]; readonly count: number }[]) {
  const target = new Target();
  const client = new Client();
  let line = new Line();
  let next: Line | undefined;
  client.join(line);
  line.serve(target);
  client.read(line);

  const run = (step: typeof steps[number]) => {
    if (step === "publish") {
      const at = target.publish();
      for (const one of [line, next]) if (one?.isMember) one.wire.push({ kind: "message", at });
    } else if (step === "read") client.read(line);
    else if (step === "read next" && next !== undefined) client.read(next);
    else if (step === "serve") line.serve(target);
    else if (step === "serve next") next?.serve(target);
    else if (step === "trim") target.trim(1);
    else if (step === "epoch") target.beginEpoch();
    else if (step === "move" && next === undefined) {
      next = new Line();
      client.join(next);
    } else if (step === "switch" && next !== undefined && next.asked.length === 0) {
      // It is live when the result has been read.
      while (next.wire.some(({ kind }) => kind === "result")) client.read(next);
      if (next.asked.length === 0) [line, next] = [next, undefined];
    } else if (step === "cut") {
      client.track.off();
      line = next ?? new Line();
      if (next === undefined) client.join(line);
      next = undefined;
    }
  };
  for (const { step, count } of plan) {
    if (step === "skip") line.skip(count);
    else for (let n = 0; n < count; n++) run(step);
  }
  // It comes to rest.
  while (line.wire.length + line.asked.length > 0) {
    line.serve(target);
    client.read(line);
  }
  return { target, client };
}

const plans = fc.array(
  fc.record({ step: fc.constantFrom(...steps), count: fc.integer({ min: 1, max: 4 }) }),
  { maxLength: 60 },
);

Deno.test("whatever connections do, each message is given once and in order, and what is missing is named", () => {
  fc.assert(
    fc.property(plans, (plan) => {
      const { target, client } = play(plan);
      const place = new Map(target.log.map(({ epoch, seq }, i) => [`${epoch} ${seq}`, i]));
      const order = client.got.map(({ epoch, seq }) => place.get(`${epoch} ${seq}`) ?? -1);
      assert.deepEqual(order, [...new Set(order)].sort((a, b) => a - b));
      const got = new Set(order);
      const isNamed = ({ epoch, seq }: Position) =>
        client.missed.some((missed) =>
          missed.epoch === epoch && missed.from <= seq && seq <= (missed.to ?? Infinity)
        );
      const untold = target.log.filter((at, i) => !got.has(i) && !isNamed(at));
      assert.deepEqual(untold.filter(({ epoch }) => epoch === target.at.epoch), []);
    }),
    { numRuns: 3000 },
  );
});

Deno.test("where history has everything, nothing is missing", () => {
  const kind = plans.map((plan) => plan.filter(({ step }) => step !== "trim" && step !== "epoch"));
  fc.assert(
    fc.property(kind, (plan) => {
      const { target, client } = play(plan);
      assert.deepEqual(client.got, target.log);
      assert.deepEqual(client.missed, []);
    }),
    { numRuns: 3000 },
  );
});

Deno.test("a new epoch of which nothing was recovered is told as an unknown number of missed messages", () => {
  const client = new Client();
  client.track.joined({ epoch: "a", seq: 7 }, true);
  assert.deepEqual(client.track.join(), { epoch: "a", seq: 7 });
  client.track.message({ epoch: "b", seq: 1 });
  client.track.joined({ epoch: "b", seq: 1 }, false);
  assert.deepEqual(client.missed, [{ epoch: "a", from: 8, to: undefined }]);
  assert.deepEqual(client.got, [{ epoch: "b", seq: 1 }]);
});

Deno.test("what still comes of an epoch that is over is not given", () => {
  const client = new Client();
  client.track.joined({ epoch: "a", seq: 7 }, true);
  client.track.message({ epoch: "b", seq: 1 });
  client.track.message({ epoch: "a", seq: 8 });
  assert.deepEqual(client.got, [{ epoch: "b", seq: 1 }]);
});

Deno.test("a track holds only so many messages behind a gap", () => {
  const got: number[] = [];
  const missed: Missed[] = [];
  const track = new Track<Position>({
    deliver: ({ seq }) => got.push(seq),
    missed: (one) => missed.push(one),
    heldAtMost: 2,
  }, { epoch: "a", seq: 1 });
  assert.equal(track.missed("a", 2, 3), true);
  for (const seq of [4, 5]) track.message({ epoch: "a", seq });
  assert.deepEqual(got, []);
  track.message({ epoch: "a", seq: 6 });
  assert.deepEqual(got, [4, 5, 6]);
  assert.deepEqual(missed, [{ epoch: "a", from: 2, to: 3 }]);
});
