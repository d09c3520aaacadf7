/** One port, every protocol: the same answers and the same limits. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { connect } from "node:net";
import {
  CannotListenError,
  type HttpServer,
  serveHttp,
  type ServeOptions,
  type TlsFiles,
} from "./serve.ts";
import { slowTest, waitFor } from "../testing/harness.ts";
import { makeCertificates, tlsTest } from "../testing/certificates.ts";
import { http1, http2, type RawConnection, rawConnection, type Speech } from "../testing/http.ts";

const host = "127.0.0.1";

interface Scene {
  serve(options: Partial<ServeOptions>): Promise<HttpServer>;
  ask(server: HttpServer, path?: string, init?: RequestInit): Promise<Response>;
  raw(server: HttpServer): ReturnType<typeof rawConnection>;
}

interface Engine {
  readonly speech: Speech;
  readonly security: "" | " over TLS" | " over mutual TLS";
}

const engines = [http1, http2].flatMap((speech) =>
  ["" as const, " over TLS" as const, " over mutual TLS" as const].map((security): Engine => ({
    speech,
    security,
  }))
);

let made: Promise<Required<TlsFiles>> | undefined;

/** Made once, because it takes a second. */
function certificates(): Promise<Required<TlsFiles>> {
  return made ??= (async () => {
    await using stack = new AsyncDisposableStack();
    return (await makeCertificates(stack)).node;
  })();
}

async function sceneOf({ speech, security }: Engine, stack: AsyncDisposableStack): Promise<Scene> {
  let ours: TlsFiles | undefined;
  let theirs: Partial<TlsFiles> | undefined;
  if (security !== "") {
    const { cert, key, ca } = await certificates();
    const isMutual = security === " over mutual TLS";
    ours = isMutual ? { cert, key, ca } : { cert, key };
    theirs = isMutual ? { cert, key, ca } : { ca };
  }
  const isHttp2 = speech.name === "HTTP/2";
  const client = Deno.createHttpClient({
    ...{ http1: !isHttp2, http2: isHttp2, poolMaxIdlePerHost: 0 },
    ...(theirs?.ca === undefined ? {} : { caCerts: [theirs.ca] }),
    ...(theirs?.cert === undefined ? {} : { cert: theirs.cert, key: theirs.key ?? "" }),
  });
  stack.defer(() => client.close());
  return {
    serve: async (options) =>
      stack.use(
        await serveHttp({
          host,
          port: 0,
          handler: () => new Response("fine"),
          tls: ours,
          ...options,
        }),
      ),
    ask: (server, path = "/", init = {}) => fetch(server.origin + path, { client, ...init }),
    raw: async ({ port }) => stack.use(await rawConnection({ port, speech, tls: theirs })),
  };
}

function everyEngine(title: string, test: (scene: Scene, engine: Engine) => Promise<void>): void {
  for (const engine of engines) {
    const name = `a port of ${engine.speech.name}${engine.security} ${title}`;
    const run = async (stack: AsyncDisposableStack) => test(await sceneOf(engine, stack), engine);
    if (engine.security !== "") {
      tlsTest(name, run);
      continue;
    }
    slowTest(name, async () => {
      await using stack = new AsyncDisposableStack();
      await run(stack);
    });
  }
}

/** An HTTP/2 frame holds at most 16 KB. */
const block = Buffer.alloc(16_384, 0x20);
const ten = Buffer.from("xxxxxxxxxx");

everyEngine("passes the caller's address and the body to its handler", async ({ serve, ask }) => {
  const server = await serve({
    handler: async (request, { remoteAddr }) =>
      new Response(`${request.method} ${remoteAddr.hostname} ${await request.text()}`),
  });
  const asked = await ask(server, "/", { method: "POST", body: "Ärger" });
  assert.equal(await asked.text(), "POST 127.0.0.1 Ärger");
  const body = ReadableStream.from(["in ", "pieces"]).pipeThrough(new TextEncoderStream());
  assert.equal(
    await (await ask(server, "/", { method: "POST", body })).text(),
    "POST 127.0.0.1 in pieces",
  );
});

const short = { headersMs: 300, requestMs: 600, keepAliveMs: 900 };
const waiting = async (request: Request) =>
  new Response(request.url.endsWith("/unread") ? "ok" : await request.text());
const post = { method: "POST", ends: false } as const;

