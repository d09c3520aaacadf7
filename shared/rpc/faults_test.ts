/** The client against real processes that are killed, frozen, restarted and stopped under load. */
import assert from "node:assert/strict";
import { Registry as MetricsRegistry } from "prom-client";
import { MemoryRegistry } from "../registry/memory.ts";
import type { Registration } from "../registry/registry.ts";
import { freePort, slowTest, waitFor } from "../testing/harness.ts";
import { connectRpc, type RpcClient } from "./client.ts";
import type { RpcError } from "./contract.ts";
import { counterContract } from "./faults_fixture.ts";

type CounterClient = RpcClient<typeof counterContract>;

/** One instance: a process, its registration, and the calls that it reports as executed. */
class Instance implements AsyncDisposable {
  readonly added: string[] = [];
  readonly port = freePort();
  #process: Deno.ChildProcess | undefined;
  #output: Promise<void> | undefined;
  #registration: Registration | undefined;
  #listening = false;

  constructor(readonly registry: MemoryRegistry, readonly name: string) {}

  async start(): Promise<void> {
    this.#listening = false;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-net=127.0.0.1",
        "--ignore-env",
        "--ignore-read",
        new URL("faults_fixture.ts", import.meta.url).href,
        String(this.port),
      ],
      stdout: "piped",
    }).spawn();
    this.#output = this.#read(this.#process.stdout);
    await waitFor(() => this.#listening, { what: `${this.name} listens` });
  }

  async register(): Promise<void> {
    this.#registration = await this.registry.register({
      service: "counter",
      name: this.name,
      addresses: { rpc: `http://127.0.0.1:${this.port}` },
      startedAt: 1,
      meta: {},
    });
  }

  async leave(): Promise<void> {
    await this.#registration?.[Symbol.asyncDispose]();
  }

  signal(signal: Deno.Signal): void {
    this.#process?.kill(signal);
  }

  async ended(): Promise<void> {
    await this.#process?.status;
    await this.#output;
    this.#process = undefined;
  }

  async #read(stdout: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    let rest = "";
    for await (const chunk of stdout.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line.startsWith("listening ")) this.#listening = true;
        else this.added.push(line.slice("added ".length));
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#process === undefined) return;
    // No other signal can end a frozen process.
    this.#process.kill("SIGKILL");
    await this.ended();
  }
}

/** Calls without pause from several callers at once. Remembers how each call ended. */
class Load {
  readonly failures: string[] = [];
  readonly succeeded: string[] = [];
  #latencies: number[] = [];
  #running = true;
  #callers: Promise<void[]>;

  constructor(client: CounterClient, method: "read" | "add", callers = 16) {
    this.#callers = Promise.all(
      Array.from({ length: callers }, (_, caller) => this.#call(client, method, caller)),
    );
  }

  async #call(client: CounterClient, method: "read" | "add", caller: number): Promise<void> {
    for (let call = 0; this.#running; call++) {
      const id = `${caller}-${call}`;
      const startedAt = performance.now();
      try {
        const answer = await client.any[method]({ id });
        assert.equal(answer.id, id);
        this.succeeded.push(id);
      } catch (error) {
        const { code, message } = error as RpcError;
        this.failures.push(`${code}: ${message}`);
      }
      this.#latencies.push(performance.now() - startedAt);
    }
  }

  async more(calls: number): Promise<void> {
    const goal = this.succeeded.length + calls;
    await waitFor(() => this.succeeded.length >= goal, { what: `${calls} more calls` });
  }

  /** Prints the latencies since the last time. */
  phase(name: string): void {
    const sorted = this.#latencies.sort((a, b) => a - b);
    this.#latencies = [];
    const at = (part: number) =>
      (sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? NaN).toFixed(1);
    // deno-lint-ignore no-console
    console.log(
      `${name.padEnd(28)} ${String(sorted.length).padStart(6)} calls  p50 ${at(0.5)} ms  ` +
        `p99 ${at(0.99)} ms  max ${at(1)} ms  failed ${this.failures.length}`,
    );
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#callers;
  }
}

