import assert from "node:assert/strict";
import fc from "fast-check";
import { EventError } from "../wire.ts";
import { Work, work, type Worker, type WorkLimits } from "./work.ts";
import { slowTest } from "@gru/shared/testing/harness";

const limits: WorkLimits = {
  workPerSecond: 10,
  workAtOnce: 100,
  userFactor: 2,
  nodeWorkPerSecond: 100_000,
  messagesPerSecond: 5,
  groupsPerConnection: 1,
};

const connection = (userId?: string): Worker => ({
  ...{ userId, workFullAtMs: 0, refusalsFullAtMs: 0, modestFullAtMs: 0, messages: undefined },
});

/** 0: charged. Else what the refusal says: milliseconds until it is worth trying again. */
function waitMsOf(charge: () => void): number {
  try {
    charge();
    return 0;
  } catch (error) {
    assert(error instanceof EventError);
    return error.retryAfterMs ?? NaN;
  }
}

class Scene {
  nowMs = 1;
  readonly work: Work;

  constructor(changes: Partial<WorkLimits> = {}) {
    this.work = new Work({ ...limits, ...changes }, () => this.nowMs);
  }

  take(worker: Worker, units: number): number {
    return waitMsOf(() => this.work.charge(worker, "online", units));
  }
}

Deno.test("Work gives no connection and no user more than its budget, whatever is asked for and when", () => {
  const ask = fc.record({
    connection: fc.nat(5),
    units: fc.oneof(fc.nat(30), fc.double({ min: 0, max: 1, noNaN: true })),
    gapMs: fc.nat(500),
  });
  fc.assert(fc.property(fc.array(ask, { maxLength: 200 }), (asks) => {
    const scene = new Scene();
    // Five connections of one user, and one of another.
    const all = [..."11111"].map(connection).concat(connection("2"));
    const taken = all.map(() => 0);
    for (const { connection, units, gapMs } of asks) {
      scene.nowMs += gapMs;
      const one = all[connection];
      assert(one !== undefined);
      const waitMs = scene.take(one, units);
      if (waitMs === 0) taken[connection] = (taken[connection] ?? 0) + units;
      else assert.ok(scene.take({ ...one }, units) > 0);
      const due = limits.workPerSecond * scene.nowMs / 1000 + limits.workAtOnce + 1e-6;
      for (const sum of taken) assert.ok(sum <= due);
      assert.ok(taken.slice(0, 5).reduce((a, b) => a + b) <= 2 * due);
    }
  }));
});

Deno.test("Work that is refused is given after the time that it names", () => {
  const unit = fc.integer({ min: 1, max: 100 });
  fc.assert(fc.property(fc.array(unit, { minLength: 1, maxLength: 30 }), (asks) => {
    const scene = new Scene();
    const one = connection("1");
    for (const units of asks) {
      const waitMs = scene.take(one, units);
      if (waitMs === 0) continue;
      scene.nowMs += waitMs + 1e-6;
      assert.equal(scene.take(one, units), 0);
    }
  }));
});

Deno.test("Work of one event that is more than a whole budget is given to a client that was quiet, and owed", () => {
  const scene = new Scene();
  const one = connection("1");
  assert.equal(scene.take(one, 150), 0);
  assert.ok(scene.take(one, 1) >= 5000);
  assert.equal(scene.work.isFlood(one), false);
  scene.work.spend(one, 100);
  assert.equal(scene.work.isFlood(one), true);
});

Deno.test("Work forgets users only when that gives them nothing", () => {
  const scene = new Scene();
  const busy = connection("busy");
  while (scene.take(busy, 10) === 0);
  scene.nowMs++;
  for (let i = 0; i < 5000; i++) scene.take(connection(`${i}`), 1);
  scene.nowMs++;
  // Through another connection, so that only the user's budget counts.
  scene.take(connection("busy"), 100);
  assert.ok(scene.take(connection("busy"), 100) > 0);
});

Deno.test("the messages of one user are limited to what so many connections may send", () => {
  const scene = new Scene();
  let sent = 0;
  const send = () => scene.work.chargeArrival(connection("1"), "msg", {}, 0);
  while (waitMsOf(send) === 0) sent++;
  // 200 units at once, and 2 a message.
  assert.equal(sent, 100);
});

slowTest(
  "a node that has more to do than it can refuses those who make much of it, and nobody who makes little",
  () => {
    const scene = new Scene({
      ...{ workPerSecond: 500, workAtOnce: 5000 },
      nodeWorkPerSecond: 1000,
    });
    const busy = Array.from({ length: 50 }, (_, i) => connection(`busy ${i}`));
    const quiet = Array.from({ length: 50 }, (_, i) => connection(`quiet ${i}`));
    let [done, refused] = [0, 0];
    for (; scene.nowMs < 10_000; scene.nowMs += 10) {
      for (const one of busy) {
        if (scene.take(one, 5) === 0) done += 5;
        else refused++;
      }
      const one = quiet[scene.nowMs / 10 % 50 | 0];
      assert(one !== undefined);
      assert.equal(scene.take(one, 5), 0);
    }
    assert.ok(refused > 0);
    // 250 000 units are asked for. What a modest client may do is given to each in any case.
    const modestUnits = 50 * (200 + 20 * 10);
    assert.ok(done < 1000 * 11 + modestUnits, `${done} units done`);
  },
);

Deno.test("no event is free, however it is called", () => {
  for (
    const event of ["auth", "subscribe", "unsubscribe", "online", "constructor", "__proto__", ""]
  ) {
    assert.ok(work.ofEvent(event) >= 1, event);
  }
});
