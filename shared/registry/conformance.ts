/** The behaviour that every registry engine must have; each engine's own test file runs it. */
import assert from "node:assert/strict";
import {
  ConflictError,
  type Instance,
  NameTakenError,
  type Registry,
  RegistryUnavailableError,
  type View,
} from "./registry.ts";
import { waitFor } from "../testing/harness.ts";

export interface Cluster extends AsyncDisposable {
  /**
   * Opens a registry of this cluster as another process would. An engine for one process returns the same object every
   * time.
   */
  open(): Promise<Registry>;
}

export function someInstance(name: string, changes: Partial<Instance> = {}): Instance {
  return {
    service: "spear",
    name,
    addresses: { rpc: `http://127.0.0.1/${name}` },
    startedAt: 1_700_000_000_000,
    meta: { version: "1" },
    ...changes,
  };
}

/** The views of one watch, in order. */
export class Views implements Disposable {
  readonly all: View[] = [];
  #watch: Disposable | undefined;

  static async of(registry: Registry, service: string): Promise<Views> {
    const views = new Views();
    views.#watch = await registry.watch(service, (view) => void views.all.push(view));
    return views;
  }

  get last(): View | undefined {
    return this.all.at(-1);
  }

  get names(): string {
    return this.last?.instances.map((instance) => instance.name).join(" ") ?? "";
  }

  /** Waits for a current view of exactly these names. */
  async settle(names: string, timeoutMs?: number): Promise<void> {
    const settled = () => this.last?.stale === false && this.names === names;
    await waitFor(settled, { what: `a view of [${names}]`, ...timeoutMs ? { timeoutMs } : {} })
      .catch((error) => {
        throw new Error(`${error.message}; the last view is ${JSON.stringify(this.last)}`);
      });
  }

  [Symbol.dispose](): void {
    this.#watch?.[Symbol.dispose]();
  }
}

