import assert from "node:assert/strict";
import { ConflictError, RegistryUnavailableError } from "../registry/registry.ts";
import { registryConformance, someInstance, Views } from "../registry/conformance.ts";
import type { Belief } from "./holder.ts";
import { connect, sessionMs } from "./scene.ts";
import { logger } from "../log.ts";
import { FaultyProxy } from "../testing/proxy.ts";
import { freePort, ServerProcess, serverTest, slowTest, waitFor } from "../testing/harness.ts";
import { startEnsemble, startZookeeper } from "../testing/zookeeper.ts";
import { ZookeeperSession } from "./session.ts";

async function conform(t: Deno.TestContext, servers: readonly string[]): Promise<void> {
  let clusters = 0;
  await registryConformance(t, async () => {
    const root = `/conformance/${++clusters}`;
    await using opened = new AsyncDisposableStack();
    const owned = opened.move();
    return {
      open: async () => owned.use(await connect(servers, { root })),
      [Symbol.asyncDispose]: () => owned.disposeAsync(),
    };
  }, { independent: true });
}

serverTest({
  name: "connectZookeeper opens a registry on one server",
  needs: "zookeeper",
  fn: async (t) => {
    await using server = await startZookeeper();
    await conform(t, [server.address]);
  },
});

serverTest({
  name: "connectZookeeper opens a registry on an ensemble",
  needs: "zookeeper",
  fn: async (t) => {
    await using ensemble = await startEnsemble();
    await conform(t, ensemble.addresses);
  },
});

const opcodes = { create: 1, remove: 2, write: 5 };

/** True when these bytes contain a request with this operation and part of this path. */
function carries(operation: number, path: string): (bytes: Uint8Array) => boolean {
  return (bytes) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at + 12 <= bytes.length; at += 4 + view.getInt32(at)) {
      const frame = bytes.subarray(at, at + 4 + view.getInt32(at));
      if (view.getInt32(at + 8) === operation && new TextDecoder().decode(frame).includes(path)) {
        return true;
      }
    }
    return false;
  };
}

serverTest({
  name: "an operation whose answer is lost takes effect once, or rejects with an unknown outcome",
  needs: "zookeeper",
  fn: async (t) => {
    await using server = await startZookeeper();
    await using proxy = new FaultyProxy(server);
    await using a = await connect([proxy.address]);
    await using b = await connect([server.address]);
    using views = await Views.of(b, "spear");

    await t.step("register and update succeed", async () => {
      proxy.cutAnswerTo(carries(opcodes.create, "spear1"));
      await using registration = await a.register(someInstance("spear1"));
      assert.ok(proxy.cutDone);
      await views.settle("spear1");
      proxy.cutAnswerTo(carries(opcodes.write, "spear1"));
      await registration.update({ meta: { updated: true } });
      assert.ok(proxy.cutDone);
      await waitFor(() => views.last?.instances[0]?.meta.updated === true);
      proxy.cutAnswerTo(carries(opcodes.remove, "spear1"));
    });
    await t.step("disposing a registration succeeds", async () => {
      assert.ok(proxy.cutDone);
      await views.settle("");
    });
    await t.step("acquire and release succeed", async () => {
      proxy.cutAnswerTo(carries(opcodes.create, "key"));
      const lease = await a.acquire("key", "a");
      assert.ok(proxy.cutDone);
      assert.ok(lease !== undefined && lease.validUntil() > performance.now());
      assert.equal(await b.acquire("key", "b"), undefined);
      proxy.cutAnswerTo(carries(opcodes.remove, "key"));
      await lease[Symbol.asyncDispose]();
      assert.ok(proxy.cutDone);
      await using next = await b.acquire("key", "b");
      assert.ok(next);
    });
    await t.step("a cell's write that happened has an unknown outcome", async () => {
      const cell = a.cell("cell");
      proxy.cutAnswerTo(carries(opcodes.create, "cell"));
      await assert.rejects(cell.write("1", undefined), RegistryUnavailableError);
      assert.ok(proxy.cutDone);
      assert.deepEqual(await cell.read(), { value: "1", version: 0 });
      proxy.cutAnswerTo(carries(opcodes.write, "cell"));
      await assert.rejects(
        cell.write("2", { value: "1", version: 0 }),
        RegistryUnavailableError,
      );
      assert.ok(proxy.cutDone);
      assert.deepEqual(await cell.read(), { value: "2", version: 1 });
    });
    await t.step("a cell's write that was lost is repeated", async () => {
      proxy.swallow();
      const written = a.cell("cell").write("3", { value: "2", version: 1 });
      await waitFor(() => a.state === "suspended");
      proxy.pass();
      assert.deepEqual(await written, { value: "3", version: 2 });
    });
    await t.step(
      "a cell's write that was lost, while another writer was first, is a conflict",
      async () => {
        proxy.swallow();
        const known = { value: "3", version: 2 };
        const written = a.cell("cell").write("mine", known);
        await waitFor(() => a.state === "suspended");
        await b.cell("cell").write("theirs", known);
        proxy.pass();
        await assert.rejects(written, ConflictError);
      },
    );
    await t.step("an operation rejects in time when nothing answers", async () => {
      proxy.swallow();
      await Promise.all([
        assert.rejects(a.cell("cell").read(), RegistryUnavailableError),
        assert.rejects(a.acquire("other", "a"), RegistryUnavailableError),
        assert.rejects(a.watch("stat", () => {}), RegistryUnavailableError),
        assert.rejects(a.register(someInstance("spear9")), RegistryUnavailableError),
      ]);
      proxy.pass();
      await waitFor(() => a.state === "connected");
      // An operation that was given up does not take effect later.
      await using _other = await eventually(() => b.acquire("other", "b"));
      await using _spear9 = await b.register(someInstance("spear9"));
    });
  },
});

