import assert from "node:assert/strict";
import fc from "fast-check";
import { WebSocket } from "ws";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { disconnects } from "../disconnects.ts";
import { tcpOf } from "./engine_io.ts";
import { RawClient } from "../load/raw_client.ts";
import { frames, PollingClient, serveSockets } from "./testing.ts";

function settled(promise: Promise<void>): () => boolean {
  let done = false;
  void promise.then(() => done = true);
  return () => done;
}

slowTest(
  "SocketConnection is drained when a client that stopped reading goes on, or is gone",
  async () => {
    await using server = await serveSockets();
    let packets = 0;
    const client = await RawClient.connect({
      ...{ host: "127.0.0.1", port: server.port },
      onPacket: () => packets++,
    });
    const { connection } = await server.next();
    await connection.drained();
    client.pause();
    // More than the kernels on both sides take.
    for (const frame of frames(200, 100_000)) connection.send(frame);
    const drained = settled(connection.drained());
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(drained(), false);
    client.resume();
    await waitFor(drained);
    await waitFor(() => packets === 200);
    client.pause();
    for (const frame of frames(200, 100_000)) connection.send(frame);
    const ended = settled(connection.drained());
    client.close();
    await waitFor(ended);
  },
);

for (const engine of [3, 4] as const) {
  Deno.test(`SocketConnection sends a batch in one poll, and is drained by the next (Engine.IO ${engine})`, async () => {
    await using server = await serveSockets();
    const client = await PollingClient.open(`http://127.0.0.1:${server.port}`, engine);
    if (engine === 4) await client.post("40");
    const { connection } = await server.next();
    await client.pollUntil("40");
    const sent = frames(300, 10_000);
    for (const frame of sent) connection.send(frame);
    const drained = settled(connection.drained());
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(drained(), false);
    assert.deepEqual(await client.poll(), sent.map(({ text }) => `4${text}`));
    // The next poll says that the one before has come.
    const next = client.poll();
    await waitFor(drained);
    connection.send(...frames(1, 10) as [typeof sent[0]]);
    assert.equal((await next).length, 1);
    connection.close(disconnects.leaving);
  });
}

Deno.test("SocketConnection lets less wait for a client before it has authenticated", async () => {
  const slow = { waitingBytes: 4_000_000, policy: "disconnect" } as const;
  for (const userId of [undefined, "1"]) {
    await using server = await serveSockets({ slow, userId });
    const client = await PollingClient.open(`http://127.0.0.1:${server.port}`);
    await client.post("40");
    const { connection, ended } = await server.next();
    await client.pollUntil("40");
    for (const frame of frames(20, 10_000)) connection.send(frame);
    if (userId === undefined) {
      await ended;
      await assert.rejects(client.poll(), /Session ID unknown/);
    } else {
      assert.equal((await client.poll()).length, 20);
      connection.close(disconnects.leaving);
    }
  }
});

Deno.test("SocketConnection does not cut off a polling client for a large batch that it is about to read", async () => {
  const slow = { waitingBytes: 10_000_000, policy: "disconnect" } as const;
  await using server = await serveSockets({ slow });
  const client = await PollingClient.open(`http://127.0.0.1:${server.port}`);
  await client.post("40");
  const { connection } = await server.next();
  await client.pollUntil("40");
  // Nine tenths of what may wait, and while that is on its way nearly half of it again.
  const [large, more] = [frames(90, 100_000), frames(40, 100_000)];
  for (const frame of large) connection.send(frame);
  const poll = client.poll();
  await waitFor(() => connection.heldBytes > 0 || connection.writable);
  for (const frame of more) connection.send(frame);
  assert.equal((await poll).length, large.length);
  const rest: string[] = [];
  while (rest.length < more.length) rest.push(...await client.poll());
  assert.equal(rest.length, more.length);
  connection.close(disconnects.leaving);
});

Deno.test("SocketConnection writes nothing to a poll while the answer to the one before is unread", async () => {
  const slow = { waitingBytes: 100_000_000, policy: "disconnect" } as const;
  await using server = await serveSockets({ slow });
  const client = await PollingClient.open(`http://127.0.0.1:${server.port}`);
  await client.post("40");
  const { connection, ended } = await server.next();
  await client.pollUntil("40");
  for (const frame of frames(200, 100_000)) connection.send(frame);
  const get = new TextEncoder().encode(
    `GET /socket.io/?EIO=4&transport=polling&sid=${client.sid} HTTP/1.1\r\nHost: x\r\n\r\n`,
  );
  // It never reads.
  using reader = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await reader.write(get);
  await waitFor(() => connection.heldBytes > 0);
  for (const frame of frames(200, 100_000)) connection.send(frame);
  await reader.write(get);
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(connection.writable, false);
  assert.ok(connection.heldBytes < 30_000_000, `${connection.heldBytes} bytes are held`);
  // Nor does any honest client let two polls wait.
  using other = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await other.write(get);
  using third = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  await third.write(get);
  await ended;
});

