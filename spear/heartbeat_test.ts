import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Server, type Socket } from "socket.io";
import { waitFor } from "@gru/shared/testing";
import { SocketConnection } from "./connection.ts";
import { FanOut } from "./fanout.ts";
import { Heartbeat, pingRides } from "./heartbeat.ts";
import { Frame } from "./packets.ts";
import { RawClient } from "./raw_client.ts";

/** A socket.io server whose pings come from a heartbeat, and one client on it. */
async function connected(intervalMs = 150) {
  await using stack = new AsyncDisposableStack();
  const http = createServer();
  const io = new Server(http, { pingInterval: intervalMs, pingTimeout: 300 });
  stack.defer(() => io.close());
  let pings = 0;
  const ping = (socket: object) => {
    pings++;
    (socket as { sendPacket(type: "ping"): void }).sendPacket("ping");
  };
  const heartbeat = stack.use(new Heartbeat({ intervalMs, timeoutMs: 300, ping }));
  const joined = Promise.withResolvers<Socket>();
  io.on("connection", (socket) => {
    heartbeat.take(socket.conn);
    socket.on("disconnect", () => heartbeat.forget(socket.conn));
    joined.resolve(socket);
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const { port } = http.address() as AddressInfo;
  const packets: string[] = [];
  const client = await RawClient.connect({
    ...{ host: "127.0.0.1", port },
    onPacket: (packet) => packets.push(packet.toString()),
  });
  stack.defer(async () => {
    client.close();
    await client.closed;
  });
  const socket = await joined.promise;
  const opened = stack.move();
  return {
    ...{ client, packets, socket },
    pings: () => pings,
    [Symbol.asyncDispose]: () => opened.disposeAsync(),
  };
}

Deno.test("Heartbeat pings again and again whoever answers", async () => {
  await using open = await connected();
  for (let i = 0; i < 4; i++) await once(open.socket.conn, "heartbeat");
  assert.equal(open.socket.connected, true);
});

Deno.test("Heartbeat lets Engine.IO close who does not answer", async () => {
  await using open = await connected();
  open.client.pause();
  const [reason] = await once(open.socket, "disconnect");
  assert.equal(reason, "ping timeout");
});

Deno.test("Heartbeat goes on pinging a connection that has only left the namespace", async () => {
  await using open = await connected();
  open.client.send("1");
  await once(open.socket, "disconnect");
  for (let i = 0; i < 2; i++) await once(open.socket.conn, "heartbeat");
  open.client.pause();
  const [reason] = await once(open.socket.conn, "close");
  assert.equal(reason, "ping timeout");
});

Deno.test("Heartbeat pings no more often a connection that has come back to the namespace", async () => {
  await using open = await connected();
  open.client.send("1");
  await once(open.socket, "disconnect");
  open.client.send("0");
  await once(open.socket.nsp, "connection");
  const before = open.pings();
  for (let i = 0; i < 3; i++) await once(open.socket.conn, "heartbeat");
  // The first answer may be to a ping from before the counting.
  const pings = open.pings() - before;
  assert.ok(pings <= 3, `${pings} pings for 3 answers`);
});

Deno.test("Heartbeat lets a ping go along with a message shortly before its turn, and it is answered", async () => {
  await using open = await connected(1000);
  using fanOut = new FanOut({ windowMs: 0 });
  const slow = { waitingBytes: 1_000_000, policy: "disconnect" } as const;
  const connection = new SocketConnection(open.socket, { fanOut, slow });
  const sent: string[] = [];
  const sending = setInterval(() => {
    const text = `2["msg",${sent.length + 1}]`;
    connection.send(new Frame("g:1", "e", sent.push(text), text));
  }, 20);
  // Where this machine stops for a while it may miss the moment.
  for (let alone = -1; alone !== open.pings();) {
    alone = open.pings();
    await once(open.socket.conn, "heartbeat");
  }
  clearInterval(sending);
  await waitFor(() => open.packets.length === sent.length);
  assert.deepEqual(open.packets, sent);
});

Deno.test("Heartbeat lets a ping go along once, and closes who does not answer it", async () => {
  await using open = await connected(1000);
  const { conn } = open.socket;
  assert.equal(pingRides(conn), false);
  await waitFor(() => pingRides(conn));
  assert.equal(pingRides(conn), false);
  // It was never written.
  const [reason] = await once(open.socket, "disconnect");
  assert.equal(reason, "ping timeout");
});
