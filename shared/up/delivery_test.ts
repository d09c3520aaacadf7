/**
 * The guarantees of delivery, on real processes that are really killed, frozen and cut off, under load: what was
 * accepted, delivered, lost, doubled. The clients are the library's.
 */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { type RocketmqServer, rocketmqTest, startRocketmq } from "@gru/shared/testing/rocketmq";
import { whileDown } from "@gru/shared/testing/zookeeper";
import { logger } from "@gru/shared/log";
import { parseRedisAddress } from "@gru/shared/redis/address";
import { moveShards } from "@gru/shared/redis/move_shards";
import { type RedisServer, type RedisServerOptions, startRedis } from "@gru/shared/testing/redis";
import { type Flags, type RunningProgram, TestCluster } from "./processes.ts";
import { faultsOf, Ledger, noFaults } from "../../spear/load/ledger.ts";
import { settled, Talk, Witness } from "../../spear/load/witness.ts";

const clientCount = 300;
const groupSize = 10;
const messagesPerSecond = 600;
/** Load before and after each fault. */
const calmMs = 2000;
const drainMs = 4000;
/** Of the library: so that each fault is over soon. */
const retry = { firstMs: 200, mostMs: 2000 };

type ProgramNames = "idgen1" | "idgen2" | "stat" | "spear1" | "spear2" | "spear3" | "ticket";

interface Scene extends AsyncDisposable {
  readonly cluster: TestCluster;
  readonly programs: Record<ProgramNames, RunningProgram>;
  /** Between spear3 and Redis. */
  readonly proxy: FaultyProxy;
}

/** Each leaves the cluster whole again. */
type Fault = (scene: Scene, talk: Talk, witnesses: readonly Witness[]) => Promise<void>;

const spearFaults: Readonly<Record<string, Fault>> = {
  "spear frozen for 20 s": async ({ programs }) => {
    programs.spear2.process.freeze();
    await pause(20_000);
    programs.spear2.process.thaw();
  },
  "spear killed, started again": async ({ programs }) => {
    programs.spear1 = await programs.spear1.restart();
  },
  "spear stopped (drain), started again": async ({ programs }) => {
    const { process } = programs.spear2;
    await process.kill("SIGTERM");
    assert.equal((await process.ended).code, 0, process.output);
    programs.spear2 = await programs.spear2.restart();
  },
};

const redisFaults: Readonly<Record<string, Fault>> = {
  "Redis killed, started again": async ({ cluster }) => {
    await cluster.redis.kill();
    await pause(1000);
    await cluster.redis.start();
  },
  "a spear cut off from Redis for 5 s": async ({ proxy }) => {
    proxy.refuse();
    proxy.cut();
    await pause(5000);
    proxy.pass();
  },
};

const otherFaults: Readonly<Record<string, Fault>> = {
  "Redis frozen for 10 s": async ({ cluster }) => {
    cluster.redis.freeze();
    await pause(10_000);
    cluster.redis.thaw();
  },
  "ZooKeeper killed, started again": async ({ cluster }) => {
    await cluster.zookeeper.kill();
    await pause(1000);
    await cluster.zookeeper.backUp();
    await cluster.zookeeper.start();
  },
  "active idgen killed": async ({ programs }) => {
    programs.idgen1 = await programs.idgen1.restart();
  },
  "stat killed, started again": async ({ programs }) => {
    programs.stat = await programs.stat.restart();
  },
  "ZooKeeper restored from its backup of then": (scene) =>
    heals(scene, async ({ zookeeper }) => await zookeeper.restore()),
  "ZooKeeper replaced by an empty one": (scene) =>
    heals(scene, async ({ zookeeper }) => await zookeeper.empty()),
};

/** ZooKeeper goes down, something is done to its data, and 15 s after it serves again all programs are ready. */
async function heals(
  { cluster, programs }: Scene,
  act: (cluster: TestCluster) => Promise<void>,
): Promise<void> {
  await whileDown([cluster.zookeeper], () => act(cluster));
  await Promise.all(
    Object.values(programs).map(({ monitor, process }) =>
      waitFor(async () => (await readiness(monitor)) === 200, { timeoutMs: 15_000, what: monitor })
        .catch((error) => {
          throw new Error(`${error.message}; it wrote: ${process.output}`);
        })
    ),
  );
}