async function eventually<T>(acquire: () => Promise<T | undefined>): Promise<T> {
  let lease: T | undefined;
  await waitFor(async () => (lease = await acquire()) !== undefined, { what: "the lease" });
  return lease as T;
}

serverTest({
  name: "a watch of many instances reads only those that changed",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using proxy = new FaultyProxy(server);
    await using registering = await connect([server.address]);
    await using watching = await connect([proxy.address]);
    const meta = { text: "x".repeat(10_000) };
    const names = Array.from({ length: 50 }, (_, index) => `spear${100 + index}`);
    const [first] = await Promise.all(
      names.map((name) => registering.register(someInstance(name, { meta }))),
    );
    using views = await Views.of(watching, "spear");
    assert.ok(proxy.answerBytes > 500_000);

    const before = proxy.answerBytes;
    await first?.update({ meta: { ...meta, changed: true } });
    await waitFor(() => views.last?.instances[0]?.meta.changed === true);
    await using _new = await registering.register(someInstance("spear200", { meta }));
    await views.settle([...names, "spear200"].join(" "));
    await first?.[Symbol.asyncDispose]();
    await views.settle([...names.slice(1), "spear200"].join(" "));
    const read = proxy.answerBytes - before;
    assert.ok(read < 50_000, `${read} bytes read for three changes`);
  },
});

serverTest({
  name: "connectZookeeper skips servers that accept connections and never answer",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using silent = new FaultyProxy(server);
    await using silentToo = new FaultyProxy(server);
    silent.swallow();
    silentToo.freeze();
    const servers = [silent.address, silentToo.address, server.address];
    // The order is random: some of these try a silent server first.
    const registries = await Promise.all(Array.from({ length: 6 }, () => connect(servers)));
    for (const registry of registries) {
      assert.equal(registry.state, "connected");
      await registry[Symbol.asyncDispose]();
    }
  },
});

slowTest("connectZookeeper rejects naming the servers that cannot be reached", async () => {
  const refusing = `127.0.0.1:${freePort()}`;
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const silent = `127.0.0.1:${listener.addr.port}`;
  for (const servers of [[refusing], [silent], [refusing, silent]]) {
    await assert.rejects(
      connect(servers, { connectMs: 300 }),
      (error) =>
        error instanceof RegistryUnavailableError && error.message.includes(servers.join(", ")),
    );
  }
});

serverTest({
  name: "closing ends in time and leaves nothing running, whatever the servers do",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    const [a, b, c] = await Promise.all([1, 2, 3].map(() => connect([server.address])));
    await b?.register(someInstance("spear1"));
    const registering = assert.rejects(async () => await c?.register(someInstance("spear1")));
    server.freeze();
    await a?.[Symbol.asyncDispose]();
    await waitFor(() => b?.state === "suspended");
    await b?.[Symbol.asyncDispose]();
    await server.kill();
    await c?.[Symbol.asyncDispose]();
    await registering;
  },
});

serverTest({
  name: "connectZookeeper waits for a server that is still starting",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await server.kill();
    const registry = connect([server.address], { connectMs: 60_000 });
    await server.start();
    await (await registry)[Symbol.asyncDispose]();
  },
});

serverTest({
  name: "credentials protect a registry's nodes from others",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    const credentials = "gru:a secret: with a colon";
    await using ours = await connect([server.address], { credentials });
    await using ours2 = await connect([server.address], { credentials });
    await using _registration = await ours.register(someInstance("spear1"));
    using views = await Views.of(ours2, "spear");
    assert.equal(views.names, "spear1");
    await using lease = await ours.acquire("key", "");
    assert.ok(lease);
    await ours.cell("cell").write("1", undefined);
    for (const others of [{}, { credentials: "gru:wrong" }]) {
      await assert.rejects(
        connect([server.address], others),
        /create \/gru\/services: .*NO_AUTH.*GRU_ZOOKEEPER_CREDENTIALS/,
      );
    }
  },
});

