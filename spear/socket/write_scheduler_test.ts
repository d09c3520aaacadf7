import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { mock } from "node:test";
import fc from "fast-check";
import { Outlet, type Sink, type SlowConsumer, WriteScheduler } from "./write_scheduler.ts";
import { Aside, type Batch, Frame, Missed, missedOf, Packet } from "../packets.ts";

const patient: SlowConsumer = { waitingBytes: Infinity, policy: "disconnect" };

/** Something that was put on a socket, or that its client was told it does not get. */
type Item =
  | { readonly kind: "frame" | "dropped"; readonly packet: string }
  | { readonly kind: "other" | "aside"; readonly number: number };

/** A socket that writes down what is put on it. */
class TestSocket implements Sink {
  readonly outlet: Outlet;
  readonly written: Item[] = [];
  writes = 0;
  writable = true;
  disconnected = false;
  wasBlocked = false;
  heldBytes = 0;
  readonly slow: SlowConsumer;
  #ready: (() => void)[] = [];
  readonly #told: string[] = [];

  constructor(scheduler: WriteScheduler, slow: SlowConsumer = patient) {
    this.slow = slow;
    this.outlet = new Outlet(scheduler, this, slow);
  }

  cutOff(): void {
    this.disconnected = true;
  }

  /** Of these, whichever they are, in one. */
  missed(dropped: readonly (Frame | Missed)[]): readonly Packet[] {
    const before = dropped.filter((packet) => packet instanceof Missed);
    const from = before[0]?.from ?? this.#told.length;
    let to = before.at(-1)?.to ?? from - 1;
    for (const packet of dropped) {
      if (packet instanceof Frame) to = this.#told.push(packet.text) - 1;
    }
    return to < from ? [] : [new Missed("g:1", "e", from, to)];
  }

  write(batch: Batch): void {
    this.writes++;
    assert.ok(this.writable);
    const texts = decodeFrames(batch.joined);
    assert.deepEqual(texts, batch.packets().map(({ text }) => `4${text}`));
    assert.equal(batch.joined.length, batch.bytesLength);
    for (const text of texts) this.written.push(...this.#itemsOf(text.slice(1)));
  }

  #itemsOf(packet: string): Item[] {
    if (/^(other|aside)/.test(packet)) {
      const kind = packet.startsWith("aside") ? "aside" : "other";
      return [{ kind, number: Number(packet.slice(5)) }];
    }
    if (!packet.startsWith('2["missed"')) return [{ kind: "frame", packet }];
    const { from, to } = JSON.parse(packet.slice(1))[1];
    return this.#told.slice(from, to + 1).map((packet) => ({
      kind: "dropped",
      packet,
    }));
  }

  other(number: number, bytes = 10): void {
    this.outlet.push(new Packet(`other${String(number).padStart(bytes, "0")}`));
  }

  aside(number: number): void {
    this.outlet.push(new Aside(`aside${String(number).padStart(10, "0")}`));
  }

  whenWritable(callback: () => void): void {
    this.#ready.push(callback);
  }

  block(): void {
    this.writable = false;
    this.wasBlocked = true;
  }

  unblock(): void {
    this.writable = true;
    for (const ready of this.#ready.splice(0)) ready();
  }

  get frames(): string[] {
    return this.written.flatMap((item) => item.kind === "frame" ? [item.packet] : []);
  }
}

/** Reads unmasked WebSocket text frames as RFC 6455, 5.2 has them. */
function decodeFrames(bytes: Buffer): string[] {
  const texts: string[] = [];
  for (let at = 0; at < bytes.length;) {
    assert.equal(bytes[at], 0x81, "one whole text frame");
    const short = bytes[at + 1] ?? 0;
    assert.ok(short < 128, "not masked");
    const [length, header] = short === 126
      ? [bytes.readUInt16BE(at + 2), 4]
      : short === 127
      ? [Number(bytes.readBigUInt64BE(at + 2)), 10]
      : [short, 2];
    const least = header === 2 ? 0 : header === 4 ? 126 : 65_536;
    assert.ok(length >= least, "the shortest form of the length");
    const end = at + header + length;
    assert.ok(end <= bytes.length);
    texts.push(new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(at + header, end)));
    at = end;
  }
  return texts;
}

