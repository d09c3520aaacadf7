/**
 * What spear takes for granted of the private parts of Engine.IO, ws and Deno's node:http, one test for each part.
 * When a new version of a package breaks one, its title says what `engine_io.ts`, `heartbeat.ts` or `memory.ts` has to
 * learn anew.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { EventEmitter, once } from "node:events";
import { createServer, type IncomingMessage } from "node:http";
import { type AddressInfo, connect, Socket as TcpSocket } from "node:net";
import type { Duplex } from "node:stream";
import { Server as EngineServer, Socket as EngineIoSocket } from "engine.io";
import { WebSocket } from "ws";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { endPolling, type EngineSocket, LeanWebSocketServer } from "./engine_io.ts";
import { PollingClient } from "./testing.ts";

// deno-lint-ignore no-explicit-any -- private parts have no types
type Any = any;

/** Engine.IO as it is. */
async function engineServer(options: object = {}) {
  const engine = new EngineServer({
    ...{ allowEIO3: true, wsEngine: LeanWebSocketServer },
    ...options,
  });
  const http = createServer((request, response) => engine.handleRequest(request as Any, response));
  let onUpgrading = (_socket: Duplex) => () => {};
  http.on("upgrade", (request, socket, head) => {
    const onUpgraded = onUpgrading(socket);
    engine.handleUpgrade(request as Any, socket, head);
    onUpgraded();
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const { port } = http.address() as AddressInfo;
  return {
    engine,
    address: `http://127.0.0.1:${port}`,
    next: async () => (await once(engine, "connection"))[0] as EngineSocket,
    upgrading: (listener: typeof onUpgrading) => onUpgrading = listener,
    [Symbol.asyncDispose]: async () => {
      for (const conn of Object.values((engine as Any).clients) as EngineSocket[]) {
        conn.close(true);
        endPolling(conn);
      }
      const closed = once(http, "close");
      http.close();
      http.closeAllConnections();
      await closed;
    },
  };
}

/** A connection on each side, over a WebSocket. */
async function overWebSocket(options: object = {}, version = 4) {
  const server = await engineServer(options);
  const coming = server.next();
  const url = `${server.address.replace("http", "ws")}/socket.io/?EIO=${version}`;
  const client = new WebSocket(`${url}&transport=websocket`);
  const packets: string[] = [];
  client.on("message", (data: unknown) => packets.push(String(data)));
  const conn = await coming;
  await once(client, "open");
  await waitFor(() => conn.transport.writable && packets.length > 0);
  return {
    ...{ server, client, conn, packets, any: conn as Any },
    [Symbol.asyncDispose]: async () => {
      client.terminate();
      await once(client, "close");
      await server[Symbol.asyncDispose]();
    },
  };
}

async function overPolling(options: object = {}, version: 3 | 4 = 4) {
  const server = await engineServer(options);
  const coming = server.next();
  const client = await PollingClient.open(server.address, version);
  const conn = await coming;
  return {
    ...{ server, client, conn, any: conn as Any },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

Deno.test("Engine.IO: `writeBuffer` holds packets while `transport.writable` is false, with their `data` and `options`", async () => {
  await using open = await overPolling();
  const { conn, client } = open;
  assert.equal(conn.transport.writable, false);
  conn.write("a", { compress: false });
  const frame = [Buffer.from("x")];
  conn.write("", { compress: false, wsPreEncodedFrame: frame });
  assert.deepEqual(conn.writeBuffer.map(({ type, data }) => [type, data]), [
    ["message", "a"],
    ["message", undefined],
  ]);
  assert.equal(conn.writeBuffer[1]?.options?.wsPreEncodedFrame, frame);
  assert.deepEqual(await client.poll(), ["4a", "4"]);
  assert.equal(conn.writeBuffer.length, 0);
});

for (const version of [3, 4] as const) {
  Deno.test(`Engine.IO ${version}: \`transport.send\` of polling answers a poll with all packets at once, without compression`, async () => {
    await using open = await overPolling({}, version);
    const poll = open.client.poll();
    await waitFor(() => open.conn.transport.writable);
    const packets = ["x".repeat(5000), "ж", ""].map((data) => ({ type: "message", data }));
    open.conn.transport.send(packets);
    assert.equal(open.conn.transport.writable, false);
    assert.deepEqual(await poll, packets.map(({ data }) => `4${data}`));
  });
}

Deno.test("Engine.IO: `transport` emits `ready` when it is writable again", async () => {
  await using open = await overPolling();
  const ready = once(open.conn.transport, "ready");
  const poll = open.client.poll();
  await ready;
  assert.equal(open.conn.transport.writable, true);
  open.conn.write("x", { compress: false });
  await poll;
});

Deno.test("Engine.IO: `packet` is emitted for what it ignores, too, and before it acts", async () => {
  await using open = await overPolling({}, 3);
  const seen: unknown[] = [];
  open.conn.on("packet", ({ type, data }) => seen.push([type, data, open.conn.writeBuffer.length]));
  await open.client.post("2", "4x", "bAAAA", "5", "6");
  assert.deepEqual(seen[0], ["ping", undefined, 0]);
  assert.deepEqual(seen[1], ["message", "x", 1]);
  assert.deepEqual(seen.slice(3).map((packet) => (packet as unknown[])[0]), ["upgrade", "noop"]);
  assert.equal((seen[2] as unknown[])[0], undefined);
});

Deno.test("Engine.IO: `upgrade` is emitted before what waits in `writeBuffer` is sent", async () => {
  await using open = await overPolling();
  const { conn, client, server } = open;
  conn.write("first", { compress: false });
  let [waiting, writable] = [0, false];
  conn.on("upgrade", () => {
    waiting = conn.writeBuffer.length;
    writable = conn.transport.writable && conn.transport.name === "websocket";
  });
  const url = server.address.replace("http", "ws");
  const socket = new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket&sid=${client.sid}`);
  await once(socket, "open");
  socket.send("2probe");
  const [probed] = await once(socket, "message");
  assert.equal(String(probed), "3probe");
  socket.send("5");
  const [first] = await once(socket, "message");
  assert.equal(String(first), "4first");
  assert.deepEqual([waiting, writable], [1, true]);
  socket.terminate();
  await once(socket, "close");
});

Deno.test("Engine.IO 3: a client's ping is answered through `sendPacket`", async () => {
  await using open = await overPolling({}, 3);
  const types: unknown[] = [];
  open.any.sendPacket = (type: unknown) => types.push(type);
  await open.client.post("2", "2");
  assert.deepEqual(types, ["pong", "pong"]);
});

Deno.test("Engine.IO: `wsPreEncodedFrame` is written as it is, through `transport.socket._socket`, a TCP socket", async () => {
  await using open = await overWebSocket();
  const { conn, packets } = open;
  const tcp = conn.transport.socket?._socket;
  assert.ok(tcp instanceof TcpSocket);
  const two = Buffer.from([0x81, 2, 0x34, 0x61, 0x81, 2, 0x34, 0x62]);
  conn.write("", { compress: false, wsPreEncodedFrame: [two] });
  await waitFor(() => packets.includes("4b"));
  // ws holds nothing back, so that it may be written to beside it.
  tcp.write(two);
  await waitFor(() => packets.length === 5);
  assert.deepEqual(packets.slice(1), ["4a", "4b", "4a", "4b"]);
});

Deno.test("Node: `writableLength` of a TCP socket counts what its client does not read, and `drain` says that it has", async () => {
  await using open = await overWebSocket();
  const tcp = open.conn.transport.socket?._socket;
  assert.ok(tcp);
  open.client.pause();
  const chunk = Buffer.concat([
    Buffer.from([0x82, 127, 0, 0, 0, 0, 1, 0, 0, 0]),
    Buffer.alloc(2 ** 24),
  ]);
  assert.equal(tcp.write(chunk), false);
  assert.ok(tcp.writableLength > 0);
  const drained = once(tcp, "drain");
  open.client.resume();
  await drained;
  assert.equal(tcp.writableLength, 0);
});

Deno.test("Engine.IO: `pingIntervalTimer` and `pingTimeoutTimer` are refreshed when a client is heard, the second is null between pings", async () => {
  await using open = await overWebSocket({ pingInterval: 60_000 });
  const { any, client } = open;
  assert.equal(any.pingTimeoutTimer, null);
  assert.equal(any.hasRefreshedPingTimeout, false);
  assert.equal(typeof any.onClose, "function");
  clearTimeout(any.pingIntervalTimer);
  const refreshed: string[] = [];
  any.pingIntervalTimer = { refresh: () => refreshed.push("interval") };
  any.pingTimeoutTimer = { refresh: () => refreshed.push("timeout") };
  client.send("4x");
  client.send("3");
  await waitFor(() => refreshed.length === 2);
  assert.deepEqual(refreshed, ["timeout", "interval"]);
  assert.equal(any.pingTimeoutTimer, null);
});

Deno.test("Engine.IO: polling that is closed waits for `closeTimeout`, and `shouldClose` ends that", async () => {
  await using open = await overPolling();
  const { conn, any } = open;
  assert.equal(typeof any.transport.closeTimeout, "number");
  conn.close(false);
  assert.equal(conn.readyState, "closing");
  assert.equal(typeof any.transport.shouldClose, "function");
  endPolling(conn);
  assert.equal(conn.readyState, "closed");
});

Deno.test("Engine.IO: `clients` finds a connection by its sid, and `allowRequest` is asked in handshakes only, `sid=` among them", async () => {
  const asked: (string | undefined)[] = [];
  const allowRequest = ({ url }: IncomingMessage, answer: (error: null, ok: boolean) => void) => {
    asked.push(url);
    answer(null, true);
  };
  await using open = await overPolling({ allowRequest });
  assert.equal((open.server.engine as Any).clients[open.client.sid], open.conn);
  await open.client.post("4x");
  assert.equal(asked.length, 1);
  await PollingClient.open(open.server.address, 4, "&sid=");
  assert.equal(asked.length, 2);
});

for (const cors of [false, { origin: true }]) {
  Deno.test(
    `Engine.IO: the first listener for \`close\` of an upgrade's TCP socket is that of its response (${
      cors === false ? "without" : "with"
    } middleware)`,
    async () => {
      await using server = await engineServer({ cors });
      const first = new Promise<string>((resolve) =>
        server.upgrading((socket) => {
          const before = socket.listenerCount("close");
          return () => resolve(String(socket.listeners("close")[before]));
        })
      );
      const url = server.address.replace("http", "ws");
      const client = new WebSocket(`${url}/socket.io/?EIO=4&transport=websocket`);
      assert.match(await first, /this\.emit\("close"\)/);
      await once(client, "open");
      client.terminate();
      await once(client, "close");
    },
  );
}

Deno.test("Engine.IO: `_query` of a request is taken where it is set", () => {
  const request = { url: "/socket.io/?transport=polling", _query: { transport: "websocket" } };
  (new EngineServer() as Any).prepare(request);
  assert.deepEqual(request._query, { transport: "websocket" });
});

Deno.test("Engine.IO: its timer for a ping is started by `schedulePing`, and only there in protocol 4", async () => {
  const { schedulePing } = EngineIoSocket.prototype as Any;
  (EngineIoSocket.prototype as Any).schedulePing = () => {};
  try {
    await using open = await overWebSocket();
    assert.equal(open.any.pingIntervalTimer, null);
    assert.equal(open.any.pingTimeoutTimer, null);
  } finally {
    (EngineIoSocket.prototype as Any).schedulePing = schedulePing;
  }
});

Deno.test("Engine.IO and Node: what `memory.ts` throws away is where it was", async () => {
  await using open = await overWebSocket();
  const { any } = open;
  const { socket } = any.transport;
  assert.ok(any.request instanceof EventEmitter, "request");
  assert.ok(Array.isArray(any.cleanupFn), "cleanupFn");
  assert.ok(any.transport.listenerCount("headers") > 0, "listeners for headers");
  assert.equal(socket.listeners("error")[0]?.name, "onUpgradeError");
  assert.ok(socket._receiver instanceof EventEmitter, "_receiver");
  assert.equal(typeof socket.remoteAddress, "undefined");
  for (const emitter of [any, any.transport, socket, socket._receiver, socket._socket]) {
    assert.equal(typeof emitter._events, "object", "_events");
  }
  // Read from it again when it is asked for.
  socket._socket._peername = undefined;
  assert.equal(socket._socket.remoteAddress, "127.0.0.1");
});

Deno.test("ws: the bytes of a message stay reachable by `_receiver._mask`, which is free to go", async () => {
  await using open = await overWebSocket();
  const { socket } = open.any.transport;
  let mask: unknown;
  const { emit } = socket;
  socket.emit = function (event: string, ...rest: unknown[]) {
    if (event === "message") mask = this._receiver._mask;
    return emit.call(this, event, ...rest);
  };
  open.client.send("4x");
  await once(open.conn, "packet");
  assert.ok(mask instanceof Uint8Array);
  assert.equal(socket._receiver._mask, undefined);
});

Deno.test("ws: of the pings that come before a pong has left only the last is answered", async () => {
  await using open = await overWebSocket();
  const pongs: string[] = [];
  open.client.on("pong", (data: Uint8Array) => pongs.push(data.toString()));
  const tcp = (open.client as Any)._socket as TcpSocket;
  tcp.cork();
  for (let i = 1; i <= 1000; i++) open.client.ping(String(i));
  tcp.uncork();
  await waitFor(() => pongs.includes("1000"));
  assert.ok(pongs.length < 20, `${pongs.length} pongs`);
  open.client.ping("again");
  await waitFor(() => pongs.includes("again"));
});

slowTest("ws: `closeTimeout` bounds the wait for the answer to a close", async () => {
  await using server = await engineServer();
  const coming = server.next();
  const { hostname, port } = new URL(server.address);
  const client = connect({ host: hostname, port: Number(port) });
  client.write(
    "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n" +
      "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n",
  );
  client.on("error", () => {});
  client.resume();
  const conn = await coming;
  conn.close(false);
  // Half a minute by itself.
  await once(client, "close");
});

Deno.test("Node: a response to a client that does not read is not `finish`ed, counts in `writableLength`, and is closed after it", async () => {
  const answered = Promise.withResolvers<import("node:http").ServerResponse>();
  const http = createServer((_request, response) => {
    response.end(Buffer.alloc(2 ** 24));
    answered.resolve(response);
  });
  http.listen(0, "127.0.0.1");
  await once(http, "listening");
  const client = connect({ host: "127.0.0.1", port: (http.address() as AddressInfo).port });
  client.pause();
  client.write("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const response = await answered.promise;
  assert.equal(response.writableEnded, true);
  assert.equal(response.writableFinished, false);
  assert.ok(response.writableLength > 0);
  const closed = once(response, "close");
  client.resume();
  await closed;
  http.close();
  await once(http, "close");
});

Deno.test("Engine.IO: `sendPacket` is a method of the prototype, `upgrading` is false, `transport.name` names the transport", async () => {
  await using open = await overPolling({}, 3);
  assert.equal(typeof Object.getPrototypeOf(open.conn).sendPacket, "function");
  assert.equal(open.conn.upgrading, false);
  assert.equal(open.conn.transport.name, "polling");
});

Deno.test("ws: `_receiver._loop` is true while what has come is parsed, and parsing ends when it is set to false", async () => {
  await using open = await overWebSocket();
  const { socket } = open.any.transport;
  let seen = 0;
  let looping: unknown;
  let parsed = 0;
  const { emit } = socket;
  socket.emit = function (event: string, ...rest: unknown[]) {
    if (event === "message" && ++seen === 1) {
      looping = this._receiver._loop;
      this._receiver._loop = false;
      queueMicrotask(() => parsed = seen);
    }
    return emit.call(this, event, ...rest);
  };
  const tcp = (open.client as Any)._socket as TcpSocket;
  tcp.cork();
  for (let i = 0; i < 100; i++) open.client.send("4x");
  tcp.uncork();
  await waitFor(() => parsed > 0);
  assert.deepEqual([looping, parsed], [true, 1]);
});
