import assert from "node:assert/strict";
import { once } from "node:events";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { pingRides } from "./heartbeat.ts";
import { Frame } from "../packets.ts";
import { RawClient } from "../load/raw_client.ts";
import { serveSockets } from "./testing.ts";

/** A server whose pings come from a heartbeat, and one client on it. */
async function connected(intervalMs = 150) {
  await using stack = new AsyncDisposableStack();
  let pings = 0;
  const ping = (socket: object) => {
    pings++;
    (socket as { sendPacket(type: "ping"): void }).sendPacket("ping");
  };
  const server = stack.use(await serveSockets({ pingMs: intervalMs, ping }));
  const packets: string[] = [];
  const client = await RawClient.connect({
    ...{ host: "127.0.0.1", port: server.port },
    onPacket: (packet) => packets.push(packet.toString()),
  });
  stack.defer(async () => {
    client.close();
    await client.closed;
  });
  const { connection, conn } = await server.next();
  const opened = stack.move();
  return {
    ...{ client, packets, connection, conn },
    pings: () => pings,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

slowTest("Heartbeat pings again and again whoever answers", async () => {
  await using open = await connected();
  for (let i = 0; i < 4; i++) await once(open.conn, "heartbeat");
  assert.equal(open.conn.readyState, "open");
});

slowTest("Heartbeat lets Engine.IO close who does not answer", async () => {
  await using open = await connected();
  open.client.pause();
  const [reason] = await once(open.conn, "close");
  assert.equal(reason, "ping timeout");
});

slowTest("Heartbeat pings no more often a client that answers unasked", async () => {
  await using open = await connected();
  const before = open.pings();
  const flood = setInterval(() => {
    for (let i = 0; i < 100; i++) open.client.sendEngine("3");
  }, 10);
  await new Promise((resolve) => setTimeout(resolve, 700));
  clearInterval(flood);
  // It has just been heard of, always.
  assert.equal(open.pings() - before, 0);
  await once(open.conn, "heartbeat");
});

slowTest(
  "Heartbeat lets a ping go along with a message shortly before its turn, and it is answered",
  async () => {
    await using open = await connected(1000);
    const { connection } = open;
    const sent: string[] = [];
    const sending = setInterval(() => {
      const text = `2["msg",${sent.length + 1}]`;
      connection.send(new Frame("g:1", "e", sent.push(text), text));
    }, 20);
    // Where this machine stops for a while it may miss the moment.
    for (let alone = -1; alone !== open.pings();) {
      alone = open.pings();
      await once(open.conn, "heartbeat");
    }
    clearInterval(sending);
    await waitFor(() => open.packets.length === sent.length);
    assert.deepEqual(open.packets, sent);
  },
);

slowTest("Heartbeat lets a ping go along once, and closes who does not answer it", async () => {
  await using open = await connected(1000);
  const { conn } = open;
  assert.equal(pingRides(conn), false);
  await waitFor(() => pingRides(conn));
  assert.equal(pingRides(conn), false);
  // It was never written.
  const [reason] = await once(open.conn, "close");
  assert.equal(reason, "ping timeout");
});