let made = 0;
function frame(packet: string): Frame {
  return new Frame("g:1", "e", ++made, packet);
}

function turn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}

function endOfTurn(): Promise<void> {
  return new Promise((resolve) => process.nextTick(resolve));
}

type Action = "other" | "aside" | "block" | "unblock" | "close";

type Step =
  | { readonly kind: "send"; readonly to: readonly number[]; readonly text: string }
  | { readonly kind: Action; readonly at: number }
  | { readonly kind: "turn" };

const socketCount = 5;
const at = fc.nat({ max: socketCount - 1 });
const text = fc.oneof(
  fc.string({ unit: "grapheme", maxLength: 20 }),
  fc.constantFrom("x".repeat(124), "ß".repeat(70), "y".repeat(300)),
);
const send = fc.record<Step & { kind: "send" }>({
  kind: fc.constant("send" as const),
  to: fc.uniqueArray(at),
  text,
});

function steps(...kinds: Action[]): fc.Arbitrary<Step[]> {
  const some = fc.record({ kind: fc.constantFrom(...kinds), at });
  const step = fc.oneof(
    { weight: 6, arbitrary: send },
    { weight: 3, arbitrary: some },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: "turn" }) },
  );
  return fc.array(step, { maxLength: 80, size: "max" });
}

interface Played {
  readonly sockets: readonly TestSocket[];
  /** What each socket should have got, all in all, in order. */
  readonly expected: readonly (readonly Item[])[];
}

async function play(
  script: readonly Step[],
  slow: SlowConsumer,
  check: (played: Played) => void = () => {},
): Promise<Played> {
  const scheduler = new WriteScheduler({ windowMs: 0 });
  const sockets = Array.from({ length: socketCount }, () => new TestSocket(scheduler, slow));
  const expected = sockets.map((): Item[] => []);
  const closed = new Set<number>();
  const played = { sockets, expected };
  let others = 0;
  for (const step of script) {
    if (step.kind === "turn") {
      await turn();
    } else if (step.kind === "send") {
      const one = frame(`2["msg",${JSON.stringify(step.text)},${made}]`);
      for (const at of step.to) {
        sockets[at]?.outlet.push(one);
        if (!closed.has(at)) expected[at]?.push({ kind: "frame", packet: one.text });
      }
    } else {
      const socket = sockets[step.at];
      if (socket === undefined || closed.has(step.at)) continue;
      if (step.kind === "other" || step.kind === "aside") {
        socket[step.kind](++others);
        expected[step.at]?.push({ kind: step.kind, number: others });
      } else if (step.kind === "block") socket.block();
      else if (step.kind === "unblock") socket.unblock();
      else {
        socket.outlet.close();
        closed.add(step.at);
        // What had not left by then need not leave.
        expected[step.at]?.splice(socket.written.length);
      }
    }
    check(played);
  }
  for (const socket of sockets) socket.unblock();
  // A round of writes may take several.
  for (let i = 0; i < 20; i++) await turn();
  return played;
}

Deno.test("WriteScheduler gives every socket exactly its frames, in order with everything else, whatever happens", async () => {
  await fc.assert(
    fc.asyncProperty(steps("other", "aside", "block", "unblock", "close"), async (script) => {
      const { sockets, expected } = await play(script, patient);
      sockets.forEach((socket, i) => assert.deepEqual(socket.written, expected[i]));
    }),
    { numRuns: 300 },
  );
});

