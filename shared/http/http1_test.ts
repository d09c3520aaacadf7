/**
 * Cases that only HTTP/1.1 has: invalid requests, methods that no `Request` can have, paths that would be rewritten.
 */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { serveHttp } from "./serve.ts";

const host = "127.0.0.1";

/** Resolves to everything that the server sent, when it closes the connection. */
function said(socket: Socket): Promise<string> {
  let text = "";
  socket.on("data", (data) => text += data);
  socket.on("error", () => {});
  return new Promise((resolve) => socket.on("close", () => resolve(text)));
}

Deno.test("a port of HTTP/1.1 answers 400 to an invalid request, and keeps serving", async () => {
  await using server = await serveHttp({ host, port: 0, handler: () => new Response("fine") });
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

Deno.test("a port of HTTP/1.1 accepts a missing Host in HTTP/1.0, as probes send it, and not in newer versions", async () => {
  const handler = (request: Request) => new Response(new URL(request.url).pathname);
  await using server = await serveHttp({ host, port: 0, handler });
  for (const [version, answered] of [["1.0", / 200 .*\/healthz/s], ["1.1", / 400 /]] as const) {
    const socket = connect({ host, port: server.port });
    const answer = said(socket);
    socket.write(`GET /healthz HTTP/${version}\r\n\r\n`);
    assert.match(await answer, answered, version);
  }
});

Deno.test("a port of HTTP/1.1 answers 405 to methods that no Request can have", async () => {
  await using server = await serveHttp({ host, port: 0, handler: () => new Response("fine") });
  for (const method of ["TRACE", "TRACK"]) {
    const socket = connect({ host, port: server.port });
    const answer = said(socket);
    socket.write(`${method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    // For some methods the server below answers itself.
    assert.match(await answer, /^HTTP\/1\.1 40[05] /, method);
  }
});

Deno.test("a port of HTTP/1.1 passes on requests that can be copied, also with chunked bodies", async () => {
  await using server = await serveHttp({
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

Deno.test("a port of HTTP/1.1 aborts the handler's signal when the client has gone", async () => {
  const aborted = Promise.withResolvers<void>();
  const came = Promise.withResolvers<void>();
  await using server = await serveHttp({
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

Deno.test("a port of HTTP/1.1 cancels a stream when its reader has gone", async () => {
  const cancelled = Promise.withResolvers<void>();
  await using server = await serveHttp({
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

Deno.test("a port of HTTP/1.1 reads a query of 30 000 bytes", async () => {
  await using server = await serveHttp({
    host,
    port: 0,
    handler: ({ url }) => new Response(`${url.length}`),
  });
  const path = `/?${"x".repeat(30_000)}`;
  const response = await fetch(server.origin + path);
  assert.equal(await response.text(), String(server.origin.length + path.length));
});

Deno.test("a port of HTTP/1.1 rejects paths that URL would rewrite", async () => {
  await using server = await serveHttp({
    host,
    port: 0,
    handler: ({ url }) => new Response(new URL(url).pathname),
  });
  const statusOf = async (path: string) => {
    const socket = connect({ host, port: server.port });
    const answer = said(socket);
    socket.write(`GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    return (await answer).split(" ")[1];
  };
  for (const dots of [".", "..", "%2e", "%2E%2e", ".%2E", "%2e."]) {
    for (const path of [`/groups/${dots}/users`, `/${dots}`, `/groups/${dots}?x=1`]) {
      assert.equal(await statusOf(path), "400", path);
    }
  }
  for (const path of ["/groups/.../users", "/a.b/.c/d..", "/x?y=/../z", "/groups/a%2F..%2Fb"]) {
    assert.equal(await statusOf(path), "200", path);
  }
});
