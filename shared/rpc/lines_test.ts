/** Calls over one connection that stays open: when it is used, and what ends it. `conformance_test.ts` has what they have in common with others. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { z } from "zod";
import { MemoryRegistry } from "../registry/memory.ts";
import { type HttpLimits, serveHttp, type TlsFiles } from "../http/serve.ts";
import { makeCertificates, tlsTest } from "../testing/certificates.ts";
import { waitFor } from "../testing/harness.ts";
import { connectRpc } from "./client.ts";
import { defineContract } from "./contract.ts";
import { rpcHandler, serveContract } from "./server.ts";

const text = z.object({ text: z.string() });
const contract = defineContract("parrot", {
  say: { input: text, output: text, idempotent: true, often: true },
  do: { input: text, output: text, idempotent: false, often: true },
});
const clusterKey = "the key of these tests";

interface Settings {
  readonly tls?: TlsFiles;
  readonly limits?: Partial<HttpLimits>;
  /** Default true. */
  readonly offered?: boolean;
  /** That is registered; default: its own. */
  readonly address?: string;
  readonly hear?: (text: string) => Promise<void>;
}

/** One server; `requests` are the calls that came as requests of their own. */
async function start(stack: AsyncDisposableStack, settings: Settings = {}) {
  const { tls, limits = {}, offered = true, hear } = settings;
  const seen = { requests: 0, lines: 0 };
  let address = "";
  const answer = async (input: { text: string }) => {
    await hear?.(input.text);
    return input;
  };
  const rpc = rpcHandler([serveContract(contract, { say: answer, do: answer })], {
    ...{ clusterKey, address: () => address },
  });
  const { protocol, take } = rpc.upgrade;
  const server = stack.use(
    await serveHttp({
      ...{ host: "127.0.0.1", port: 0, tls, limits, drainMs: 5000 },
      handler: (request) => {
        if (request.method === "POST") seen.requests++;
        return rpc(request);
      },
      upgrade: !offered ? undefined : {
        protocol,
        take: (request) => {
          const taken = take(request);
          if (!(taken instanceof Response)) seen.lines++;
          return taken;
        },
      },
    }),
  );
  address = settings.address ?? server.origin;
  const connectTo = async (origin: string) => {
    const registry = stack.use(new MemoryRegistry());
    await registry.register({
      ...{ service: "parrot", name: "parrot1", addresses: { rpc: origin }, startedAt: 1, meta: {} },
    });
    return stack.use(await connectRpc(contract, { registry, timeoutMs: 5000, clusterKey, tls }));
  };
  return { seen, server, connectTo };
}

type Parrot = Awaited<ReturnType<Awaited<ReturnType<typeof start>>["connectTo"]>>;

/** Calls until one needed no request of its own. */
async function untilOpen({ any }: Parrot, seen: { requests: number }): Promise<void> {
  await waitFor(async () => {
    const before = seen.requests;
    assert.deepEqual(await any.say({ text: "hello" }), { text: "hello" });
    return seen.requests === before;
  });
}