Deno.test("Outlet that skips tells of all that it drops, in order, and drops nothing else", async () => {
  await fc.assert(
    fc.asyncProperty(
      steps("block", "unblock"),
      fc.integer({ min: 1000, max: 3000 }),
      async (script, waitingBytes) => {
        const { sockets, expected } = await play(script, { waitingBytes, policy: "skip" });
        sockets.forEach((socket, i) => {
          assert.deepEqual(
            socket.written.map((item) => "packet" in item ? item.packet : undefined),
            expected[i]?.map((item) => "packet" in item ? item.packet : undefined),
          );
          assert.equal(socket.disconnected, false);
          if (socket.written.some(({ kind }) => kind === "dropped")) assert.ok(socket.wasBlocked);
        });
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("Outlet that skips keeps all but frames, tells of these where they stood, and disconnects who has too much beside them", async () => {
  await fc.assert(
    fc.asyncProperty(
      steps("other", "aside", "block", "unblock"),
      fc.integer({ min: 50, max: 2000 }),
      async (script, waitingBytes) => {
        const { sockets, expected } = await play(script, { waitingBytes, policy: "skip" });
        const without = (kind: Item["kind"], items: readonly Item[] = []) =>
          items.filter((item) => item.kind !== kind)
            .map((item) => "packet" in item ? item.packet : item.number);
        const others = (items: readonly Item[] = []) =>
          items.flatMap((item) => "packet" in item ? [] : [item.number]);
        sockets.forEach((socket, i) => {
          if (socket.disconnected) return;
          assert.deepEqual(others(socket.written), others(expected[i]));
          assert.deepEqual(without("aside", socket.written), without("aside", expected[i]));
        });
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("Outlet holds no more than allowed for one socket, and disconnects it beyond that", async () => {
  const largest = 320;
  await fc.assert(
    fc.asyncProperty(
      steps("other", "block", "unblock"),
      fc.integer({ min: 50, max: 2000 }),
      async (script, waitingBytes) => {
        const { sockets, expected } = await play(
          script,
          { waitingBytes, policy: "disconnect" },
          ({ sockets, expected }) =>
            sockets.forEach((socket, i) => {
              if (socket.disconnected) return;
              const waiting = expected[i]?.slice(socket.written.length) ?? [];
              const bytes = waiting.reduce(
                (sum, item) => sum + (item.kind === "frame" ? frame(item.packet).bytes.length : 0),
                0,
              );
              if (!socket.writable) assert.ok(bytes <= waitingBytes + largest, `${bytes} bytes`);
            }),
        );
        sockets.forEach((socket, i) => {
          const all = expected[i] ?? [];
          assert.deepEqual(socket.written, all.slice(0, socket.written.length));
          if (!socket.disconnected) assert.equal(socket.written.length, all.length);
        });
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("Outlet disconnects a client that has ever more written and never reads", () => {
  const socket = new TestSocket(new WriteScheduler({ windowMs: 0 }), {
    waitingBytes: 1000,
    policy: "skip",
  });
  socket.block();
  const most = Math.floor(1000 / new Packet("other0000000000").bytes.length);
  for (let i = 0; i < most; i++) socket.other(i);
  assert.equal(socket.disconnected, false);
  socket.other(most);
  assert.equal(socket.disconnected, true);
});

Deno.test("Outlet tells a client that never reads of all that it skips in few words, however much it is", async () => {
  const socket = new TestSocket(new WriteScheduler({ windowMs: 0 }), {
    waitingBytes: 10_000,
    policy: "skip",
  });
  socket.missed = missedOf;
  socket.block();
  // What was written before and has not left counts, too.
  socket.heldBytes = 1_000_000;
  let seq = 0;
  for (let i = 0; i < 10_000; i++) {
    seq++;
    for (const target of ["g:1", "g:2"] as const) {
      // What is lost to it anyway does not make it more.
      socket.outlet.push(
        i % 1000 === 1
          ? new Missed(target, "e", seq, seq)
          : new Frame(target, "e", seq, `2["msg","${"x".repeat(100)}"]`),
      );
    }
    // Nor does what it is told beside.
    if (i % 1000 === 0) socket.aside(i);
  }
  await turn();
  assert.equal(socket.disconnected, false);
  const packets: string[] = [];
  socket.write = (batch) => packets.push(...batch.packets().map(({ text }) => text));
  socket.unblock();
  const told = packets.filter((text) => text.startsWith('2["missed"'))
    .map((text) => JSON.parse(text.slice(1))[1]);
  assert.equal(told.length, 2);
  const kept = packets.filter((text) => text.startsWith('2["msg"')).length;
  assert.equal(told[0].to + told[1].to + kept, 20_000);
});

Deno.test("Outlet counts what was written before and has not left, but half of the room is for what comes meanwhile", () => {
  const made = (heldBytes: number) => {
    const socket = new TestSocket(new WriteScheduler({ windowMs: 0 }), {
      waitingBytes: 10_000,
      policy: "disconnect",
    });
    socket.block();
    socket.heldBytes = heldBytes;
    let bytes = 0;
    for (; !socket.disconnected; bytes += 102) socket.outlet.push(frame("x".repeat(99)));
    return bytes;
  };
  assert.ok(Math.abs(made(0) - 10_000) < 205);
  assert.ok(Math.abs(made(3000) - 7000) < 205);
  assert.ok(Math.abs(made(1_000_000) - 5000) < 205);
});

Deno.test("Outlet is drained when what was pushed before has left, whatever is pushed after", async () => {
  using scheduler = new WriteScheduler({ windowMs: 0 });
  const socket = new TestSocket(scheduler);
  await socket.outlet.drained();
  socket.other(1);
  // Written at once, and the socket takes it.
  await socket.outlet.drained();
  assert.equal(socket.written.length, 1);
  socket.block();
  socket.other(2);
  let drained = 0;
  void socket.outlet.drained().then(() => drained++);
  socket.write = function (batch) {
    TestSocket.prototype.write.call(this, batch);
    this.writable = false;
  };
  await turn();
  assert.equal(drained, 0);
  // It is written now, and has not left.
  socket.unblock();
  await turn();
  assert.equal(socket.written.length, 2);
  assert.equal(drained, 0);
  socket.other(3);
  socket.unblock();
  await turn();
  assert.equal(drained, 1);
  void socket.outlet.drained().then(() => drained++);
  socket.outlet.close();
  await turn();
  assert.equal(drained, 2);
  await socket.outlet.drained();
});

Deno.test("Frame is a WebSocket text frame for every length that the form of the length depends on", () => {
  for (const length of [0, 1, 123, 124, 125, 126, 127, 65_533, 65_534, 65_535, 65_536, 200_000]) {
    const packet = "p".repeat(length);
    assert.deepEqual(decodeFrames(frame(packet).bytes), [`4${packet}`]);
  }
  fc.assert(fc.property(fc.string({ unit: "grapheme", maxLength: 200 }), (packet) => {
    assert.deepEqual(decodeFrames(frame(packet).bytes), [`4${packet}`]);
  }));
});

Deno.test("WriteScheduler writes the frames of a turn in one piece, which sockets that are due the same share", async () => {
  const scheduler = new WriteScheduler({ windowMs: 0 });
  const batches: Batch[] = [];
  const sockets = [1, 2, 3].map(() => new TestSocket(scheduler));
  for (const socket of sockets) socket.write = (batch) => void batches.push(batch);
  const [one, two, three] = [frame("1"), frame("2"), frame("3")];
  for (const each of [one, two, three]) for (const { outlet } of sockets) outlet.push(each);
  await turn();
  assert.equal(batches.length, 3);
  assert.equal(new Set(batches.map(({ joined }) => joined)).size, 1);
  assert.deepEqual(batches[0]?.packets(), [one, two, three]);
});

Deno.test("WriteScheduler writes at the end of the turn when it is quiet", async () => {
  const socket = new TestSocket(new WriteScheduler({ windowMs: 20 }));
  socket.outlet.push(frame("first"));
  socket.outlet.push(frame("second"));
  assert.equal(socket.writes, 0);
  await endOfTurn();
  assert.deepEqual(socket.frames, ["first", "second"]);
  assert.equal(socket.writes, 1);
});

Deno.test("WriteScheduler writes first to whoever has been due for longest", async () => {
  const pushes = fc.array(fc.nat({ max: 29 }), { maxLength: 100, size: "max" });
  await fc.assert(fc.asyncProperty(pushes, async (order) => {
    const scheduler = new WriteScheduler({ windowMs: 0 });
    const written: number[] = [];
    const sockets = Array.from({ length: 30 }, (_, at) => {
      const socket = new TestSocket(scheduler);
      const write = socket.write.bind(socket);
      socket.write = (batch) => {
        written.push(at);
        write(batch);
      };
      return socket;
    });
    for (const at of order) sockets[at]?.outlet.push(frame(`${at}`));
    for (let i = 0; i < 10; i++) await turn();
    assert.deepEqual(written, [...new Set(order)]);
  }));
});

Deno.test("WriteScheduler lets messages wait for others while its thread is busy, none longer than the window, and not when it is quiet, only waits for a core, or nothing else comes meanwhile", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setImmediate"] });
  try {
    const windowMs = 20;
    const rounds = { everyMs: 10, sockets: 100 };
    let now = 0;
    let ticked = 0;
    let usedMs = 0;
    let each = { writeMs: 0, usedMs: 0 };
    const scheduler = new WriteScheduler({ windowMs, now: () => now, usedMs: () => usedMs });
    const waits: number[] = [];
    const sockets = Array.from({ length: rounds.sockets }, () => {
      const socket = new TestSocket(scheduler);
      socket.write = (batch) => {
        socket.writes++;
        now += each.writeMs;
        usedMs += each.usedMs;
        for (const packet of batch.packets()) waits.push(now - Number(packet.text));
      };
      return socket;
    });
    /** What is due every 10 ms to all of them, or to each part in turn, for a second. */
    const send = async (write: typeof each, parts = 1) => {
      each = write;
      waits.length = 0;
      for (const socket of sockets) socket.writes = 0;
      const began = now;
      for (let sent = 0; now < began + 1000;) {
        for (; sent * rounds.everyMs <= now - began; sent++) {
          const one = frame(`${now}`);
          for (let at = sent % parts; at < sockets.length; at += parts) {
            sockets[at]?.outlet.push(one);
          }
        }
        await endOfTurn();
        now++;
        const passed = Math.floor(now) - ticked;
        ticked += passed;
        mock.timers.tick(passed);
      }
      const writes = sockets.reduce((sum, socket) => sum + socket.writes, 0);
      return { perWrite: waits.length / writes, longestMs: Math.max(...waits) };
    };
    const sendQuietly = async (write: typeof each, parts?: number) => {
      const { perWrite, longestMs } = await send(write, parts);
      assert.equal(perWrite, 1);
      assert.ok(longestMs < rounds.everyMs, `${longestMs} ms`);
    };
    await sendQuietly({ writeMs: 0.01, usedMs: 0.01 });
    await sendQuietly({ writeMs: 0.08, usedMs: 0.01 });
    const roundMs = rounds.sockets * 0.095;
    const busy = await send({ writeMs: 0.095, usedMs: 0.095 });
    assert.ok(busy.perWrite > 1.5, `${busy.perWrite} frames a write`);
    assert.ok(busy.longestMs < windowMs + 2 * roundMs, `${busy.longestMs} ms`);
    const [asking] = sockets;
    const before = asking?.writes ?? 0;
    asking?.outlet.push(new Packet(`${now}`));
    await endOfTurn();
    assert.equal(asking?.writes, before + 1, "an answer waits for nothing");
    await send({ writeMs: 0.01, usedMs: 0.01 });
    await send({ writeMs: 0.01, usedMs: 0.01 });
    await sendQuietly({ writeMs: 0.01, usedMs: 0.01 });
    // As busy, but nothing else comes for a socket while its message would wait.
    await sendQuietly({ writeMs: 0.75, usedMs: 0.75 }, 10);
    assert.ok((await send({ writeMs: 0.075, usedMs: 0.075 })).longestMs > rounds.everyMs);
  } finally {
    mock.timers.reset();
  }
});

Deno.test("WriteScheduler leaves no timer behind when messages still wait", async () => {
  let now = 0;
  const scheduler = new WriteScheduler({ windowMs: 10_000, now: () => now, usedMs: () => now });
  const socket = new TestSocket(scheduler);
  for (const text of ["quiet", "busy", "waits"]) {
    socket.outlet.push(frame(text));
    await endOfTurn();
    now += 300;
  }
  assert.equal(socket.writes, 2);
  scheduler[Symbol.dispose]();
});