for (
  const [what, begin, dripOf] of [
    ["nothing", () => Buffer.alloc(0), undefined],
    [
      "headers that never end",
      (speech) => speech.endlessHeaders.head,
      (speech) => speech.endlessHeaders.drip,
    ],
    [
      "a body that never ends",
      (speech) => speech.request({ ...post, headers: { "content-length": "5000" } }),
      (speech) => speech.declared(ten.subarray(0, 1)),
    ],
    [
      "a body that nobody reads",
      (speech) =>
        speech.request({ ...post, path: "/unread", headers: { "content-length": "5000" } }),
      (speech) => speech.declared(ten.subarray(0, 1)),
    ],
    [
      "a body in pieces that never end",
      (speech) => speech.request(post),
      (speech) => speech.piece(ten.subarray(0, 1)),
    ],
    [
      "one request and then nothing",
      (speech) => speech.request({ method: "GET", ends: true }),
      undefined,
    ],
    [
      "one request and then half of another",
      (speech) =>
        Buffer.concat([
          speech.request({ method: "GET", ends: true }),
          speech.request({ method: "GET", ends: true }, 3).subarray(0, 12),
        ]),
      undefined,
    ],
  ] satisfies [string, (speech: Speech) => Buffer, ((speech: Speech) => Buffer) | undefined][]
) {
  everyEngine(
    `closes the connection of a client that sends ${what}`,
    async ({ serve, ask, raw }, { speech }) => {
      const server = await serve({ limits: short, handler: waiting });
      const { socket, closed } = await raw(server);
      const drip = dripOf?.(speech);
      const dripping = setInterval(() => drip !== undefined && socket.write(drip), 50);
      try {
        socket.write(begin(speech));
        await closed;
      } finally {
        clearInterval(dripping);
      }
      assert.equal(await (await ask(server)).text(), "");
    },
  );
}

everyEngine(
  "keeps a connection while its request is being answered, however long that takes",
  async (
    { serve, raw },
    { speech },
  ) => {
    const finish = Promise.withResolvers<void>();
    let asked = 0;
    const server = await serve({
      limits: short,
      handler: async ({ url }) => {
        if (url.endsWith("/long")) {
          asked++;
          await finish.promise;
        }
        return new Response("finished");
      },
    });
    const patient = await raw(server);
    patient.socket.write(speech.request({ method: "GET", path: "/long", ends: true }));
    await waitFor(() => asked === 1);
    // Two connections that are closed for being idle, in turn: more time than any limit has then passed for the first.
    for (let i = 0; i < 2; i++) {
      const idle = await raw(server);
      idle.socket.write(speech.request({ method: "GET", ends: true }));
      await idle.closed;
    }
    assert.equal(patient.isClosed, false);
    finish.resolve();
    await waitFor(() => patient.text.includes("finished"));
  },
);

everyEngine(
  "that has reached its limit of connections closes the one that was idle longest",
  async (
    { serve, ask, raw },
    { speech },
  ) => {
    const finish = Promise.withResolvers<void>();
    let asked = 0;
    const server = await serve({
      limits: { connections: 4 },
      handler: async ({ url }) => {
        if (url.endsWith("/long")) {
          asked++;
          await finish.promise;
        }
        return new Response("fine");
      },
    });
    const busy = await raw(server);
    busy.socket.write(speech.request({ method: "GET", path: "/long", ends: true }));
    await waitFor(() => asked === 1);
    const strangers: RawConnection[] = [];
    for (let i = 0; i < 20; i++) strangers.push(await raw(server));
    await waitFor(() => strangers.filter(({ isClosed }) => isClosed).length >= 17);
    assert.equal(await (await ask(server)).text(), "fine");
    assert.equal(busy.isClosed, false);
    finish.resolve();
    await waitFor(() => busy.text.includes("fine"));
  },
);

for (
  const [what, headers, status] of [
    ["declared too large", { "content-length": "419430400" }, "413"],
    ["that grows too large", {}, "413"],
    ["compressed", { "content-encoding": "gzip", "content-length": "100" }, "415"],
  ] as const
) {
  everyEngine(
    `refuses a body ${what}, and reads no more of it`,
    async ({ serve, ask, raw }, { speech }) => {
      let read = 0;
      const server = await serve({
        bodyBytes: 4096,
        handler: async (request) => {
          for await (const chunk of request.body ?? []) read += chunk.byteLength;
          return new Response("fine");
        },
      });
      const { socket, closed } = await raw(server);
      let answer = "";
      socket.on("data", (data: Buffer) => answer += data.toString("latin1"));
      socket.write(speech.request({ ...post, headers }));
      const send = Object.hasOwn(headers, "content-length") ? speech.declared : speech.piece;
      // More than the limit, and no more than HTTP/2 accepts at once.
      const content = what === "compressed" ? block.subarray(0, 100) : block;
      for (let i = 0; i < (what === "compressed" ? 1 : 3); i++) socket.write(send(content));
      await waitFor(() => answer.includes("expected"));
      assert.match(answer, /"code":"(too_large|invalid_argument)"/);
      if (speech.name === "HTTP/1.1") {
        assert.match(answer, new RegExp(`^HTTP/1.1 ${status} `));
        // The client keeps sending, and is cut off.
        const dripping = setInterval(() => socket.write(ten), 20);
        await closed;
        clearInterval(dripping);
      }
      assert.ok(read <= 4096, `${read} bytes were read`);
      assert.equal(await (await ask(server)).text(), "fine");
    },
  );
}