/** Passes bytes on; `lines` has the connections that carry calls, `change` is given what the server says there. */
async function relayTo(stack: AsyncDisposableStack, server: () => string) {
  const relay = { lines: new Set<Socket>(), change: (bytes: string) => bytes };
  const sockets = new Set<Socket>();
  const listener = createServer((outer) => {
    const inner = connect(Number(new URL(server()).port), "127.0.0.1");
    for (const [from, to] of [[outer, inner], [inner, outer]] as const) {
      sockets.add(from);
      from.setEncoding("latin1");
      from.on("data", (bytes: string) => {
        if (bytes.startsWith("GET ")) relay.lines.add(outer);
        const isSaid = from === inner && relay.lines.has(outer);
        to.write(isSaid ? relay.change(bytes) : bytes, "latin1");
      });
      from.on("close", () => to.destroy());
      from.on("error", () => to.destroy());
    }
  });
  await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
  stack.defer(async () => {
    const closed = new Promise((resolve) => listener.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  });
  const { port } = listener.address() as { port: number };
  return { relay, origin: `http://127.0.0.1:${port}` };
}

Deno.test("calls leave over one connection as soon as it is open, and any text comes through", async () => {
  await using stack = new AsyncDisposableStack();
  const { seen, server, connectTo } = await start(stack);
  const parrot = await connectTo(server.origin);
  await untilOpen(parrot, seen);
  const before = seen.requests;
  const texts = ["", "a b", "\n\r\n", "日本 \u{20000}", "x".repeat(100_000), "\u2028"];
  const said = await Promise.all(texts.map((text) => parrot.any.say({ text })));
  assert.deepEqual(said.map(({ text }) => text), texts);
  assert.deepEqual(seen, { requests: before, lines: 1 });
});

tlsTest("over TLS too, with certificates on both sides", async (stack) => {
  const { node } = await makeCertificates(stack);
  const { seen, server, connectTo } = await start(stack, { tls: node });
  await untilOpen(await connectTo(server.origin), seen);
});

Deno.test("with a server that does not know it, calls go as requests", async () => {
  await using stack = new AsyncDisposableStack();
  const { seen, server, connectTo } = await start(stack, { offered: false });
  const parrot = await connectTo(server.origin);
  for (let i = 0; i < 20; i++) await parrot.any.say({ text: `${i}` });
  assert.deepEqual(seen, { requests: 20, lines: 0 });
});

Deno.test("when the connection breaks, an idempotent call is made again, and another one is in doubt", async () => {
  await using stack = new AsyncDisposableStack();
  let heard = 0;
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  stack.defer(release);
  let target = "";
  const { relay, origin } = await relayTo(stack, () => target);
  const { seen, server, connectTo } = await start(stack, {
    address: origin,
    hear: async (text) => {
      if (text === "hello") return;
      // The first two are answered too late.
      if (++heard <= 2) await released;
    },
  });
  target = server.origin;
  const parrot = await connectTo(origin);
  await untilOpen(parrot, seen);
  const calls = [parrot.any.say({ text: "1" }), parrot.any.do({ text: "2" })];
  const settled = Promise.allSettled(calls);
  await waitFor(() => heard === 2);
  for (const line of relay.lines) line.destroy();
  const [said, done] = await settled;
  assert.deepEqual(said, { status: "fulfilled", value: { text: "1" } });
  assert.equal(heard, 3);
  assert.ok(done?.status === "rejected" && done.reason.code === "unknown", JSON.stringify(done));
  // And there is another one.
  await untilOpen(parrot, seen);
});

Deno.test("an answer that was changed on its way, or comes twice, is no answer", async () => {
  await using stack = new AsyncDisposableStack();
  let target = "";
  const { relay, origin } = await relayTo(stack, () => target);
  const { seen, server, connectTo } = await start(stack, { address: origin });
  target = server.origin;
  const parrot = await connectTo(origin);
  const changes: readonly ((bytes: string) => string)[] = [
    (bytes) => bytes.replace("true", "fals"),
    (bytes) => bytes + bytes,
    (bytes) => bytes.replace(/^\w+/, "-"),
    (bytes) => bytes.replace(/^(\w+ )(\d+)/, (_, seal, number) => `${seal}${Number(number) + 1}`),
  ];
  for (const change of changes) {
    await untilOpen(parrot, seen);
    const { lines } = seen;
    relay.change = (bytes) => {
      relay.change = (bytes) => bytes;
      return change(bytes);
    };
    // The last of several finds the connection as the change has left it.
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(await parrot.any.say({ text: "true" }), { text: "true" });
    }
    await untilOpen(parrot, seen);
    assert.equal(seen.lines, lines + 1, "the connection has ended, and there is another");
  }
});

Deno.test("a connection outlives the limits of requests, and ends when it has been quiet", async () => {
  await using stack = new AsyncDisposableStack();
  const limits = { headersMs: 200, requestMs: 400, keepAliveMs: 600 };
  const { seen, server, connectTo } = await start(stack, { limits });
  const parrot = await connectTo(server.origin);
  await untilOpen(parrot, seen);
  const [began, before] = [performance.now(), seen.requests];
  while (performance.now() - began < 1500) {
    await parrot.any.say({ text: "x" });
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // On a thread that stood still for long it may have been closed as a quiet one.
  assert.ok(seen.requests - before < 20, `${seen.requests - before} of about 70 were requests`);
});

Deno.test("who asks for another protocol, or has no proof, is answered over HTTP", async () => {
  await using stack = new AsyncDisposableStack();
  const { seen, server } = await start(stack);
  const ask = async (...fields: string[]) => {
    const connection = await Deno.connect({ hostname: "127.0.0.1", port: server.port });
    const head = ["GET /parrot HTTP/1.1", "host: a", "connection: Upgrade", ...fields];
    await connection.write(new TextEncoder().encode(`${head.join("\r\n")}\r\n\r\n`));
    return await new Response(connection.readable).text();
  };
  assert.match(
    await ask("upgrade: h2c", `authorization: Bearer ${clusterKey}`),
    /^HTTP\/1\.1 200 /,
  );
  assert.match(await ask("upgrade: gru-rpc"), /^HTTP\/1\.1 401 [^]*cluster key is missing/);
  const bearer = await ask("upgrade: gru-rpc", `authorization: Bearer ${clusterKey}`);
  assert.match(bearer, /^HTTP\/1\.1 401 [^]*need a proof/);
  assert.match(await ask("upgrade: gru-rpc", "authorization: GruProof a.b.c"), /^HTTP\/1\.1 401 /);
  assert.equal(seen.lines, 0);
});
