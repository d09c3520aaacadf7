/** Which instance a call goes to, when it is repeated and when it is not. */
import assert from "node:assert/strict";
import { connect, createServer, type Socket } from "node:net";
import { Registry as MetricsRegistry } from "prom-client";
import { z } from "zod";
import { MemoryRegistry } from "../registry_memory.ts";
import { serveHttp } from "../serve.ts";
import { freePort, waitFor } from "../testing.ts";
import { connectRpc, type RpcClient, type RpcClientOptions } from "./client.ts";
import { type Call, defineContract, type RpcCode, RpcError } from "./contract.ts";
import { rpcHandler, type RpcServerOptions, serveContract } from "./server.ts";

const empty = z.strictObject({});
const named = z.object({ name: z.string() });
const contract = defineContract("who", {
  read: { input: empty, output: named, idempotent: true },
  write: { input: empty, output: named, idempotent: false },
});
type Who = RpcClient<typeof contract>;

/** A service `who` whose instances answer by their names, unless told otherwise. */
class Town implements AsyncDisposable {
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
    const rpc = rpcHandler([serveContract(contract, { read: handler, write: handler })], options);
    const server = this.#stack.use(
      serveHttp({ host: "127.0.0.1", port: options.port ?? 0, handler: rpc, drainMs: 0 }),
    );
    const leave = await this.register(name, server.origin);
    return { server, rpc, leave, calls: () => calls };
  }

  /** Listens, and does to each connection what it is told, which is nothing a server should do. */
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
          // Closed by the test itself.
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

/** Freed by the test; until then whoever waits for it does not go on. */
function gate() {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { wait: () => promise, open: resolve };
}

Deno.test("calls go to the instance with the least under way", async () => {
  await using town = new Town();
  const { wait, open } = gate();
  const slow = await town.serve("slow", wait);
  await town.serve("fast");
  const client = await town.connect();
  const held = client.at("slow").read({});
  await waitFor(() => slow.calls() === 1);
  assert.deepEqual(new Set(await names(client, 1)), new Set(["fast"]));
  for (let i = 0; i < 20; i++) assert.equal(await nameOf(client.any.read({})), "fast");
  open();
  assert.equal(await nameOf(held), "slow");
});

Deno.test("calls spread over equals, at once and one after the other", async () => {
  await using town = new Town();
  for (const name of ["a", "b", "c"]) await town.serve(name);
  const client = await town.connect();
  const atOnce = await names(client, 30);
  for (const name of ["a", "b", "c"]) assert.equal(atOnce.filter((n) => n === name).length, 10);
  const inTurn = new Set<string>();
  while (inTurn.size < 3) inTurn.add(await nameOf(client.any.read({})));
});

Deno.test("a call waits for a first instance to appear", async () => {
  await using town = new Town();
  const client = await town.connect();
  const call = client.any.write({});
  await town.serve("late");
  assert.equal(await nameOf(call), "late");
});

Deno.test("a call for which no instance appears fails, well before its deadline", async () => {
  await using town = new Town();
  const client = await town.connect({ timeoutMs: 600_000, appearMs: 50 });
  await town.serve("other");
  await assert.rejects(client.at("who1").read({}), {
    code: "unavailable",
    retryable: true,
    message: "who.read at who1: no live instance is known",
  });
});

Deno.test("an instance without an RPC address gets no calls", async () => {
  await using town = new Town();
  const { registry } = town;
  await registry.register({ service: "who", name: "a", addresses: {}, startedAt: 1, meta: {} });
  await town.serve("b");
  const client = await town.connect();
  assert.deepEqual(new Set(await names(client, 10)), new Set(["b"]));
});

Deno.test("at(…) calls that instance and no other", async () => {
  await using town = new Town();
  await town.serve("a");
  await town.serve("b");
  const client = await town.connect();
  for (const name of ["a", "b", "a", "b"]) {
    assert.equal(await nameOf(client.at(name).write({})), name);
  }
});

for (const code of ["overloaded", "unavailable"] as const) {
  Deno.test(`a call refused as ${code} goes to another instance, idempotent or not`, async () => {
    await using town = new Town();
    const refuse = () => {
      throw new RpcError(code, "not now");
    };
    await town.serve("unwilling", refuse);
    await town.serve("willing");
    const client = await town.connect();
    for (let i = 0; i < 20; i++) {
      assert.equal(await nameOf(client.any.write({})), "willing");
    }
  });
}

