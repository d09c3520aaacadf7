import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import process from "node:process";
import { mock } from "node:test";
import fc from "fast-check";
import { FanOut, Outlet, type Sink, type SlowConsumer } from "./fanout.ts";
import { type Batch, Frame, Packet } from "./packets.ts";

const patient: SlowConsumer = { waitingBytes: Infinity, policy: "disconnect" };

/** Something that was put on a socket, or that its client was told it does not get. */
type Item =
  | { readonly kind: "frame" | "dropped"; readonly packet: string }
  | { readonly kind: "other"; readonly number: number };

/** A socket that writes down what is put on it. */
class TestSocket implements Sink {
  readonly outlet: Outlet;
  readonly written: Item[] = [];
  writes = 0;
  writable = true;
  disconnected = false;
  wasBlocked = false;
  #ready: (() => void)[] = [];
  readonly #told: string[] = [];

  constructor(fanOut: FanOut, slow: SlowConsumer = patient) {
    this.outlet = new Outlet(fanOut, this, slow);
  }

  cutOff(): void {
    this.disconnected = true;
  }

  dropped(frames: readonly Frame[]): void {
    const told = this.#told.push(...frames.map(({ text }) => text));
    this.outlet.push(new Packet(`dropped${told - frames.length} ${told}`));
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
    if (packet.startsWith("other")) return [{ kind: "other", number: Number(packet.slice(5)) }];
    const [, from, to] = /^dropped(\d+) (\d+)$/.exec(packet) ?? [];
    if (from === undefined) return [{ kind: "frame", packet }];
    return this.#told.slice(Number(from), Number(to)).map((packet) => ({
      kind: "dropped",
      packet,
    }));
  }

  other(number: number, bytes = 10): void {
    this.outlet.push(new Packet(`other${String(number).padStart(bytes, "0")}`));
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

type Step =
  | { readonly kind: "send"; readonly to: readonly number[]; readonly text: string }
  | { readonly kind: "other" | "block" | "unblock" | "close"; readonly at: number }
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

function steps(...kinds: ("other" | "block" | "unblock" | "close")[]): fc.Arbitrary<Step[]> {
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
  const fanOut = new FanOut({ windowMs: 0 });
  const sockets = Array.from({ length: socketCount }, () => new TestSocket(fanOut, slow));
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
      if (step.kind === "other") {
        socket.other(++others);
        expected[step.at]?.push({ kind: "other", number: others });
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

Deno.test("FanOut gives every socket exactly its frames, in order with everything else, whatever happens", async () => {
  await fc.assert(
    fc.asyncProperty(steps("other", "block", "unblock", "close"), async (script) => {
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
            socket.written.map((item) => item.kind === "other" ? undefined : item.packet),
            expected[i]?.map((item) => item.kind === "other" ? undefined : item.packet),
          );
          assert.equal(socket.disconnected, false);
          if (socket.written.some(({ kind }) => kind === "dropped")) assert.ok(socket.wasBlocked);
        });
      },
    ),
    { numRuns: 300 },
  );
});

