import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { Server, type Socket } from "socket.io";
import { Heartbeat } from "./heartbeat.ts";
import { RawClient } from "./raw_client.ts";

/** A socket.io server whose pings come from a heartbeat, and one client on it. */
async function connected() {
  const intervalMs = 150;
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
  const client = await RawClient.connect({ host: "127.0.0.1", port, onPacket: () => {} });
  stack.defer(async () => {
    client.close();
    await client.closed;
  });
  const socket = await joined.promise;
  const opened = stack.move();
  return { client, socket, pings: () => pings, [Symbol.asyncDispose]: () => opened.disposeAsync() };
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