/** Runs each behaviour as a step, on a new cluster. */
export async function registryConformance(
  t: Deno.TestContext,
  start: () => Promise<Cluster>,
  options: { readonly independent: boolean },
): Promise<void> {
  async function step(
    name: string,
    fn: (a: Registry, b: Registry, cluster: Cluster) => Promise<void>,
  ): Promise<void> {
    await t.step(name, async () => {
      await using cluster = await start();
      await using a = await cluster.open();
      await using b = await cluster.open();
      await fn(a, b, cluster);
    });
  }

  await step("watch reports all instances that register while it starts", async (a, b) => {
    await using stack = new AsyncDisposableStack();
    for (let round = 0; round < 30; round++) {
      const service = `watched${round}`;
      const names = ["one", "two", "three"];
      const watching = Views.of(b, service);
      for (const name of names) stack.use(await a.register(someInstance(name, { service })));
      using views = await watching;
      // Sooner than an engine re-reads everything by itself.
      await views.settle(names.toSorted().join(" "), 10_000);
    }
  });

  await step("every watch sees a registration until it is disposed", async (a, b) => {
    using seenByA = await Views.of(a, "spear");
    using seenByB = await Views.of(b, "spear");
    assert.deepEqual(seenByB.all, [{ instances: [], stale: false }]);
    const instance = someInstance("spear1", { meta: { weight: 2, canary: true, zone: "Zürich" } });
    const registration = await a.register(instance);
    await seenByA.settle("spear1");
    await seenByB.settle("spear1");
    assert.deepEqual(seenByB.last?.instances, [instance]);
    await registration[Symbol.asyncDispose]();
    await seenByA.settle("");
    await seenByB.settle("");
    await registration[Symbol.asyncDispose]();
  });

  await step(
    "watch reports the full set of its service at once, sorted by name",
    async (a, b) => {
      await using _2 = await a.register(someInstance("spear2"));
      await using _1 = await b.register(someInstance("spear1"));
      await using _s = await a.register(someInstance("stat1", { service: "stat" }));
      using views = await Views.of(b, "spear");
      assert.equal(views.all.length, 1);
      assert.equal(views.names, "spear1 spear2");
    },
  );

  await step("watch reports nothing after it was disposed", async (a, b) => {
    const stopped = await Views.of(a, "spear");
    using views = await Views.of(a, "spear");
    stopped[Symbol.dispose]();
    stopped[Symbol.dispose]();
    await using _1 = await b.register(someInstance("spear1"));
    await views.settle("spear1");
    assert.equal(stopped.all.length, 1);
  });

  await step("watch continues when a listener throws", async (a, b) => {
    using _faulty = await a.watch("spear", () => {
      throw new Error("a listener's own fault");
    });
    using views = await Views.of(a, "spear");
    await using _1 = await b.register(someInstance("spear1"));
    await views.settle("spear1");
  });

  await step("watch reports each of many instances that join and leave", async (a, b) => {
    using views = await Views.of(a, "spear");
    const names = Array.from({ length: 50 }, (_, index) => `spear${100 + index}`);
    const registrations = await Promise.all(names.map((name) => b.register(someInstance(name))));
    await views.settle(names.join(" "));
    await Promise.all(registrations.slice(10).map((one) => one[Symbol.asyncDispose]()));
    await views.settle(names.slice(0, 10).join(" "));
  });

  await step("update replaces the addresses and meta that others see", async (a, b) => {
    using views = await Views.of(b, "spear");
    const registration = await a.register(someInstance("spear1"));
    await registration.update({ meta: { draining: true } });
    await waitFor(() => views.last?.instances[0]?.meta.draining === true);
    assert.deepEqual(views.last?.instances, [someInstance("spear1", { meta: { draining: true } })]);
    await registration.update({ addresses: {} });
    await waitFor(() => views.last?.instances[0]?.addresses.rpc === undefined);
    assert.deepEqual(views.last?.instances[0]?.meta, { draining: true });
    await registration[Symbol.asyncDispose]();
    await registration.update({ meta: {} });
    await views.settle("");
  });

  await step("register rejects a name that a live process holds", async (a, b) => {
    await using _1 = await a.register(someInstance("spear1"));
    await assert.rejects(a.register(someInstance("spear1")), NameTakenError);
    await assert.rejects(b.register(someInstance("spear1")), NameTakenError);
    using views = await Views.of(b, "spear");
    assert.equal(views.names, "spear1");
  });

  await step("register accepts a name again after it was released", async (a, b) => {
    for (const registry of [a, b, a]) {
      await using _1 = await registry.register(someInstance("spear1"));
    }
  });

  await step("names may contain any characters, but must not be empty or dots", async (a, b) => {
    const name = "a/b c%2F ü\u0001";
    await using _1 = await a.register(someInstance(name, { service: name }));
    using views = await Views.of(b, name);
    // Of an ensemble another server may be a moment behind.
    await waitFor(() => views.names === name);
    for (const bad of ["", ".", "..", "x".repeat(257), "\ud800"]) {
      await assert.rejects(a.register(someInstance(bad)), TypeError);
      await assert.rejects(a.register(someInstance("spear1", { service: bad })), TypeError);
      await assert.rejects(a.watch(bad, () => {}), TypeError);
      await assert.rejects(a.acquire(bad, ""), TypeError);
      assert.throws(() => a.cell(bad), TypeError);
    }
  });

  await step("acquire grants a key to one holder at a time", async (a, b) => {
    const lease = await a.acquire("idgen/worker/1", "a");
    assert.ok(lease);
    assert.equal(lease.key, "idgen/worker/1");
    assert.ok(lease.validUntil() > performance.now());
    assert.ok(lease.validFrom < Infinity);
    assert.equal(lease.lost.aborted, false);
    assert.equal(await a.acquire("idgen/worker/1", "a"), undefined);
    assert.equal(await b.acquire("idgen/worker/1", "b"), undefined);
    await using other = await b.acquire("idgen/worker", "b");
    assert.ok(other, "a key does not clash with one below it");
    await lease[Symbol.asyncDispose]();
    assert.equal(lease.lost.aborted, true);
    assert.equal(lease.validUntil(), -Infinity);
    await using next = await b.acquire("idgen/worker/1", "b");
    assert.ok(next);
    await lease[Symbol.asyncDispose]();
    assert.equal(next.lost.aborted, false);
    assert.ok(next.validUntil() > performance.now());
  });

  await step("acquire grants a key to exactly one of many simultaneous callers", async (a, b) => {
    const wanted = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 ? a : b).acquire("key", `${index}`)),
    );
    const leases = wanted.filter((lease) => lease !== undefined);
    assert.equal(leases.length, 1);
    await leases[0]?.[Symbol.asyncDispose]();
  });

  await step(
    "cell keeps a value, and only a caller that knows its version can change it",
    async (a, b) => {
      const here = a.cell("idgen/ceiling");
      const there = b.cell("idgen/ceiling");
      assert.equal(await there.read(), undefined);
      await assert.rejects(here.write("1", { value: "1", version: 0 }), ConflictError);
      const first = await here.write("1", undefined);
      assert.equal(first.value, "1");
      assert.deepEqual(await there.read(), first);
      await assert.rejects(there.write("2", undefined), ConflictError);
      const second = await there.write("2", first);
      assert.notEqual(second.version, first.version);
      await assert.rejects(here.write("3", first), ConflictError);
      assert.deepEqual(await here.read(), second);
      const empty = await here.write("", second);
      assert.deepEqual(await there.read(), empty);
      // As after a restore from a backup: the versions start again, and the same version means another value.
      const other = { ...empty, value: "other" };
      await assert.rejects(here.write("3", other), ConflictError);
      assert.deepEqual(await here.read(), empty);
      await using _below = await a.acquire("idgen/ceiling", "");
      assert.equal(await a.cell("idgen").read(), undefined);
      assert.equal(await a.cell("idgen/ceiling/below").read(), undefined);
    },
  );

  await step("cell loses no step when many callers count at once", async (a, b) => {
    async function count(registry: Registry): Promise<void> {
      const cell = registry.cell("counter");
      for (let steps = 0; steps < 20;) {
        const found = await cell.read();
        try {
          await cell.write(String(Number(found?.value ?? 0) + 1), found);
          steps++;
        } catch (error) {
          if (!(error instanceof ConflictError)) throw error;
        }
      }
    }
    await Promise.all([count(a), count(b), count(a), count(b)]);
    assert.equal((await b.cell("counter").read())?.value, "80");
  });

  await step("now reads one clock for all", async (a, b) => {
    for (let i = 0; i < 3; i++) {
      const times = [await a.now(), await b.now(), await a.now()];
      assert.deepEqual(times, times.toSorted((x, y) => x - y));
      assert.ok(Math.abs((times[0] ?? 0) - Date.now()) < 60_000);
    }
  });

  await step("a closed registry rejects every call, and closing twice is allowed", async (a) => {
    assert.equal(a.state, "connected");
    const lease = await a.acquire("key", "");
    await a[Symbol.asyncDispose]();
    await a[Symbol.asyncDispose]();
    assert.equal(a.state, "closed");
    assert.equal(lease?.lost.aborted, true);
    assert.equal(lease?.validUntil(), -Infinity);
    await assert.rejects(a.register(someInstance("spear1")), RegistryUnavailableError);
    await assert.rejects(a.watch("spear", () => {}), RegistryUnavailableError);
    await assert.rejects(a.acquire("key", ""), RegistryUnavailableError);
    await assert.rejects(a.now(), RegistryUnavailableError);
    await assert.rejects(a.cell("key").read(), RegistryUnavailableError);
    await assert.rejects(a.cell("key").write("", undefined), RegistryUnavailableError);
  });

  if (!options.independent) return;

  await step("closing removes everything that the registry held from the cluster", async (a, b) => {
    await a.register(someInstance("spear1"));
    await a.acquire("key", "a");
    await a.cell("cell").write("stays", undefined);
    using views = await Views.of(b, "spear");
    await a[Symbol.asyncDispose]();
    await using lease = await b.acquire("key", "b");
    assert.ok(lease);
    await views.settle("");
    assert.equal((await b.cell("cell").read())?.value, "stays");
  });
}
