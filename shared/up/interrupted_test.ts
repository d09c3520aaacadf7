/** Programs that are stopped, before they are up or later, while a server that they need is out of reach. */
import assert from "node:assert/strict";
import { freePort, type ServerProcess, serverTest, waitFor } from "@gru/shared/testing/harness";
import { startZookeeper } from "@gru/shared/testing/zookeeper";
import { type Flags, type ProgramName, spawnProgram, TestCluster } from "./processes.ts";

/** From the signal to the end of the process. */
const limitMs = 2000;

/** Accepts connections, and then ends them at once or never says a word. */
class Unhelpful implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #serving: Promise<void>;
  readonly #connections: Deno.Conn[] = [];
  asked = 0;

  constructor(how: "silent" | "hangs up") {
    this.#serving = this.#serve(how);
  }

  get address(): string {
    return `127.0.0.1:${this.#listener.addr.port}`;
  }

  async #serve(how: "silent" | "hangs up"): Promise<void> {
    for await (const connection of this.#listener) {
      this.asked++;
      if (how === "silent") this.#connections.push(connection);
      else connection.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
    await this.#serving;
  }
}

/** Sends SIGTERM when it has asked for what it will not get, or is up without it, as a spear is without Redis. */
async function stopsInTime(
  program: ProgramName,
  unhelpful: Unhelpful,
  flags: Flags,
): Promise<void> {
  const environment = program === "minions" ? { GRU_MINIONS_PASSWORD: "to act" } : {};
  const all = { port: freePort(), ...flags };
  await using process = spawnProgram(program, "test1", all, environment);
  const began = () => unhelpful.asked > 0 || process.output.includes(" is up");
  await waitFor(() => began() || !process.running, { what: `${program} at its start` });
  assert.ok(process.running, process.output);
  await endsInTime(process);
}

async function endsInTime(process: ServerProcess): Promise<void> {
  const signalledAt = performance.now();
  await process.kill("SIGTERM");
  const tookMs = performance.now() - signalledAt;
  const { code } = await process.ended;
  assert.equal(code, 0, `it ended with ${code}: ${process.output}`);
  assert.ok(tookMs < limitMs, `it took ${tookMs} ms: ${process.output}`);
}

for (const how of ["silent", "hangs up"] as const) {
  for (const program of ["ticket", "spear", "stat", "idgen", "minions"] as const) {
    Deno.test(`${program}: SIGTERM ends it at once, in order, while it starts and ZooKeeper ${how}`, async () => {
      await using zookeeper = new Unhelpful(how);
      await stopsInTime(program, zookeeper, {
        registry: `zookeeper://${zookeeper.address}/gru`,
      });
    });
  }
}

serverTest({
  name: "SIGTERM ends spear and stat at once, in order, while Redis or RocketMQ does not answer",
  needs: "zookeeper",
  fn: async () => {
    await using zookeeper = await startZookeeper();
    const registry = `zookeeper://${zookeeper.address}/gru`;
    await using silent = new Unhelpful("silent");
    const redis = `redis://${silent.address}`;
    await stopsInTime("spear", silent, { registry, redis });
    silent.asked = 0;
    await stopsInTime("stat", silent, { registry, redis, httpPort: freePort() });
    silent.asked = 0;
    const rocketmq = silent.address;
    await stopsInTime("spear", silent, { registry, redis, rocketmq, mode: "rocketmq" });
  },
});

serverTest({
  name: "SIGTERM ends every program that is up at once, in order, while ZooKeeper is frozen",
  needs: "zookeeper",
  fn: async () => {
    await using gru = await TestCluster.start({ tickMs: 2000 });
    const [stat, idgen] = [await gru.add("stat", "test1"), await gru.add("idgen", "test1")];
    const programs = [
      await gru.add("spear", "test1", { drainMs: 0 }),
      ...[stat, idgen],
      await gru.add("ticket", "test1"),
      await gru.add("minions", "test1", {}, { GRU_MINIONS_PASSWORD: "to act" }),
    ];
    gru.zookeeper.freeze();
    try {
      for (const { process } of programs) await endsInTime(process);
    } finally {
      gru.zookeeper.thaw();
    }
  },
});