slowTest("SocketConnection leaves no unread answer of a poll behind when it ends", async () => {
  await using server = await serveSockets();
  const client = await PollingClient.open(`http://127.0.0.1:${server.port}`);
  await client.post("40");
  const { connection, ended } = await server.next();
  await client.pollUntil("40");
  const sent = frames(300, 100_000);
  for (const frame of sent) connection.send(frame);
  using reader = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
  const query = `EIO=4&transport=polling&sid=${client.sid}`;
  const get = `GET /socket.io/?${query} HTTP/1.1\r\nHost: x\r\n\r\n`;
  await reader.write(new TextEncoder().encode(get));
  await waitFor(() => connection.heldBytes > 0);
  connection.close(disconnects.slowConsumer);
  await ended;
  await waitFor(() => connection.heldBytes === 0);
  // What the kernels had taken still comes, and then the end.
  let bytes = 0;
  const buffer = new Uint8Array(1_000_000);
  for (let read: number | null = 0; read !== null; bytes += read ?? 0) {
    read = await reader.read(buffer).catch(() => null);
  }
  assert.ok(bytes < 30_000_000, `${bytes} bytes`);
});

/** What a client on its way from polling to a WebSocket does, and what is sent to it meanwhile, in any order. */
type Step = { readonly send: number } | { readonly turn: "turn" | "pause" };

const steps = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.integer({ min: 1, max: 5 }).map((send): Step => ({ send })) },
    fc.constantFrom<Step>({ turn: "turn" }, { turn: "pause" }),
  ),
  { maxLength: 12 },
);

for (const engine of [3, 4] as const) {
  slowTest(
    `SocketConnection keeps the order while a client upgrades, whenever what is sent (Engine.IO ${engine})`,
    async () => {
      await fc.assert(
        fc.asyncProperty(steps, steps, steps, async (before, between, after) => {
          await using server = await serveSockets();
          const client = await PollingClient.open(`http://127.0.0.1:${server.port}`, engine);
          const { connection } = await server.next();
          if (engine === 4) await client.post("40");
          await client.pollUntil("40");
          let sent = 0;
          const play = async (steps: readonly Step[]) => {
            for (const step of steps) {
              if ("turn" in step) {
                await new Promise((resolve) =>
                  step.turn === "turn" ? setImmediate(resolve) : setTimeout(resolve, 1)
                );
                continue;
              }
              for (let i = 0; i < step.send; i++) connection.emit("n", { n: ++sent });
            }
          };
          const got: string[] = [];
          const query = `EIO=${engine}&transport=websocket&sid=${client.sid}`;
          const socket = new WebSocket(`ws://127.0.0.1:${server.port}/socket.io/?${query}`);
          const probed = Promise.withResolvers<void>();
          const overSocket: string[] = [];
          socket.on("message", (data: unknown) => {
            if (String(data) === "3probe") probed.resolve();
            else overSocket.push(String(data));
          });
          socket.on("open", () => socket.send("2probe"));
          // Like a stock client it polls until its last poll is answered, and only then says that it upgrades.
          let paused = false;
          const polling = (async () => {
            while (!paused) got.push(...await client.poll());
          })();
          const playing = play(before);
          await probed.promise;
          await playing;
          paused = true;
          const meanwhile = play(between);
          await polling;
          await meanwhile;
          connection.emit("n", { n: ++sent });
          socket.send("5");
          await play(after);
          connection.emit("n", { n: ++sent });
          const numbers = () =>
            [...got, ...overSocket].flatMap((packet) => /"n":(\d+)/.exec(packet)?.[1] ?? [])
              .map(Number);
          await waitFor(() => numbers().length >= sent);
          socket.terminate();
          assert.deepEqual(numbers(), Array.from({ length: sent }, (_, i) => i + 1));
        }),
        { numRuns: 40 },
      );
    },
  );
}

slowTest(
  "SocketConnection reads nothing more of a client that has broken the protocol, however much it sends",
  async () => {
    await using sockets = await serveSockets();
    const { port } = sockets;
    const client = await RawClient.connect({ host: "127.0.0.1", port, onPacket: () => {} });
    const { conn, ended } = await sockets.next();
    const tcp = tcpOf(conn);
    const storm = new Uint8Array(80_000).map((_, i) =>
      [0x81, 0x82, 0, 0, 0, 0, 52, 48][i % 8] ?? 0
    );
    for (let i = 0; i < 200; i++) {
      client.sendRaw(storm);
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await Promise.all([ended, client.closed]);
    assert.ok(tcp !== undefined && tcp.bytesRead < 2_000_000, `read ${tcp?.bytesRead} bytes`);
  },
);
