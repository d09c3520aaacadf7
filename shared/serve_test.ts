import assert from "node:assert/strict";
import { type HttpServer, serveHttp, type ServeOptions } from "./serve.ts";
import { servePublic } from "./serve_public.ts";
import { waitFor } from "./testing.ts";

const host = "127.0.0.1";

function h2Client() {
  const http = Deno.createHttpClient({ http1: false, http2: true });
  return { http, [Symbol.dispose]: () => http.close() };
}

async function refused(origin: string): Promise<boolean> {
  try {
    await (await fetch(origin)).body?.cancel();
    return false;
  } catch {
    return true;
  }
}

Deno.test("serveHttp speaks HTTP/1.1 and HTTP/2 with prior knowledge on one port", async () => {
  await using server = serveHttp({ host, port: 0, handler: () => new Response("hello") });
  using h2 = h2Client();
  assert.match(server.origin, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.equal(await (await fetch(server.origin)).text(), "hello");
  assert.equal(await (await fetch(server.origin, { client: h2.http })).text(), "hello");
});

Deno.test("serveHttp does not pretend to ask for client certificates", () => {
  assert.throws(
    () =>
      serveHttp({
        host,
        port: 0,
        handler: () => new Response(),
        tls: { cert: "", key: "", ca: "x" },
      }),
    /client certificates are not asked for here/,
  );
});

const servers: Record<string, (options: ServeOptions) => HttpServer | Promise<HttpServer>> = {
  serveHttp,
  servePublic,
};

for (const [name, serve] of Object.entries(servers)) {
  Deno.test(`${name} names the address that is in use`, async () => {
    await using server = await serve({ host, port: 0, handler: () => new Response() });
    await assert.rejects(
      async () => await serve({ host, port: server.port, handler: () => new Response() }),
      { message: `Cannot listen on 127.0.0.1:${server.port}: the port is in use` },
    );
  });

  Deno.test(`${name} answers 500 for a handler that throws, and goes on`, async () => {
    await using server = await serve({
      host,
      port: 0,
      handler: ({ url }) => {
        if (url.endsWith("/throws")) throw new Error("thrown");
        if (url.endsWith("/rejects")) return Promise.reject(new Error("rejected"));
        return new Response("fine");
      },
    });
    for (const path of ["/throws", "/rejects"]) {
      const response = await fetch(server.origin + path);
      assert.equal(response.status, 500);
      assert.equal(await response.text(), "");
    }
    assert.equal(await (await fetch(server.origin)).text(), "fine");
  });

  Deno.test(`${name}, disposed, finishes what is under way and takes nothing new`, async () => {
    const finish = Promise.withResolvers<void>();
    let began = false;
    const server = await serve({
      host,
      port: 0,
      handler: async () => {
        began = true;
        await finish.promise;
        return new Response("finished");
      },
    });
    const underWay = fetch(server.origin).then((response) => response.text());
    await waitFor(() => began);
    const disposed = server[Symbol.asyncDispose]();
    const again = server[Symbol.asyncDispose]();
    await waitFor(() => refused(server.origin));
    finish.resolve();
    assert.equal(await underWay, "finished");
    await Promise.all([disposed, again]);
  });

  Deno.test(`${name}, disposed, does not wait for ever for a handler that hangs`, async () => {
    let began = false;
    const server = await serve({
      host,
      port: 0,
      drainMs: 50,
      handler: () => {
        began = true;
        return new Promise<Response>(() => {});
      },
    });
    const underWay = fetch(server.origin);
    await waitFor(() => began);
    await server[Symbol.asyncDispose]();
    const response = await underWay;
    await response.body?.cancel();
    assert.equal(response.status, 503);
  });
}
