/**
 * Hooks under random faults: 3 spears, 2 stats, users of the client library who come, go and talk, while spears, the sending stat,
 * Redis and ZooKeeper are killed and the receiver is away, slow, failing or loses its answers. At every quiet point what the receiver
 * rebuilt from the events alone is the truth, and it has heard of every accepted message.
 *
 * `GRU_HOOKS_SOAK_MS` is how long it goes on, by default for two faults that no other test of hooks has;
 * `GRU_HOOKS_REDIS=sentinel` puts stat on a primary with a replica behind Sentinels, and kills the primary. `GRU_HOOKS_SEED` chooses
 * the faults.
 */
import assert from "node:assert/strict";
import { connect, type Gru } from "@gru/client";
import { pause } from "@gru/shared/pause";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { SentinelServers } from "@gru/shared/testing/redis_servers";
import type { Json } from "../../spear/test_client.ts";
import { holderOf, Receiver, startHookStats } from "./hooks_scene.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";
import { Chance } from "./sim_time.ts";

const soakMs = Number(Deno.env.get("GRU_HOOKS_SOAK_MS") ?? 0);
const isLong = soakMs > 60_000;
const users = isLong ? 300 : 60;
const groups = users / 10;
const messagesPerSecond = 2 * users;
const healMs = 120_000;
const retry = { firstMs: 200, mostMs: 2000 };
const seed = Number(Deno.env.get("GRU_HOOKS_SEED") ?? 1);

serverTest({
  name:
    "hooks: after random faults the receiver's view is the truth, and nothing is lost or invented",
  needs: ["zookeeper", "redis"],
  fn: async () => {
    const chance = new Chance(`${seed}`);
    await using stack = new AsyncDisposableStack();
    const receiver = stack.use(new Receiver());
    const cluster = stack.use(await TestCluster.start({ tickMs: 500 }));
    const sentinel = Deno.env.get("GRU_HOOKS_REDIS") === "sentinel"
      ? stack.use(await SentinelServers.start())
      : undefined;
    const stats = await startHookStats(cluster, stack, receiver, {
      graceMs: 1500,
      ...(sentinel === undefined ? {} : { redis: sentinel.url }),
    });
    const [idgen, ticket, ...spears] = await Promise.all([
      cluster.add("idgen", "test1"),
      cluster.add("ticket", "test1"),
      ...[1, 2, 3].map((id) => cluster.add("spear", "test1", { id, drainMs: 500 })),
    ]);
    assert.ok(idgen !== undefined && ticket !== undefined);

    const present = new Map<number, Gru>();
    const accepted = new Set<string>();
    let refused = 0;
    stack.defer(async () => {
      await Promise.all([...present.values()].map((gru) => gru.close({ waitMs: 0 })));
    });
    const groupOf = (user: number) => `g${user % groups}`;
    const come = (user: number) => {
      const gru = connect({
        ticket: ticket.address,
        user: { id: user, name: `user${user}` },
        retry,
      });
      gru.group(groupOf(user)).on("message", () => {});
      present.set(user, gru);
    };
    const go = async (user: number) => {
      const gru = present.get(user);
      present.delete(user);
      await gru?.close({ waitMs: 5000 });
    };
    const say = (user: number) => {
      present.get(user)?.group(groupOf(user)).send(`${user}`)
        .then(({ id }) => accepted.add(id), () => refused++);
    };

    let answers = 0;
    const badWays: Record<string, typeof receiver.behave> = {
      "receiver is away": () => Promise.resolve({ status: 503, takes: false }),
      "receiver is slow": async () => (await pause(1200), { status: 200, takes: true }),
      "receiver fails after it took them": () =>
        Promise.resolve({ status: answers++ % 3 === 0 ? 500 : 200, takes: true }),
    };
    const good = receiver.behave;
    const killedSpear = async (i: number) => {
      await spears[i]?.process.kill();
      await pause(2000);
      spears[i] = await (spears[i] as RunningProgram).restart();
    };
    const faults: Record<string, () => Promise<void>> = {
      "spear killed": () => killedSpear(chance.below(spears.length)),
      "sending stat killed": async () => {
        const holder = await holderOf(stats);
        await holder.process.kill();
        await pause(1000);
        await holder.restart();
      },
      "Redis killed": async () => {
        if (sentinel !== undefined) {
          await sentinel.primary.kill();
          await pause(8000);
          return;
        }
        await cluster.redis.kill();
        await pause(1000);
        await cluster.redis.start();
      },
      "ZooKeeper killed": async () => {
        await cluster.zookeeper.kill();
        await pause(1000);
        await cluster.zookeeper.start();
      },
      ...Object.fromEntries(
        Object.entries(badWays).map(([name, behave]) => [name, async () => {
          receiver.behave = behave;
          await pause(isLong ? 60_000 : 3000);
          receiver.behave = good;
        }]),
      ),
    };

    const rows: Json[] = [];
    const agrees = async (what: string) => {
      const began = performance.now();
      const truth = () => {
        const here = [...present.keys()].map(String).sort();
        const members = [...present.keys()].map((user) => `${groupOf(user)} ${user}`).sort();
        return JSON.stringify([here, members]);
      };
      const view = () =>
        JSON.stringify([[...receiver.online].sort(), [...receiver.members].sort()]);
      const allHeard = () => accepted.difference(receiver.messages).size === 0;
      try {
        await waitFor(() => view() === truth() && allHeard(), { timeoutMs: healMs, what });
      } catch (error) {
        const unheard = accepted.difference(receiver.messages).size;
        throw new Error(`${what}: unheard ${unheard}; ${view()} instead of ${truth()}`, {
          cause: error,
        });
      }
      const { invented, inverted, events, doubled } = receiver.counts;
      rows.push({
        ...{ what, users: present.size, accepted: accepted.size, refused, events, doubled },
        ...{ gaps: receiver.gaps.length, lagMs: Math.round(performance.now() - began) },
      });
      assert.deepEqual({ invented, inverted }, { invented: 0, inverted: 0 }, what);
    };

    for (let user = 1; user <= users; user++) if (chance.happens(0.7)) come(user);
    await agrees("quiet at first");
    // The first one says that everybody is told from the beginning.
    const gapsAtFirst = receiver.gaps.length;
    const began = performance.now();
    // Each kind once, then at random.
    const waiting = soakMs === 0 ? ["Redis killed", "ZooKeeper killed"] : Object.keys(faults);
    do {
      const name = waiting.shift() ?? chance.pick(Object.keys(faults));
      const moving = setInterval(() => {
        const user = 1 + chance.below(users);
        if (present.has(user)) void go(user);
        else come(user);
      }, 250);
      const talking = setInterval(() => {
        const here = [...present.keys()];
        for (let n = 0; n < messagesPerSecond / 20 && here.length > 0; n++) say(chance.pick(here));
      }, 50);
      await pause(500);
      await faults[name]?.();
      await pause(500);
      clearInterval(moving);
      clearInterval(talking);
      await agrees(name);
    } while (performance.now() - began < soakMs || waiting.length > 0);
    // deno-lint-ignore no-console
    console.table(rows);
    const later = receiver.gaps.slice(gapsAtFirst);
    // What a replica lacked is told again from the beginning, and said.
    if (sentinel === undefined) assert.deepEqual(later, []);
  },
});
