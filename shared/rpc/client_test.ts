/** Which instance gets a call, and when a call is repeated. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { Registry as MetricsRegistry } from "prom-client";
import { z } from "zod";
import { MemoryRegistry } from "../registry/memory.ts";
import { serveHttp } from "../http/serve.ts";
import { freePort, slowTest, waitFor } from "../testing/harness.ts";
import { pause } from "../pause.ts";
import { connectRpc, type RpcClient, type RpcClientOptions } from "./client.ts";
import { type Call, defineContract, type RpcCode, RpcError } from "./contract.ts";
import { rpcHandler, type RpcServerOptions, serveContract } from "./server.ts";

const empty = z.strictObject({});
const named = z.object({ name: z.string() });
const contract = defineContract("who", {
  read: { input: empty, output: named, idempotent: true },
  write: { input: empty, output: named, idempotent: false },
  hear: { input: empty, output: named, idempotent: false, waits: true },
});
type Who = RpcClient<typeof contract>;

/** A service `who`. Its instances answer with their names, unless the test changes that. */
class TestCluster implements AsyncDisposable {
  readonly registry = new MemoryRegistry();
  readonly metrics = new MetricsRegistry();
  readonly #stack = new AsyncDisposableStack();

  async register(name: string, origin: string): Promise<() => PromiseLike<void>> {
    const registration = await this.registry.register({
      service: "who",
      name,
      addresses: { rpc: origin },
      startedAt: 1,
      meta: {},
    });
    return () => registration[Symbol.asyncDispose]();
  }

  async serve(
    name: string,
    handle: (call: Call) => Promise<void> | void = () => {},
    options: RpcServerOptions & { port?: number } = {},
  ) {
    let calls = 0;
    const handler = async (_: unknown, call: Call) => {
      calls++;
      await handle(call);
      return { name };
    };
    const rpc = rpcHandler([
      serveContract(contract, { read: handler, write: handler, hear: handler }),
    ], options);
    const server = this.#stack.use(
      await serveHttp({
        host: "127.0.0.1",
        port: options.port ?? 0,
        handler: rpc,
        bodyBytes: Infinity,
        drainMs: 0,
      }),
    );
    const leave = await this.register(name, server.origin);
    return { server, rpc, leave, calls: () => calls };
  }

  /** Listens, and treats each connection as the test says: in ways that no server should. */
  async misbehave(name: string, treat: (connection: Deno.TcpConn) => Promise<void> | void) {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const connections: Deno.TcpConn[] = [];
    const accepting = (async () => {
      for await (const connection of listener) {
        connections.push(connection);
        await treat(connection);
      }
    })();
    this.#stack.defer(async () => {
      listener.close();
      for (const connection of connections) {
        try {
          connection.close();
        } catch {
          // The test itself may have closed it.
        }
      }
      await accepting;
    });
    await this.register(name, `http://127.0.0.1:${listener.addr.port}`);
    return { connections: () => connections.length };
  }

  async connect(options: Partial<RpcClientOptions> = {}): Promise<Who> {
    const { registry, metrics } = this;
    return this.#stack.use(
      await connectRpc(contract, { registry, metrics, timeoutMs: 5000, ...options }),
    );
  }

  async metric(name: string): Promise<number> {
    const metric = await this.metrics.getSingleMetric(name)?.get();
    return metric?.values[0]?.value ?? 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack[Symbol.asyncDispose]();
    await this.registry[Symbol.asyncDispose]();
  }
}

async function nameOf(call: Promise<{ name: string }>): Promise<string> {
  return (await call).name;
}

async function names(client: Who, calls: number): Promise<string[]> {
  const answers = Array.from({ length: calls }, () => client.any.read({}));
  return (await Promise.all(answers)).map(({ name }) => name);
}