/** Opens a session that changes what registries keep. */
async function tamper(
  servers: readonly string[],
  fn: (session: ZookeeperSession) => Promise<void>,
): Promise<void> {
  const connected = Promise.withResolvers<void>();
  const session = new ZookeeperSession({
    servers,
    sessionMs,
    log: logger("test"),
    onState: (state) => state === "connected" && connected.resolve(),
    onRefused: () => {},
  });
  await connected.promise;
  try {
    await fn(session);
  } finally {
    await session.close();
  }
}

serverTest({
  name: "a registry repairs nodes that others break",
  needs: "zookeeper",
  fn: async (t) => {
    await using server = await startZookeeper();
    await using a = await connect([server.address]);
    await using b = await connect([server.address]);
    await using _spear1 = await a.register(someInstance("spear1"));
    const lease = await a.acquire("key", "");
    using views = await Views.of(b, "spear");

    await t.step("a node without a valid instance is left out", async () => {
      await tamper([server.address], async (session) => {
        for (const [name, data] of [["x", ""], ["y", "{]"], ["z", '{"name":1}']] as const) {
          await session.create(`/gru/services/spear/${name}`, data, "persistent");
        }
      });
      await using _spear2 = await a.register(someInstance("spear2"));
      await views.settle("spear1 spear2");
      await tamper([server.address], async (session) => {
        for (const name of ["x", "y", "z"]) await session.remove(`/gru/services/spear/${name}`, 0);
      });
    });
    await t.step("a registration is restored, a lease is lost", async () => {
      await views.settle("spear1");
      await tamper([server.address], async (session) => {
        await session.remove("/gru/leases/key", 0);
        await session.remove("/gru/services/spear/spear1", 0);
      });
      await waitFor(() => lease?.lost.aborted === true);
      assert.equal(lease?.validUntil(), -Infinity);
      await views.settle("spear1");
      await using next = await a.acquire("key", "");
      await lease?.[Symbol.asyncDispose]();
      assert.equal(next?.lost.aborted, false);
    });
    await t.step("a removed tree is created again", async () => {
      await using registry = await connect([server.address], { root: "/some/where" });
      await tamper([server.address], async (session) => {
        for (const part of ["/services", "/leases", "/cells", ""]) {
          await session.remove(`/some/where${part}`, -1);
        }
        await session.remove("/some", -1);
      });
      await using _registration = await registry.register(someInstance("spear1"));
      using seen = await Views.of(registry, "spear");
      assert.equal(seen.names, "spear1");
      using _none = await Views.of(registry, "stat");
      await using key = await registry.acquire("key", "");
      assert.ok(key);
      assert.equal(await registry.cell("cell").read(), undefined);
      assert.deepEqual(await registry.cell("cell").write("", undefined), {
        value: "",
        version: 0,
      });
    });
  },
});

function startHolder(server: string): ServerProcess {
  const script = new URL("holder.ts", import.meta.url).pathname;
  const permissions = ["--allow-net", "--allow-env", "--allow-sys"];
  return new ServerProcess(Deno.execPath(), {
    args: ["run", "--no-check", ...permissions, script, server],
  });
}

function beliefs(holder: ServerProcess): Belief[] {
  const lines = holder.output.split("\n").slice(0, -1).filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line));
}

serverTest({
  name: "a process frozen for longer than its session finds its lease invalid, and registers again",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using registry = await connect([server.address]);
    using views = await Views.of(registry, "spear");
    await using holder = startHolder(server.address);
    await waitFor(() => beliefs(holder).at(-1)?.valid === true, { what: "the holder's lease" });
    await views.settle("spear1");

    holder.freeze();
    await using lease = await eventually(() => registry.acquire("key", "rival"));
    const rivalFrom = Date.now();
    await views.settle("");
    holder.thaw();
    await waitFor(() => beliefs(holder).at(-1)?.lost === true, { what: "the holder's loss" });
    for (const { lastValidAt } of beliefs(holder)) {
      assert.ok(lastValidAt < rivalFrom, "the holder used its lease after its rival had got it");
    }
    assert.ok(lease.validUntil() > performance.now());
    await views.settle("spear1");
  },
});

serverTest({
  name: "register waits for the session of a killed process of the same name to end",
  needs: "zookeeper",
  fn: async () => {
    await using server = await startZookeeper();
    await using registry = await connect([server.address]);
    using views = await Views.of(registry, "spear");
    await using killed = startHolder(server.address);
    await views.settle("spear1");
    await killed.kill();
    const instance = someInstance("spear1", { meta: { restarted: true } });
    await using _registration = await registry.register(instance);
    await waitFor(() => views.last?.instances[0]?.meta.restarted === true);
  },
});
