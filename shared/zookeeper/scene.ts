/**
 * A small working cluster for fault tests: it registers, watches, contends for a lease and counts, and records every
 * violation.
 */
import assert from "node:assert/strict";
import { logger } from "../log.ts";
import {
  ConflictError,
  type Lease,
  type Registry,
  RegistryUnavailableError,
} from "../registry/registry.ts";
import { someInstance, Views } from "../registry/conformance.ts";
import { connectZookeeper, type ZookeeperOptions } from "./registry.ts";
import { waitFor } from "../testing/harness.ts";

export const sessionMs = 2000;

export function connect(
  servers: readonly string[],
  changes: Partial<ZookeeperOptions> = {},
): Promise<Registry> {
  return connectZookeeper({ servers, root: "/gru", sessionMs, log: logger("test"), ...changes });
}

export function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}

export class Scene implements AsyncDisposable {
  readonly registries: readonly Registry[];
  readonly views: Views;
  readonly #opened: AsyncDisposableStack;
  readonly #work: Promise<void>[] = [];
  readonly #sampler: ReturnType<typeof setInterval>;
  readonly #violations: string[] = [];
  readonly #holders = new Map<Lease, string>();
  readonly #versions = new Set<number>();
  #stopped = false;
  #doubtful = 0;
  #viewsSeen = 0;
  #validAt = performance.now();
  #longestWithoutLeaseMs = 0;

  /** Two workers on the servers given for each, and a watcher on the servers of the last one. */
  static async start(...servers: (readonly string[])[]): Promise<Scene> {
    await using opened = new AsyncDisposableStack();
    const registries: Registry[] = [];
    for (const list of [servers[0] ?? [], servers[1] ?? servers[0] ?? [], servers.at(-1) ?? []]) {
      registries.push(opened.use(await connect(list)));
    }
    const [a, b, watcher] = registries as [Registry, Registry, Registry];
    opened.use(await a.register(someInstance("spear1")));
    opened.use(await b.register(someInstance("spear2")));
    const views = opened.use(await Views.of(watcher, "spear"));
    assert.equal(views.names, "spear1 spear2");
    return new Scene(registries, views, opened.move());
  }

  constructor(registries: readonly Registry[], views: Views, opened: AsyncDisposableStack) {
    this.registries = registries;
    this.views = views;
    this.#opened = opened;
    for (const [index, registry] of registries.slice(0, 2).entries()) {
      this.#work.push(this.#contend(registry, `worker ${index + 1}`));
      this.#work.push(this.#count(registry, `worker ${index + 1}`));
    }
    this.#sampler = setInterval(() => this.#sample(), 2);
  }

  /** Waits until this worker has the lease. */
  async holds(worker: number): Promise<void> {
    const who = `worker ${worker}`;
    await waitFor(() => [...this.#holders.values()].includes(who), {
      what: `${who} with the lease`,
    });
  }

  /**
   * Runs the fault, waits until everything works again, checks that nothing went wrong in between, and prints the time.
   * `missing`: names that views may lack, because their sessions really ended.
   */
  async survive(name: string, fault: () => Promise<void>, missing = ""): Promise<void> {
    await this.#progress();
    const from = performance.now();
    this.#longestWithoutLeaseMs = 0;
    await fault();
    const faultMs = performance.now() - from;
    await this.#progress();
    await this.views.settle("spear1 spear2");
    const healMs = performance.now() - from - faultMs;
    await this.#check(missing);
    const columns = [faultMs, healMs, this.#longestWithoutLeaseMs].map((ms) =>
      `${Math.round(ms)} ms`.padStart(9)
    );
    // deno-lint-ignore no-console
    console.log(
      `${name.padEnd(44)} fault ${columns[0]}  healed after ${
        columns[1]
      }  longest without a lease ${
        columns[2]
      }  counted ${this.#versions.size}, in doubt ${this.#doubtful}`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#work);
    clearInterval(this.#sampler);
    await this.#opened.disposeAsync();
  }

  /** Waits until all are connected, a worker holds the lease, and a worker has counted since the call. */
  async #progress(): Promise<void> {
    const counted = this.#versions.size;
    const from = performance.now();
    await waitFor(
      () =>
        this.registries.every((registry) => registry.state === "connected") &&
        this.#versions.size > counted && this.#validAt > from,
      { timeoutMs: 60_000, what: "progress of all" },
    );
  }

  async #check(missing: string): Promise<void> {
    const expected = ["spear1", "spear2"].filter((name) => !missing.includes(name));
    for (const view of this.views.all.slice(this.#viewsSeen)) {
      const names = view.instances.map((instance) => instance.name);
      if (!expected.every((name) => names.includes(name))) {
        this.#violations.push(`a view of [${names}] only, stale: ${view.stale}`);
      }
    }
    this.#viewsSeen = this.views.all.length;
    assert.deepEqual(this.#violations, []);
    const confirmed = this.#versions.size;
    const cell = await this.registries[0]?.cell("counter").read();
    const count = Number(cell?.value.split(" ")[0]);
    assert.equal(count, (cell?.version ?? NaN) + 1, "each step is one write");
    assert.ok(count >= confirmed, `${count} steps, ${confirmed} confirmed`);
    const possible = this.#versions.size + this.#doubtful;
    assert.ok(count <= possible, `${count} steps, ${possible} possible`);
  }

  async #contend(registry: Registry, who: string): Promise<void> {
    while (!this.#stopped) {
      const lease = await registry.acquire("key", who).catch(ignoreUnavailable);
      if (lease !== undefined) {
        this.#holders.set(lease, who);
        const until = performance.now() + 200 + 1000 * Math.random();
        while (!this.#stopped && !lease.lost.aborted && performance.now() < until) await pause(5);
        // A holder that cannot reach ZooKeeper keeps its lease, as a program does that cannot know better.
        while (!this.#stopped && !lease.lost.aborted && registry.state !== "connected") {
          await pause(5);
        }
        await lease[Symbol.asyncDispose]();
        this.#holders.delete(lease);
      }
      await pause(20);
    }
  }

  async #count(registry: Registry, who: string): Promise<void> {
    const cell = registry.cell("counter");
    while (!this.#stopped) {
      try {
        const found = await cell.read();
        const next = Number(found?.value.split(" ")[0] ?? 0) + 1;
        this.#doubtful++;
        // Both sometimes write the same text, so that the text cannot show which worker wrote it.
        const text = Math.random() < 0.5 ? `${next}` : `${next} ${who}`;
        const { version } = await cell.write(text, found);
        this.#doubtful--;
        if (this.#versions.has(version)) {
          this.#violations.push(`version ${version} was written twice`);
        }
        this.#versions.add(version);
      } catch (error) {
        if (error instanceof ConflictError) this.#doubtful--;
        else ignoreUnavailable(error);
      }
      await pause(5);
    }
  }

  #sample(): void {
    const now = performance.now();
    const valid = [...this.#holders].filter(([lease]) => lease.validUntil() > now);
    if (valid.length > 1) {
      this.#violations.push(`two hold the lease: ${valid.map(([, who]) => who).join(" and ")}`);
    }
    if (valid.length === 0) {
      this.#longestWithoutLeaseMs = Math.max(this.#longestWithoutLeaseMs, now - this.#validAt);
    } else {
      this.#validAt = now;
    }
  }
}

function ignoreUnavailable(error: unknown): undefined {
  if (!(error instanceof RegistryUnavailableError)) throw error;
}