/** Blocks callers until the test opens it. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { wait: () => promise, open: resolve };
}

Deno.test("calls go to the instance with the fewest calls under way", async () => {
  await using cluster = new TestCluster();
  const { wait, open } = gate();
  const slow = await cluster.serve("slow", wait);
  await cluster.serve("fast");
  const client = await cluster.connect();
  const held = client.at("slow").read({});
  await waitFor(() => slow.calls() === 1);
  assert.deepEqual(new Set(await names(client, 1)), new Set(["fast"]));
  for (let i = 0; i < 20; i++) assert.equal(await nameOf(client.any.read({})), "fast");
  open();
  assert.equal(await nameOf(held), "slow");
});

Deno.test("calls spread over equal instances, both in parallel and in sequence", async () => {
  await using cluster = new TestCluster();
  for (const name of ["a", "b", "c"]) await cluster.serve(name);
  const client = await cluster.connect();
  const atOnce = await names(client, 30);
  for (const name of ["a", "b", "c"]) assert.equal(atOnce.filter((n) => n === name).length, 10);
  const inTurn = new Set<string>();
  while (inTurn.size < 3) inTurn.add(await nameOf(client.any.read({})));
});

Deno.test("a call waits for a first instance to appear", async () => {
  await using cluster = new TestCluster();
  const client = await cluster.connect();
  const call = client.any.write({});
  await cluster.serve("late");
  assert.equal(await nameOf(call), "late");
});

Deno.test("a call for which no instance appears fails, well before its deadline", async () => {
  await using cluster = new TestCluster();
  const client = await cluster.connect({ timeoutMs: 600_000, appearMs: 50 });
  await cluster.serve("other");
  await assert.rejects(client.at("who1").read({}), {
    code: "unavailable",
    retryable: true,
    message: "who.read at who1: no live instance is known",
  });
});

Deno.test("an instance without an RPC address gets no calls", async () => {
  await using cluster = new TestCluster();
  const { registry } = cluster;
  await registry.register({ service: "who", name: "a", addresses: {}, startedAt: 1, meta: {} });
  await cluster.serve("b");
  const client = await cluster.connect();
  assert.deepEqual(new Set(await names(client, 10)), new Set(["b"]));
});

Deno.test("at(…) calls that instance and no other", async () => {
  await using cluster = new TestCluster();
  await cluster.serve("a");
  await cluster.serve("b");
  const client = await cluster.connect();
  for (const name of ["a", "b", "a", "b"]) {
    assert.equal(await nameOf(client.at(name).write({})), name);
  }
});

for (const code of ["overloaded", "unavailable"] as const) {
  Deno.test(`a call rejected as ${code} is sent to another instance, idempotent or not`, async () => {
    await using cluster = new TestCluster();
    const refuse = () => {
      throw new RpcError(code, "not now");
    };
    await cluster.serve("unwilling", refuse);
    await cluster.serve("willing");
    const client = await cluster.connect();
    for (let i = 0; i < 20; i++) {
      assert.equal(await nameOf(client.any.write({})), "willing");
    }
  });
}

Deno.test("overloaded instances are not called again and again", async () => {
  await using cluster = new TestCluster();
  const refuse = () => {
    throw new RpcError("overloaded", "not now");
  };
  const one = await cluster.serve("one", refuse);
  const two = await cluster.serve("two", refuse);
  const client = await cluster.connect();
  await assert.rejects(client.any.read({}), { code: "overloaded", message: "not now" });
  assert.equal(one.calls() + two.calls(), 2);
});

Deno.test("a call whose error would be the same at every instance is not repeated", async () => {
  const codes: RpcCode[] = ["invalid_argument", "not_found", "conflict", "internal"];
  for (const code of codes) {
    await using cluster = new TestCluster();
    const fail = () => {
      throw new RpcError(code, "no");
    };
    const one = await cluster.serve("one", fail);
    const two = await cluster.serve("two", fail);
    const client = await cluster.connect();
    await assert.rejects(client.any.read({}), { code, retryable: false });
    assert.equal(one.calls() + two.calls(), 1);
  }
});

Deno.test("when an address refuses connections, a call that is not idempotent is sent to another instance too", async () => {
  await using cluster = new TestCluster();
  await cluster.register("gone", `http://127.0.0.1:${freePort()}`);
  await cluster.serve("here");
  const client = await cluster.connect();
  for (let i = 0; i < 20; i++) assert.equal(await nameOf(client.any.write({})), "here");
});

Deno.test("when the connection is lost only an idempotent call is repeated", async () => {
  await using cluster = new TestCluster();
  const breaking = await cluster.misbehave("breaking", async (connection) => {
    await connection.read(new Uint8Array(1000));
    connection.close();
  });
  const client = await cluster.connect();
  await assert.rejects(client.any.write({}), {
    code: "unknown",
    retryable: false,
    message: /^Lost the connection to who at breaking/,
  });
  const connections = breaking.connections();
  assert(connections >= 1);
  const read = client.any.read({});
  await waitFor(() => breaking.connections() > connections);
  await cluster.serve("sound");
  assert.equal(await nameOf(read), "sound");
});

Deno.test("a call that is not idempotent is sent once, also when its connection breaks while it is served", async () => {
  await using cluster = new TestCluster();
  let cut: (() => void) | undefined;
  const real = await cluster.serve("real", () => cut?.());
  await real.leave();
  const sockets = new Set<Socket>();
  let intact = false;
  const front = createServer((outer) => {
    const onward = connect({ host: "127.0.0.1", port: real.server.port });
    for (const [socket, other] of [[outer, onward], [onward, outer]] as const) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => other.destroy());
      socket.pipe(other);
    }
    // Only the first connection is cut: on the next one a repeated request would be answered.
    cut = intact ? undefined : () => outer.resetAndDestroy();
    intact = true;
  });
  const port = freePort();
  await new Promise<void>((resolve) => front.listen(port, "127.0.0.1", resolve));
  await cluster.register("cutting", `http://127.0.0.1:${port}`);
  const client = await cluster.connect();
  await assert.rejects(client.any.write({}), { code: "unknown", retryable: false });
  assert.equal(real.calls(), 1);
  assert.equal(await nameOf(client.any.read({})), "real");
  await client[Symbol.asyncDispose]();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => front.close(resolve));
});

slowTest("a frozen instance costs a call part of its time, and is then ejected", async () => {
  await using cluster = new TestCluster();
  await cluster.misbehave("frozen", () => {});
  const client = await cluster.connect({ timeoutMs: 30_000, patienceMs: 150 });
  const stuck = client.any.read({});
  await cluster.serve("alive");
  assert.equal(await nameOf(stuck), "alive");
  await waitFor(async () => await cluster.metric("gru_rpc_client_ejections_total") === 1);
  assert.deepEqual(new Set(await names(client, 30)), new Set(["alive"]));
  assert.equal(await cluster.metric("gru_rpc_client_retries_total"), 1);
});

Deno.test("a call that is not idempotent is not repeated because an instance is silent", async () => {
  await using cluster = new TestCluster();
  await cluster.misbehave("frozen", () => {});
  const client = await cluster.connect({ patienceMs: 100 });
  const stuck = client.any.write({}, { timeoutMs: 500 });
  const alive = await cluster.serve("alive");
  await assert.rejects(stuck, { code: "unknown", retryable: false });
  assert.equal(alive.calls(), 0);
});

Deno.test("an instance that is slow with one call but answers others is not ejected, and is not called twice", async () => {
  await using cluster = new TestCluster();
  const { wait, open } = gate();
  const slow = await cluster.serve("slow", wait);
  const client = await cluster.connect({ timeoutMs: 30_000, patienceMs: 100 });
  const call = client.any.read({});
  await waitFor(() => slow.calls() === 1);
  const startedAt = performance.now();
  const idle = await cluster.serve("idle");
  await waitFor(() => performance.now() - startedAt > 500);
  // Before the probe has shown that the instance is alive, another instance may have been called once.
  assert(slow.calls() === 1 && idle.calls() <= 1);
  assert.equal(await cluster.metric("gru_rpc_client_ejections_total"), 0);
  open();
  assert.match(await nameOf(call), /slow|idle/);
});

slowTest(
  "a connection that hangs is replaced, so that its instance can be reached again",
  async () => {
    await using cluster = new TestCluster();
    const real = await cluster.serve("real");
    let first = true;
    const pipes: Promise<unknown>[] = [];
    // The first connection is swallowed, as by a firewall that lost its state; later connections are forwarded.
    await cluster.misbehave("forgetful", async (connection) => {
      if (first) {
        first = false;
        return;
      }
      const onward = await Deno.connect({ hostname: "127.0.0.1", port: real.server.port });
      pipes.push(
        connection.readable.pipeTo(onward.writable).catch(() => {}),
        onward.readable.pipeTo(connection.writable).catch(() => {}),
      );
    });
    await real.leave();
    const client = await cluster.connect({ timeoutMs: 30_000, patienceMs: 150 });
    assert.equal(await nameOf(client.any.read({})), "real");
    await client[Symbol.asyncDispose]();
    await Promise.all(pipes);
  },
);

Deno.test("when all instances are ejected they still get calls, and return when they answer", async () => {
  await using cluster = new TestCluster();
  const port = freePort();
  const leave = await cluster.register("returning", `http://127.0.0.1:${port}`);
  const client = await cluster.connect({ timeoutMs: 30_000 });
  await assert.rejects(client.any.write({}, { timeoutMs: 100 }), {
    code: "unavailable",
    message: /^Cannot reach who at returning/,
  });
  const patient = client.any.write({});
  await leave();
  await cluster.serve("returning", undefined, { port });
  assert.equal(await nameOf(patient), "returning");
});

Deno.test("an instance that leaves the registry finishes its calls", async () => {
  await using cluster = new TestCluster();
  const { wait, open } = gate();
  const leaving = await cluster.serve("leaving", wait);
  const client = await cluster.connect();
  const call = client.any.write({});
  await waitFor(() => leaving.calls() === 1);
  await leaving.leave();
  await cluster.serve("staying");
  assert.deepEqual(new Set(await names(client, 10)), new Set(["staying"]));
  open();
  assert.equal(await nameOf(call), "leaving");
});

Deno.test("a server receives the time that is left for a call", async () => {
  await using cluster = new TestCluster();
  let remainingMs = 0;
  await cluster.serve("a", (call) => void (remainingMs = call.deadline - performance.now()));
  const client = await cluster.connect();
  await client.any.read({}, { timeoutMs: 20_000 });
  assert(remainingMs > 5000 && remainingMs <= 20_000, `${remainingMs} ms`);
});

slowTest("a client without the right cluster key is rejected and does not retry", async () => {
  await using cluster = new TestCluster();
  const { calls } = await cluster.serve("a", undefined, { clusterKey: "right" });
  const right = await cluster.connect({ clusterKey: "right" });
  assert.equal(await nameOf(right.any.read({})), "a");
  for (const clusterKey of ["wrong", undefined]) {
    const client = await cluster.connect({ clusterKey });
    await assert.rejects(client.any.read({}), { code: "unauthenticated", retryable: false });
  }
  assert.equal(calls(), 1);
});

const noAnswers: Record<string, () => Response> = {
  "HTML": () => new Response("<html>Hello", { headers: { "content-type": "text/html" } }),
  "half a body": () => new Response('{"name":'),
  "another shape": () => Response.json({ title: "a" }),
  "a list": () => Response.json([]),
  "nothing, 204": () => new Response(null, { status: 204 }),
  "a redirect": () => new Response(null, { status: 302, headers: { location: "/x" } }),
  "an empty 500": () => new Response(null, { status: 500 }),
  "a proxy's 502": () => new Response("<h1>Bad Gateway", { status: 502 }),
  "a proxy's 503": () => new Response("upstream", { status: 503 }),
  "a page's 404": () => new Response("no page", { status: 404 }),
  "an error under another status": () =>
    Response.json({ error: { code: "conflict", message: "m", retryable: false } }, { status: 500 }),
  "a body without end": () =>
    new Response(
      new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(1 << 20).fill(32)),
      }),
    ),
  "another program": () =>
    Response.json({
      error: { code: "not_found", message: "No service who here; there is stat", retryable: true },
    }, { status: 404 }),
};

for (const [what, answer] of Object.entries(noAnswers)) {
  slowTest(
    `an instance that answers with ${what} is ejected until it answers correctly`,
    async () => {
      await using cluster = new TestCluster();
      const good = await cluster.serve("good");
      let asked = 0;
      let healthy = false;
      const later = rpcHandler([
        serveContract(contract, {
          read: () => ({ name: "bad" }),
          write: () => ({ name: "bad" }),
          hear: () => ({ name: "bad" }),
        }),
      ]);
      await using server = await serveHttp({
        host: "127.0.0.1",
        port: 0,
        handler: (request) => {
          if (healthy) return later(request);
          if (request.method === "POST") asked++;
          return answer();
        },
      });
      const leave = await cluster.register("bad", server.origin);
      const client = await cluster.connect({ appearMs: 50, timeoutMs: 60_000 });
      for (let i = 0; i < 30; i++) assert.equal(await nameOf(client.any.read({})), "good");
      assert.ok(asked <= 1, `${asked} calls`);
      for (let i = 0; i < 10; i++) assert.equal(await nameOf(client.any.write({})), "good");
      await assert.rejects(client.at("bad").read({}), { code: "unavailable" });
      healthy = true;
      await waitFor(async () => await nameOf(client.any.read({})) === "bad");
      await leave();
      assert.equal(good.calls() >= 40, true);
    },
  );
}

Deno.test("a call that is not idempotent is not repeated after an invalid answer", async () => {
  await using cluster = new TestCluster();
  let asked = 0;
  await using server = await serveHttp({
    host: "127.0.0.1",
    port: 0,
    handler: ({ method }) => {
      if (method === "POST") asked++;
      return new Response("<html>Hello");
    },
  });
  await cluster.register("bad", server.origin);
  const client = await cluster.connect();
  const failure = {
    code: "unknown",
    retryable: false,
    message: /did not answer as this service does: .*<html>Hello/,
  };
  await assert.rejects(client.any.write({}), failure);
  assert.equal(asked, 1);
});

slowTest(
  "a client never has more calls under way at an instance than its limit; the others wait",
  async () => {
    await using cluster = new TestCluster();
    let [now, most] = [0, 0];
    const server = await cluster.serve("a", async () => {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setTimeout(resolve, 1));
      now--;
    });
    const client = await cluster.connect({ timeoutMs: 60_000, maxUnderWay: 50 });
    const answers = Array.from({ length: 3000 }, () => nameOf(client.any.write({})));
    assert.deepEqual(new Set(await Promise.all(answers)), new Set(["a"]));
    assert.equal(server.calls(), 3000);
    assert.ok(most <= 50, `${most} at once`);
  },
);

Deno.test("a call that waits too long for an instance, or finds too many waiting, is rejected as overloaded", async () => {
  await using cluster = new TestCluster();
  const { wait, open } = gate();
  const { calls } = await cluster.serve("a", wait);
  const client = await cluster.connect({ maxUnderWay: 2, maxWaiting: 2 });
  const held = [1, 2].map(() => nameOf(client.any.write({})));
  await waitFor(() => calls() === 2);
  const refused = { code: "overloaded", retryable: true };
  const first = assert.rejects(client.any.read({}, { timeoutMs: 50 }), refused);
  const waits = nameOf(client.any.read({}));
  await assert.rejects(client.any.read({}), refused);
  await first;
  open();
  assert.deepEqual(await Promise.all([...held, waits]), ["a", "a", "a"]);
  assert.equal(calls(), 3);
});

slowTest("a waiting call is not sent when its answer would come after its deadline", async () => {
  await using cluster = new TestCluster();
  let working = 0;
  const { calls } = await cluster.serve("a", async () => {
    working++;
    await pause(20);
    working--;
  });
  const client = await cluster.connect({ maxUnderWay: 10, timeoutMs: 600 });
  const codes = await Promise.all(Array.from({ length: 2000 }, async () => {
    try {
      return (await client.any.write({})).name;
    } catch (error) {
      return (error as RpcError).code;
    }
  }));
  const count = (code: string) => codes.filter((one) => one === code).length;
  assert.ok(count("a") > 0 && count("overloaded") > 0, `${count("a")} answered`);
  // A sent call is answered or, if the machine was too slow, its outcome is unknown. A rejected call was never sent.
  assert.ok(calls() <= count("a") + count("unknown"), `${calls()} calls`);
  assert.equal(count("a") + count("unknown") + count("overloaded"), 2000);
  await waitFor(() => working === 0, { what: "the handlers of calls that the client gave up" });
});

Deno.test("calls of methods that wait for an event do not count against the limit of the others", async () => {
  await using cluster = new TestCluster();
  const { wait, open } = gate();
  let held = 0;
  const { calls } = await cluster.serve("a", () => ++held <= 20 ? wait() : undefined);
  const client = await cluster.connect({ maxUnderWay: 2 });
  const waiting = Array.from({ length: 20 }, () => nameOf(client.any.hear({})));
  await waitFor(() => calls() === 20);
  assert.deepEqual(await names(client, 10), Array(10).fill("a"));
  open();
  assert.deepEqual(await Promise.all(waiting), Array(20).fill("a"));
});

slowTest(
  "abandoned calls do not end the connection: the other calls on it are answered",
  async () => {
    await using cluster = new TestCluster();
    const { wait, open } = gate();
    const server = await cluster.serve("a", wait);
    const client = await cluster.connect({ maxUnderWay: 2000, timeoutMs: 60_000 });
    const kept = Array.from({ length: 100 }, () => nameOf(client.any.write({})));
    const abort = new AbortController();
    const given = Array.from({ length: 700 }, () => client.any.write({}, { signal: abort.signal }));
    const refusals = Promise.all(given.map((call) => assert.rejects(call, { code: "cancelled" })));
    await waitFor(() => server.calls() >= 100);
    abort.abort();
    await refusals;
    open();
    assert.deepEqual(new Set(await Promise.all(kept)), new Set(["a"]));
    assert.equal(await nameOf(client.any.write({})), "a");
  },
);

Deno.test("a client that is disposed ends the calls under way", async () => {
  await using cluster = new TestCluster();
  const over = Promise.withResolvers<void>();
  const hanging = await cluster.serve("hanging", () => over.promise);
  const client = await cluster.connect();
  const ends = assert.rejects(client.any.read({}), {
    code: "unavailable",
    message: "The client of who is closed",
  });
  const waits = assert.rejects(client.at("nobody").read({}), { code: "unavailable" });
  await waitFor(() => hanging.calls() === 1);
  await Promise.all([client[Symbol.asyncDispose](), client[Symbol.asyncDispose]()]);
  await Promise.all([ends, waits]);
  over.resolve();
});

Deno.test("calls are counted by method and result", async () => {
  await using cluster = new TestCluster();
  await cluster.serve("a");
  const client = await cluster.connect();
  await names(client, 3);
  const text = await cluster.metrics.metrics();
  assert.match(text, /gru_rpc_client_seconds_count\{service="who",method="read",code="ok"\} 3/);
});