Deno.test("Outlet that skips drops nothing but frames, and disconnects who has too much beside them", async () => {
  await fc.assert(
    fc.asyncProperty(
      steps("other", "block", "unblock"),
      fc.integer({ min: 50, max: 2000 }),
      async (script, waitingBytes) => {
        const { sockets, expected } = await play(script, { waitingBytes, policy: "skip" });
        const others = (items: readonly Item[] = []) =>
          items.filter(({ kind }) => kind === "other");
        const packets = (items: readonly Item[] = []) =>
          items.flatMap((item) => item.kind === "other" ? [] : [item.packet]);
        sockets.forEach((socket, i) => {
          if (socket.disconnected) return;
          assert.deepEqual(others(socket.written), others(expected[i]));
          assert.deepEqual(packets(socket.written), packets(expected[i]));
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
  const socket = new TestSocket(new FanOut({ windowMs: 0 }), {
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

Deno.test("Frame is a WebSocket text frame for every length that the form of the length depends on", () => {
  for (const length of [0, 1, 123, 124, 125, 126, 127, 65_533, 65_534, 65_535, 65_536, 200_000]) {
    const packet = "p".repeat(length);
    assert.deepEqual(decodeFrames(frame(packet).bytes), [`4${packet}`]);
  }
  fc.assert(fc.property(fc.string({ unit: "grapheme", maxLength: 200 }), (packet) => {
    assert.deepEqual(decodeFrames(frame(packet).bytes), [`4${packet}`]);
  }));
});

Deno.test("FanOut writes the frames of a turn in one piece, which sockets that are due the same share", async () => {
  const fanOut = new FanOut({ windowMs: 0 });
  const batches: Batch[] = [];
  const sockets = [1, 2, 3].map(() => new TestSocket(fanOut));
  for (const socket of sockets) socket.write = (batch) => void batches.push(batch);
  const [one, two, three] = [frame("1"), frame("2"), frame("3")];
  for (const each of [one, two, three]) for (const { outlet } of sockets) outlet.push(each);
  await turn();
  assert.equal(batches.length, 3);
  assert.equal(new Set(batches.map(({ joined }) => joined)).size, 1);
  assert.deepEqual(batches[0]?.packets(), [one, two, three]);
});

Deno.test("FanOut writes at the end of the turn when it is quiet", async () => {
  const socket = new TestSocket(new FanOut({ windowMs: 20 }));
  socket.outlet.push(frame("first"));
  socket.outlet.push(frame("second"));
  assert.equal(socket.writes, 0);
  await endOfTurn();
  assert.deepEqual(socket.frames, ["first", "second"]);
  assert.equal(socket.writes, 1);
});

Deno.test("FanOut writes first to whoever has been due for longest", async () => {
  const pushes = fc.array(fc.nat({ max: 29 }), { maxLength: 100, size: "max" });
  await fc.assert(fc.asyncProperty(pushes, async (order) => {
    const fanOut = new FanOut({ windowMs: 0 });
    const written: number[] = [];
    const sockets = Array.from({ length: 30 }, (_, at) => {
      const socket = new TestSocket(fanOut);
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

Deno.test("FanOut lets messages wait for others while its thread is busy, none longer than the window, and not when it is quiet or only waits for a core", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setImmediate"] });
  try {
    const windowMs = 20;
    const rounds = { everyMs: 10, sockets: 100 };
    let now = 0;
    let ticked = 0;
    let usedMs = 0;
    let each = { writeMs: 0, usedMs: 0 };
    const fanOut = new FanOut({ windowMs, now: () => now, usedMs: () => usedMs });
    const waits: number[] = [];
    const sockets = Array.from({ length: rounds.sockets }, () => {
      const socket = new TestSocket(fanOut);
      socket.write = (batch) => {
        socket.writes++;
        now += each.writeMs;
        usedMs += each.usedMs;
        for (const packet of batch.packets()) waits.push(now - Number(packet.text));
      };
      return socket;
    });
    /** What is due every 10 ms to all of them, for a second. */
    const send = async (write: typeof each) => {
      each = write;
      waits.length = 0;
      for (const socket of sockets) socket.writes = 0;
      const began = now;
      for (let sent = 0; now < began + 1000;) {
        for (; sent * rounds.everyMs <= now - began; sent++) {
          const one = frame(`${now}`);
          for (const { outlet } of sockets) outlet.push(one);
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
    const sendQuietly = async (write: typeof each) => {
      const { perWrite, longestMs } = await send(write);
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
  } finally {
    mock.timers.reset();
  }
});

Deno.test("FanOut leaves no timer behind when messages still wait", async () => {
  let now = 0;
  const fanOut = new FanOut({ windowMs: 10_000, now: () => now, usedMs: () => now });
  const socket = new TestSocket(fanOut);
  for (const text of ["quiet", "busy", "waits"]) {
    socket.outlet.push(frame(text));
    await endOfTurn();
    now += 300;
  }
  assert.equal(socket.writes, 2);
  fanOut[Symbol.dispose]();
});