Deno.test("overloaded instances are not asked over and over", async () => {
  await using town = new Town();
  const refuse = () => {
    throw new RpcError("overloaded", "not now");
  };
  const one = await town.serve("one", refuse);
  const two = await town.serve("two", refuse);
  const client = await town.connect();
  await assert.rejects(client.any.read({}), { code: "overloaded", message: "not now" });
  assert.equal(one.calls() + two.calls(), 2);
});

Deno.test("an error that would be the same elsewhere is not tried elsewhere", async () => {
  const codes: RpcCode[] = ["invalid_argument", "not_found", "conflict", "internal"];
  for (const code of codes) {
    await using town = new Town();
    const fail = () => {
      throw new RpcError(code, "no");
    };
    const one = await town.serve("one", fail);
    const two = await town.serve("two", fail);
    const client = await town.connect();
    await assert.rejects(client.any.read({}), { code, retryable: false });
    assert.equal(one.calls() + two.calls(), 1);
  }
});

Deno.test("where nobody listens, a call that is not idempotent goes elsewhere too", async () => {
  await using town = new Town();
  await town.register("gone", `http://127.0.0.1:${freePort()}`);
  await town.serve("here");
  const client = await town.connect();
  for (let i = 0; i < 20; i++) assert.equal(await nameOf(client.any.write({})), "here");
});

Deno.test("when the connection is lost only an idempotent call is repeated", async () => {
  await using town = new Town();
  const breaking = await town.misbehave("breaking", async (connection) => {
    await connection.read(new Uint8Array(1000));
    connection.close();
  });
  const client = await town.connect();
  await assert.rejects(client.any.write({}), {
    code: "unavailable",
    retryable: false,
    message: /^Lost the connection to who at breaking/,
  });
  const connections = breaking.connections();
  assert(connections >= 1);
  const read = client.any.read({});
  await waitFor(() => breaking.connections() > connections);
  await town.serve("sound");
  assert.equal(await nameOf(read), "sound");
});

Deno.test("a call that is not idempotent is sent once, also when its connection breaks while it is served", async () => {
  await using town = new Town();
  let cut: (() => void) | undefined;
  const real = await town.serve("real", () => cut?.());
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
    // Only the first: on the next one a request that came again would be answered.
    cut = intact ? undefined : () => outer.resetAndDestroy();
    intact = true;
  });
  const port = freePort();
  await new Promise<void>((resolve) => front.listen(port, "127.0.0.1", resolve));
  await town.register("cutting", `http://127.0.0.1:${port}`);
  const client = await town.connect();
  await assert.rejects(client.any.write({}), { code: "unavailable", retryable: false });
  assert.equal(real.calls(), 1);
  assert.equal(await nameOf(client.any.read({})), "real");
  await client[Symbol.asyncDispose]();
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => front.close(resolve));
});

Deno.test("a frozen instance costs a call a part of its time, and is then passed over", async () => {
  await using town = new Town();
  await town.misbehave("frozen", () => {});
  const client = await town.connect({ timeoutMs: 30_000, patienceMs: 150 });
  const stuck = client.any.read({});
  await town.serve("alive");
  assert.equal(await nameOf(stuck), "alive");
  await waitFor(async () => await town.metric("gru_rpc_client_ejections_total") === 1);
  assert.deepEqual(new Set(await names(client, 30)), new Set(["alive"]));
  assert.equal(await town.metric("gru_rpc_client_retries_total"), 1);
});

Deno.test("a call that is not idempotent is not repeated because an instance is silent", async () => {
  await using town = new Town();
  await town.misbehave("frozen", () => {});
  const client = await town.connect({ patienceMs: 100 });
  const stuck = client.any.write({}, { timeoutMs: 500 });
  const alive = await town.serve("alive");
  await assert.rejects(stuck, { code: "deadline_exceeded" });
  assert.equal(alive.calls(), 0);
});

