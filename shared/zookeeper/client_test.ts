/**
 * What `session.ts` takes for granted of the private parts of node-zookeeper-client, one test for each. When a new
 * version changes one, the test's title names it.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { type AddressInfo, createServer, Socket } from "node:net";
import { waitFor } from "../testing/harness.ts";
// @ts-types="./client.d.ts"
import zookeeper, { type Client } from "node-zookeeper-client";

function newClient(): Client {
  return zookeeper.createClient("unused", { sessionTimeout: 6000, retries: 0 });
}

Deno.test("node-zookeeper-client: `connectionManager` has the members that a session reads and replaces", () => {
  const { connectionManager } = newClient();
  assert.equal(connectionManager.state, 0, "state, disconnected");
  assert.deepEqual(connectionManager.servers.map(({ host }) => host), ["unused"], "servers");
  assert.equal(connectionManager.pendingBuffer, null, "pendingBuffer");
  assert.equal(connectionManager.connectTimeoutHandler, null, "connectTimeoutHandler");
  assert.ok(Buffer.isBuffer(connectionManager.zxid), "zxid");
  assert.equal(connectionManager.zxid.length, 8, "zxid");
  assert.equal(typeof connectionManager.packetQueue.shift, "function", "packetQueue.shift");
  for (const name of ["findNextServer", "onSocketConnected", "onSocketData", "queue"] as const) {
    assert.equal(typeof connectionManager[name], "function", name);
  }
});

Deno.test("node-zookeeper-client: `packetQueue.shift` returns what was queued while disconnected, with its `callback`", () => {
  const { connectionManager } = newClient();
  const toBuffer = () => Buffer.alloc(0);
  const callback = () => {};
  connectionManager.state = 1;
  connectionManager.queue({ header: { type: 2, xid: 0 }, payload: null, toBuffer }, callback);
  assert.equal(connectionManager.packetQueue.shift()?.callback, callback);
  assert.equal(connectionManager.packetQueue.shift(), undefined);
});

Deno.test("node-zookeeper-client: a connection is made by `findNextServer`, `onSocketConnected` and `onSocketData` of the instance, on `socket`", async () => {
  const received: Buffer[] = [];
  const server = createServer((socket) => {
    socket.on("data", (chunk: Buffer) => {
      received.push(chunk);
      socket.write("answer");
    });
    socket.on("error", () => {});
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;

  const client = newClient();
  const { connectionManager } = client;
  const { onSocketConnected } = connectionManager;
  const calls: string[] = [];
  const states: number[] = [];
  connectionManager.on("state", (state: number) => states.push(state));
  connectionManager.findNextServer = (use) => {
    if (!calls.includes("findNextServer")) use({ host: "127.0.0.1", port });
    calls.push("findNextServer");
  };
  connectionManager.onSocketConnected = () => {
    calls.push("onSocketConnected");
    assert.notEqual(connectionManager.connectTimeoutHandler, null, "connectTimeoutHandler");
    onSocketConnected.call(connectionManager);
  };
  connectionManager.onSocketData = (chunk) => {
    calls.push(`onSocketData ${chunk}`);
  };
  client.connect();
  await waitFor(() => calls.length === 3);
  assert.deepEqual(calls, ["findNextServer", "onSocketConnected", "onSocketData answer"]);
  // The handshake: a length, then that many bytes.
  const handshake = Buffer.concat(received);
  assert.equal(handshake.readInt32BE(0), handshake.length - 4);

  const { socket } = connectionManager;
  assert.ok(socket instanceof Socket, "socket");
  socket.destroy();
  // It says so, and asks for the next server by itself.
  await waitFor(() => calls.length === 4);
  assert.equal(calls[3], "findNextServer");
  assert.ok(states.includes(0), `disconnected among ${states}`);
  const closed = once(server, "close");
  server.close();
  await closed;
});

Deno.test("node-zookeeper-client: `Exception`, `CreateMode` and `ACL` name what a session uses", () => {
  const { Exception, CreateMode, ACL } = zookeeper;
  const codes = [Exception.CONNECTION_LOSS, Exception.SESSION_EXPIRED, Exception.NO_AUTH];
  assert.deepEqual(codes, [-4, -112, -102]);
  for (
    const name of ["AUTH_FAILED", "NO_NODE", "BAD_VERSION", "NODE_EXISTS", "NOT_EMPTY"] as const
  ) {
    const error = Exception.create(Exception[name]);
    assert.deepEqual([error.name, error.code], [name, Exception[name]]);
  }
  assert.deepEqual([CreateMode.PERSISTENT, CreateMode.EPHEMERAL], [0, 1]);
  assert.ok(ACL.OPEN_ACL_UNSAFE.length > 0);
  assert.ok(ACL.CREATOR_ALL_ACL.length > 0);
});
