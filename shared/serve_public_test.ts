import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { servePublic } from "./serve_public.ts";

const host = "127.0.0.1";

/** Resolves to what the server has said when it closes the connection. */
function said(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (data) => text += data);
  socket.on("error", () => {});
  return new Promise((resolve) => socket.on("close", () => resolve(text)));
}

Deno.test("servePublic tells who asks, how, and answers with a length", async () => {
  await using server = await servePublic({
    host,
    port: 0,
    handler: async (request, { remoteAddr }) =>
      new Response(`${request.method} ${remoteAddr.hostname} ${await request.text()}`),
  });
  const response = await fetch(server.origin, { method: "POST", body: "Ärger" });
  assert.equal(await response.text(), "POST 127.0.0.1 Ärger");
  assert.equal(response.headers.get("content-length"), "21");
});

for (
  const [what, request, drip] of [
    ["nothing", "", ""],
    ["headers that never end", "GET / HTTP/1.1\r\nHost: x\r\nX: ", "x"],
    ["a body that never ends", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n", "x"],
    [
      "a body that nobody reads",
      "POST /unread HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n",
      "x",
    ],
    [
      "chunks that never end",
      "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
      "1\r\nx\r\n",
    ],
    [
      "a second request that never ends",
      "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nX: ",
      "x",
    ],
  ] as const
) {
  Deno.test(`servePublic closes the connection of who sends ${what}`, async () => {
    await using server = await servePublic({
      host,
      port: 0,
      headersMs: 300,
      requestMs: 600,
      handler: async (request) =>
        new Response(request.url.endsWith("/unread") ? "ok" : await request.text()),
    });
    const socket = connect({ host, port: server.port });
    const dripping = setInterval(() => socket.write(drip), 50);
    try {
      socket.write(request);
      await said(socket);
      assert.equal(await (await fetch(server.origin)).text(), "");
    } finally {
      clearInterval(dripping);
      socket.destroy();
    }
  });
}

Deno.test("servePublic answers 400 to what is no request, and goes on", async () => {
  await using server = await servePublic({ host, port: 0, handler: () => new Response("fine") });
  for (
    const request of [
      "nonsense\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
      "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
      `GET /${"a".repeat(100_000)} HTTP/1.1\r\nHost: x\r\n\r\n`,
    ]
  ) {
    const socket = connect({ host, port: server.port });
    const answer = said(socket);
    socket.write(request);
    socket.end();
    assert.match(await answer, /^HTTP\/1\.1 4(00|14|31)|^$/, request.slice(0, 40));
  }
  assert.equal(await (await fetch(server.origin)).text(), "fine");
});

Deno.test("servePublic answers 405 to methods that no Request can have", async () => {
  await using server = await servePublic({ host, port: 0, handler: () => new Response("fine") });
  for (const method of ["TRACE", "TRACK"]) {
    const socket = connect({ host, port: server.port });
    const answer = said(socket);
    socket.write(`${method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    // Some are no method to the server below.
    assert.match(await answer, /^HTTP\/1\.1 40[05] /, method);
  }
});

Deno.test("servePublic gives requests that can be made into others, also of chunks", async () => {
  await using server = await servePublic({
    host,
    port: 0,
    handler: async (request) =>
      new Response(await new Request(request, { headers: { "x-y": "z" } }).text()),
  });
  const body = ReadableStream.from(["in ", "chunks"]).pipeThrough(new TextEncoderStream());
  const response = await fetch(server.origin, { method: "POST", body });
  assert.equal(await response.text(), "in chunks");
  assert.equal(await (await fetch(server.origin)).text(), "");
});

Deno.test("servePublic lets a handler know that nobody waits any more", async () => {
  const aborted = Promise.withResolvers<void>();
  const came = Promise.withResolvers<void>();
  await using server = await servePublic({
    host,
    port: 0,
    handler: async ({ signal }) => {
      signal.addEventListener("abort", () => aborted.resolve());
      came.resolve();
      await aborted.promise;
      return new Response();
    },
  });
  const leaving = new AbortController();
  const asked = fetch(server.origin, { signal: leaving.signal });
  await came.promise;
  leaving.abort();
  await assert.rejects(asked);
  await aborted.promise;
});

Deno.test("servePublic ends a stream whose reader has gone", async () => {
  const cancelled = Promise.withResolvers<void>();
  await using server = await servePublic({
    host,
    port: 0,
    handler: () =>
      new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(new TextEncoder().encode("first")),
          cancel: () => cancelled.resolve(),
        }),
      ),
  });
  const response = await fetch(server.origin);
  const reader = response.body?.getReader();
  assert.equal(new TextDecoder().decode((await reader?.read())?.value), "first");
  await reader?.cancel();
  await cancelled.promise;
});

Deno.test("servePublic reads a query of 30 000 bytes", async () => {
  await using server = await servePublic({
    host,
    port: 0,
    handler: ({ url }) => new Response(`${url.length}`),
  });
  const path = `/?${"x".repeat(30_000)}`;
  const response = await fetch(server.origin + path);
  assert.equal(await response.text(), String(server.origin.length + path.length));
});