Deno.test("an instance that is slow with one call but answers is neither passed over nor asked twice", async () => {
  await using town = new Town();
  const { wait, open } = gate();
  const slow = await town.serve("slow", wait);
  const client = await town.connect({ timeoutMs: 30_000, patienceMs: 100 });
  const call = client.any.read({});
  await waitFor(() => slow.calls() === 1);
  const startedAt = performance.now();
  const idle = await town.serve("idle");
  await waitFor(() => performance.now() - startedAt > 500);
  // Once, before the probe had shown that it is alive, another may have been asked.
  assert(slow.calls() === 1 && idle.calls() <= 1);
  assert.equal(await town.metric("gru_rpc_client_ejections_total"), 0);
  open();
  assert.match(await nameOf(call), /slow|idle/);
});

Deno.test("a connection that hangs is replaced, so that its instance can be reached again", async () => {
  await using town = new Town();
  const real = await town.serve("real");
  let first = true;
  const pipes: Promise<unknown>[] = [];
  // The first connection is swallowed, as by a firewall that forgot it; later ones are passed on.
  await town.misbehave("forgetful", async (connection) => {
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
  const client = await town.connect({ timeoutMs: 30_000, patienceMs: 150 });
  assert.equal(await nameOf(client.any.read({})), "real");
  await client[Symbol.asyncDispose]();
  await Promise.all(pipes);
});

Deno.test("instances that are all passed over are used all the same, and return when they answer", async () => {
  await using town = new Town();
  const port = freePort();
  const leave = await town.register("returning", `http://127.0.0.1:${port}`);
  const client = await town.connect({ timeoutMs: 30_000 });
  await assert.rejects(client.any.write({}, { timeoutMs: 100 }), {
    code: "unavailable",
    message: /^Cannot reach who at returning/,
  });
  const patient = client.any.write({});
  await leave();
  await town.serve("returning", undefined, { port });
  assert.equal(await nameOf(patient), "returning");
});

Deno.test("an instance that leaves the registry finishes what it has", async () => {
  await using town = new Town();
  const { wait, open } = gate();
  const leaving = await town.serve("leaving", wait);
  const client = await town.connect();
  const call = client.any.write({});
  await waitFor(() => leaving.calls() === 1);
  await leaving.leave();
  await town.serve("staying");
  assert.deepEqual(new Set(await names(client, 10)), new Set(["staying"]));
  open();
  assert.equal(await nameOf(call), "leaving");
});

Deno.test("a server learns how much time a call has", async () => {
  await using town = new Town();
  let remainingMs = 0;
  await town.serve("a", (call) => void (remainingMs = call.deadline - performance.now()));
  const client = await town.connect();
  await client.any.read({}, { timeoutMs: 20_000 });
  assert(remainingMs > 5000 && remainingMs <= 20_000, `${remainingMs} ms`);
});

Deno.test("a client without the right cluster key is refused and does not go on trying", async () => {
  await using town = new Town();
  const { calls } = await town.serve("a", undefined, { clusterKey: "right" });
  const right = await town.connect({ clusterKey: "right" });
  assert.equal(await nameOf(right.any.read({})), "a");
  for (const clusterKey of ["wrong", undefined]) {
    const client = await town.connect({ clusterKey });
    await assert.rejects(client.any.read({}), { code: "unauthenticated", retryable: false });
  }
  assert.equal(calls(), 1);
});

Deno.test("an answer that is none of this RPC is an error that shows it", async () => {
  await using town = new Town();
  for (const [status, code] of [[200, "internal"], [404, "internal"], [302, "internal"]] as const) {
    await using server = serveHttp({
      host: "127.0.0.1",
      port: 0,
      handler: () => new Response("<html>Hello", { status, headers: { location: "/x" } }),
    });
    const leave = await town.register("web", server.origin);
    const client = await town.connect();
    await assert.rejects(client.any.read({}), { code, message: /<html>Hello/ });
    await client[Symbol.asyncDispose]();
    await leave();
  }
});

Deno.test("a client that is disposed ends the calls under way", async () => {
  await using town = new Town();
  const over = Promise.withResolvers<void>();
  const hanging = await town.serve("hanging", () => over.promise);
  const client = await town.connect();
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
  await using town = new Town();
  await town.serve("a");
  const client = await town.connect();
  await names(client, 3);
  const text = await town.metrics.metrics();
  assert.match(text, /gru_rpc_client_seconds_count\{service="who",method="read",code="ok"\} 3/);
});