everyEngine("accepts a body as large as its limit", async ({ serve, ask }) => {
  const server = await serve({
    bodyBytes: ({ url }) => url.endsWith("/large") ? 100_000 : 10,
    handler: async (request) => new Response(`${(await request.text()).length}`),
  });
  const send = (path: string, length: number) =>
    ask(server, path, { method: "POST", body: "x".repeat(length) });
  assert.equal(await (await send("/large", 100_000)).text(), "100000");
  assert.equal(await (await send("/small", 10)).text(), "10");
  const refused = await send("/small", 11);
  assert.equal(refused.status, 413);
  assert.match(await refused.text(), /has 11 bytes; expected 10 at most/);
});

everyEngine("answers 500 when a handler throws, and keeps serving", async ({ serve, ask }) => {
  const server = await serve({
    handler: ({ url }) => {
      if (url.endsWith("/throws")) throw new Error("thrown");
      if (url.endsWith("/rejects")) return Promise.reject(new Error("rejected"));
      return new Response("fine");
    },
  });
  for (const path of ["/throws", "/rejects"]) {
    const response = await ask(server, path);
    assert.equal(response.status, 500);
    assert.equal(await response.text(), "");
  }
  assert.equal(await (await ask(server)).text(), "fine");
});

everyEngine(
  "finishes requests under way when disposed, frees the port, and accepts nothing new",
  async (
    { serve, ask, raw },
  ) => {
    const finish = Promise.withResolvers<void>();
    let began = false;
    const server = await serve({
      handler: async () => {
        began = true;
        await finish.promise;
        return new Response("finished");
      },
    });
    const idle = await raw(server);
    const underWay = ask(server).then((response) => response.text());
    await waitFor(() => began);
    const disposed = server[Symbol.asyncDispose]();
    const again = server[Symbol.asyncDispose]();
    await idle.closed;
    await (await raw(server)).closed;
    finish.resolve();
    assert.equal(await underWay, "finished");
    await Promise.all([disposed, again]);
    await serve({ port: server.port });
    await assert.rejects(serve({ port: server.port }), {
      name: "CannotListenError",
      message: `Cannot listen on 127.0.0.1:${server.port}: the port is in use`,
    });
  },
);

everyEngine("does not wait for ever for a hanging handler when disposed", async (
  { serve, ask },
) => {
  let began = false;
  const server = await serve({
    drainMs: 50,
    handler: () => {
      began = true;
      return new Promise<Response>(() => {});
    },
  });
  const underWay = ask(server);
  await waitFor(() => began);
  await server[Symbol.asyncDispose]();
  const response = await underWay;
  await response.body?.cancel();
  assert.equal(response.status, 503);
});

tlsTest(
  "a port of TLS closes the connection of a client that begins no handshake",
  async (stack) => {
    const { cert, key } = await certificates();
    const server = stack.use(
      await serveHttp({
        host,
        port: 0,
        handler: () => new Response(),
        tls: { cert, key },
        limits: short,
      }),
    );
    for (const begin of ["", "\x16\x03"]) {
      const socket = connect({ host, port: server.port });
      socket.on("error", () => {});
      socket.write(begin);
      await new Promise<void>((resolve) => socket.on("close", () => resolve()));
    }
  },
);

Deno.test("a port of HTTP/1.1 ends an answer that its reader does not take", async () => {
  const gone = Promise.withResolvers<void>();
  await using server = await serveHttp({
    ...{ host, port: 0, limits: short },
    handler: () => new Response("x".repeat(50_000_000)),
  });
  const socket = connect({ host, port: server.port });
  socket.on("error", () => {});
  socket.on("close", () => gone.resolve());
  socket.pause();
  socket.write(http1.request({ method: "GET", ends: true }));
  // This side sees the end of the connection only when it reads or writes.
  const writing = setInterval(() => socket.write("x"), 50);
  await gone.promise;
  clearInterval(writing);
});

Deno.test("a port says why it cannot listen", async () => {
  const failing = (host: string) => serveHttp({ host, port: 0, handler: () => new Response() });
  await assert.rejects(failing("192.0.2.1"), (error) => {
    assert.ok(error instanceof CannotListenError);
    assert.equal(error.message, "Cannot listen on 192.0.2.1:0: this machine has no such address");
    return true;
  });
});