async function readiness(monitor: string): Promise<number> {
  const response = await fetch(`${monitor}/readyz`);
  await response.body?.cancel();
  return response.status;
}

function rocketmqFaults(rocketmq: RocketmqServer): Readonly<Record<string, Fault>> {
  return {
    "RocketMQ killed, started again": async () => {
      await rocketmq.kill();
      await pause(1000);
      await rocketmq.start();
    },
  };
}

/** One spear after the other is stopped in order and started with another mode; one is killed in the middle of it. */
function switchFaults(rocketmq: string): Readonly<Record<string, Fault>> {
  const restart = async (
    programs: Scene["programs"],
    name: "spear1" | "spear2" | "spear3",
    mode: string,
    signal: Deno.Signal = "SIGTERM",
  ) => {
    programs[name] = await programs[name].restart({ signal, flags: { mode, rocketmq } });
  };
  const all = async (programs: Scene["programs"], mode: string, second: Deno.Signal) => {
    await restart(programs, "spear1", mode);
    await restart(programs, "spear2", mode, second);
    await restart(programs, "spear3", mode);
  };
  return {
    "all spears from rocketmq to redis, one by one": ({ programs }) =>
      all(programs, "redis", "SIGTERM"),
    "and back, one is killed in the middle": ({ programs }) => all(programs, "rocketmq", "SIGKILL"),
  };
}

/** For a Redis with `appendfsync everysec`. */
const powerFaults: Readonly<Record<string, Fault>> = {
  "Redis without its last second, as after a loss of power": async (
    { cluster },
    talk,
    witnesses,
  ) => {
    const moment = await cluster.redis.fileMoment();
    await pause(1000);
    // What is under way when the power goes may come twice: nobody knows of it any more.
    talk.stop();
    await waitFor(() => witnesses.every(({ unanswered }) => unanswered === 0));
    await cluster.redis.losePower(moment);
    talk.start();
  },
};