async function cluster(stack: AsyncDisposableStack) {
  const registry = new MemoryRegistry();
  const [one, two, three] = ["ledger1", "ledger2", "ledger3"].map((name) =>
    stack.use(new Instance(registry, name))
  );
  assert(one && two && three);
  await Promise.all([one, two, three].map((instance) => instance.start()));
  for (const instance of [one, two, three]) await instance.register();
  const metrics = new MetricsRegistry();
  const client = stack.use(
    await connectRpc(counterContract, { registry, timeoutMs: 5000, metrics }),
  );
  const ejections = async () => {
    const metric = await metrics.getSingleMetric("gru_rpc_client_ejections_total")?.get();
    return metric?.values[0]?.value ?? 0;
  };
  return { client, ejections, instances: [one, two, three] as const };
}

/** Resolves when this instance answers a call. */
async function answers(client: CounterClient, instance: Instance): Promise<void> {
  await client.at(instance.name).read({ id: "there?" }, { timeoutMs: 30_000 });
}

slowTest(
  "idempotent calls do not fail while instances are killed, frozen and restarted",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { client, ejections, instances: [killed, frozen, restarted] } = await cluster(stack);
    const load = new Load(client, "read");
    await load.more(500);
    load.phase("(warming up)");
    await load.more(3000);
    load.phase("before");

    killed.signal("SIGKILL");
    await killed.ended();
    await load.more(1000);
    load.phase("one is killed");
    await killed.leave();
    await load.more(3000);
    load.phase("after");

    const ejected = await ejections();
    frozen.signal("SIGSTOP");
    await waitFor(async () => await ejections() > ejected, {
      what: "the frozen instance to be ejected",
    });
    await load.more(1000);
    load.phase("one is frozen");
    await load.more(3000);
    load.phase("after");
    frozen.signal("SIGCONT");
    await answers(client, frozen);
    await load.more(1000);
    load.phase("it resumes");
    await load.more(3000);
    load.phase("after");

    restarted.signal("SIGKILL");
    await restarted.ended();
    await load.more(500);
    await restarted.start();
    await answers(client, restarted);
    load.phase("one is restarted");
    await load.more(3000);
    load.phase("after");

    await load.stop();
    assert.deepEqual(load.failures, []);
  },
);

slowTest(
  "a call that is not idempotent is never executed twice, whichever process dies",
  async () => {
    await using stack = new AsyncDisposableStack();
    const { client, instances } = await cluster(stack);
    const [killed, frozen, restarted] = instances;
    const load = new Load(client, "add");
    await load.more(500);
    killed.signal("SIGKILL");
    await killed.ended();
    await load.more(500);
    frozen.signal("SIGSTOP");
    await load.more(500);
    frozen.signal("SIGCONT");
    restarted.signal("SIGKILL");
    await restarted.ended();
    await load.more(200);
    await restarted.start();
    await load.more(500);
    await load.stop();
    load.phase("not idempotent");

    // The output is complete only after the process has ended.
    for (const instance of [frozen, restarted]) instance.signal("SIGTERM");
    for (const instance of [frozen, restarted]) await instance.ended();
    const executed = instances.flatMap((instance) => instance.added);
    assert.equal(new Set(executed).size, executed.length);
    const missing = load.succeeded.filter((id) => !executed.includes(id));
    assert.deepEqual(missing, [], "what succeeded was executed");
    // Only calls under way at a killed or frozen instance may have an unknown outcome.
    assert(load.failures.length <= 3 * 16, load.failures.join("\n"));
    for (const failure of load.failures) assert.match(failure, /^(unavailable|unknown): /);
  },
);

slowTest("no call fails while an instance stops in order, idempotent or not", async () => {
  await using stack = new AsyncDisposableStack();
  const { client, instances: [first, second] } = await cluster(stack);
  const reads = new Load(client, "read", 8);
  const adds = new Load(client, "add", 8);
  await adds.more(300);
  // In order: leave the registry, accept no new calls, finish the calls under way, exit.
  await first.leave();
  first.signal("SIGTERM");
  await first.ended();
  await adds.more(300);
  // The registry still lists this instance: calls still arrive, are rejected without effect, and go to another
  // instance.
  second.signal("SIGTERM");
  await second.ended();
  await adds.more(300);
  await Promise.all([reads.stop(), adds.stop()]);
  reads.phase("leaving, reads");
  adds.phase("leaving, adds");
  assert.deepEqual([...reads.failures, ...adds.failures], []);
});