async function setScene(spearFlags: Flags, redisOptions?: RedisServerOptions): Promise<Scene> {
  await using stack = new AsyncDisposableStack();
  const cluster = stack.use(
    await TestCluster.start({
      tickMs: 1000,
      ...(redisOptions === undefined ? {} : { redis: redisOptions }),
    }),
  );
  const proxy = stack.use(new FaultyProxy({ port: cluster.redis.port }));
  const flags = { "zookeeper.sessionMs": 2500 };
  const spear = { ...flags, ...spearFlags, drainMs };
  const redis = spearFlags.redis ?? `redis://127.0.0.1:${proxy.port}`;
  const [idgen1, stat, spear1, spear2, spear3, ticket] = await Promise.all([
    cluster.add("idgen", "test1", { ...flags, ceilingMs: 2000 }),
    cluster.add("stat", "test1", flags),
    cluster.add("spear", "test1", spear),
    cluster.add("spear", "test2", spear),
    cluster.add("spear", "test1", { ...spear, id: 3, redis }),
    cluster.add("ticket", "test1", flags),
  ]);
  const idgen2 = await cluster.add("idgen", "test2", { ...flags, ceilingMs: 2000 });
  const owned = stack.move();
  return {
    cluster,
    proxy,
    programs: { idgen1, idgen2, stat, spear1, spear2, spear3, ticket },
    // The programs first: what they are connected to goes last.
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function endure(
  t: Deno.TestContext,
  scene: Scene,
  faults: Readonly<Record<string, Fault>>,
): Promise<void> {
  const { address } = scene.programs.ticket;
  await using running = new AsyncDisposableStack();
  let ledger = new Ledger();
  const witnesses = Array.from({ length: clientCount }, (_, i) => {
    const group = 1 + i % (clientCount / groupSize);
    return running.use(
      new Witness({ ticket: address, retry, userId: i + 1, group, ledger: () => ledger }),
    );
  });
  await waitFor(() => witnesses.every(({ ready }) => ready), { what: "all clients are in" });

  const rows: Record<string, object> = {};
  for (const [name, fault] of Object.entries(faults)) {
    await t.step(name, async () => {
      ledger = new Ledger();
      for (const witness of witnesses) witness.resetSilence();
      using talk = new Talk(witnesses, messagesPerSecond);
      talk.start();
      await pause(calmMs);
      await fault(scene, talk, witnesses);
      await pause(calmMs);
      talk.stop();
      const counts = await settled(witnesses, ledger);
      rows[name] = counts;
      assert.deepEqual(faultsOf(counts), noFaults);
      assert.equal(counts.accepted, counts.sent);
      assert.ok(counts.accepted > messagesPerSecond, `${counts.accepted} accepted`);
    });
  }
  // deno-lint-ignore no-console -- the figures are for people
  console.table(rows);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

serverTest({
  name: "mode redis: whatever dies, what was accepted arrives once and in order",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using scene = await setScene({ mode: "redis" });
    await endure(t, scene, { ...spearFaults, ...redisFaults, ...otherFaults });
  },
});

serverTest({
  name:
    "mode redis: a Redis that has lost its last second loses nothing that was accepted, and doubles nothing",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using scene = await setScene({ mode: "redis" }, { appendOnly: "everysec" });
    await endure(t, scene, { ...powerFaults, ...redisFaults });
  },
});

serverTest({
  name: "mode redis over several Redis: one dies, one comes and one goes, and nothing is lost",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const [a, b, c] = await Promise.all(
      [1, 2, 3].map(async () => stack.use(await startRedis({ appendOnly: true }))),
    );
    assert.ok(a && b && c);
    const addressOf = (...shards: readonly RedisServer[]) =>
      `shards:${shards.map(({ port }) => `127.0.0.1:${port}`)}`;
    const move = async (...addresses: readonly string[]) => {
      const [from, to] = addresses.map(parseRedisAddress);
      assert.ok(from?.kind === "shards" && to?.kind === "shards");
      await moveShards({ seeds: from.nodes, next: to.nodes, log: logger("shards") });
    };
    await using scene = await setScene({ mode: "redis", redis: addressOf(a, b) });
    await endure(t, scene, {
      "one killed, started again": async () => {
        await a.kill();
        await pause(1000);
        await a.start();
      },
      "one more, while a spear is frozen": async ({ programs }) => {
        programs.spear2.process.freeze();
        await move(addressOf(a, b), addressOf(a, b, c));
        await pause(3000);
        programs.spear2.process.thaw();
      },
      "one less, and a spear that comes back with the first list": async ({ programs }) => {
        await move(addressOf(a), addressOf(a, c));
        programs.spear1 = await programs.spear1.restart();
      },
    });
  },
});

rocketmqTest({
  name: "mode rocketmq: whatever dies, what was accepted arrives once and in order",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using rocketmq = await startRocketmq({ topics: ["gru"] });
    await using scene = await setScene({
      mode: "rocketmq",
      rocketmq: `127.0.0.1:${rocketmq.port}`,
    });
    const modes = switchFaults(rocketmq.address);
    await endure(t, scene, {
      ...modes,
      ...rocketmqFaults(rocketmq),
      ...spearFaults,
      ...redisFaults,
    });
  },
});

rocketmqTest({
  name:
    "mode rocketmq with two brokers: one is killed and comes back, and what was accepted arrives once and in order",
  needs: ["zookeeper", "redis"],
  fn: async (t) => {
    await using rocketmq = await startRocketmq({ topics: ["gru"], brokers: 2 });
    await using scene = await setScene({ mode: "rocketmq", rocketmq: rocketmq.address });
    const [, mortal] = rocketmq.brokers;
    await endure(t, scene, {
      "one broker of two killed, started again": async () => {
        await mortal?.kill();
        await pause(5000);
        await mortal?.start();
      },
    });
  },
});
