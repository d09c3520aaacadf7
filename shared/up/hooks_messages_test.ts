/** What real clients do on real nodes becomes events: who comes and goes, and every message, with a real Redis. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { logger } from "@gru/shared/log";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { connectRpc } from "@gru/shared/rpc/client";
import { localClient } from "@gru/shared/rpc/local";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { idgenContract } from "@gru/idgen/contract";
import { spearContract } from "@gru/spear/contract";
import { idgenSchema, startIdgen } from "../../idgen/idgen.ts";
import { authenticated, singleSpear } from "../../spear/spear_testing.ts";
import { statContract } from "@gru/stat/contract";
import { type EventData, eventOf, type HookEvent } from "../../stat/hooks/event.ts";
import { MessageTeller } from "../../stat/hooks/message_teller.ts";
import { Teller } from "../../stat/hooks/teller.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import { openRedisStore } from "../../stat/store_redis.ts";

const log = logger("stat");

function profileOf<S extends Parameters<typeof loadConfig>[0]["schema"]>(
  program: string,
  schema: S,
  args: readonly string[],
) {
  return loadConfig({
    ...{ program, schema, args: ["--registry=memory:", "--port=0", ...args] },
    profiles: new URL(`../../${program}/profiles/`, import.meta.url),
    environment: () => undefined,
  });
}

/** Two spears, and a holder of the lease. */
async function startCluster() {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis());
  const registry = stack.use(new MemoryRegistry());
  const idgen = stack.use(
    await startIdgen(profileOf("idgen", idgenSchema, []), { registry }),
  );
  const stat = stack.use(
    await startStat(profileOf("stat", statSchema, [`--redis=${redis.url}`, "--httpPort=0"]), {
      registry,
    }),
  );
  const spears = [];
  for (const id of [1, 2]) {
    spears.push(stack.use(
      await singleSpear({
        ...{ id, mode: "redis", registry: "memory:", redis: redis.url, monitorPort: 0 },
        reportMs: 100,
      }, {
        registry,
        idgen: localClient(idgenContract, idgen.handlers),
        stat: localClient(statContract, stat.handlers),
      }),
    ));
  }
  const store = stack.use(await openRedisStore({ url: redis.url, log }));
  const rpc = stack.use(await connectRpc(spearContract, { registry, log, timeoutMs: 5000 }));
  await withRedis(redis.port, (one) => one.set("gru_stat_hooks_lease", "1"));
  const messages = new MessageTeller({ telling: store.telling, spear: () => rpc.any, log });
  const teller = new Teller(store.telling, {
    graceMs: 0,
    readMessages: (token) => messages.step(token),
  });
  const events = async (): Promise<HookEvent[]> => {
    while ((await teller.step("1")).nextMs === 0);
    const found = await withRedis(redis.port, (one) => one.xrange("gru_stat_events", "-", "+"));
    return found.flatMap(([position, fields]) => eventOf(position, fields) ?? []);
  };
  const owned = stack.move();
  return { spears, stat, events, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

serverTest({
  name: "clients that come, write and go are told once each, a message to nobody as unattended",
  needs: "redis",
  fn: async () => {
    await using cluster = await startCluster();
    const [first, second] = cluster.spears;
    assert.ok(first && second);
    const told = async (...kinds: string[]) =>
      (await cluster.events()).filter(({ kind }) => kinds.includes(kind));
    // The spears learn within some seconds that messages are wanted.
    await waitFor(async () => {
      await cluster.events();
      return (await cluster.stat.handlers.active({ targets: [] }, {} as never)).wanted;
    });
    {
      await using ann = await authenticated(first.address, 1);
      await using again = await authenticated(second.address, 1);
      await using bob = await authenticated(second.address, 2);
      for (const [client, userId] of [[ann, 1], [again, 1], [bob, 2]] as const) {
        await client.request("subscribe", { userId, subscribeGroups: [{ id: 10 }] });
      }
      await waitFor(async () => (await told("member.joined")).length === 2);
      const contents: string[] = [];
      await waitFor(async () => {
        const content = `hello ${contents.length}`;
        contents.push(content);
        await ann.request("msg", { type: 1, target: { id: 10 }, content });
        return (await told("message.accepted")).length > 0;
      });
      const from = contents.length;
      for (let i = 0; i < 20; i++) {
        contents.push(`more ${i}`);
        const sender = i % 2 === 0 ? ann : bob;
        await sender.request("msg", { type: 1, target: { id: 10 }, content: `more ${i}` });
      }
      // Each spear learns for itself that messages are wanted.
      await waitFor(async () => {
        await bob.request("msg", { type: 0, target: { id: 77 }, content: "anybody?" });
        return (await told("message.unattended")).length > 0;
      });
      assert.ok((await told("message.unattended")).every(({ subject }) => subject === "user:77"));
      const ofGroup = async () =>
        (await told("message.accepted")).map(({ data }) => data as EventData<"message.accepted">)
          .filter(({ groupId }) => groupId === "10");
      await waitFor(async () => (await ofGroup()).at(-1)?.content === "more 19");
      const inGroup = await ofGroup();
      assert.deepEqual(inGroup.map(({ content }) => content).slice(-20), contents.slice(from));
      const seqs = inGroup.map(({ seq }) => seq);
      assert.deepEqual(seqs, seqs.map((_, n) => (seqs[0] ?? 0) + n), "each once, in order");
    }
    await waitFor(async () => (await told("group.vacated")).length === 1);
    assert.equal((await told("hooks.gap")).length, 1, "only the one when hooks were switched on");
    const lines = (await told("user.online", "user.offline", "group.occupied", "group.vacated"))
      .map(({ kind, subject }) => `${kind} ${subject}`).sort();
    assert.deepEqual(lines, [
      "group.occupied group:10",
      "group.vacated group:10",
      "user.offline user:1",
      "user.offline user:2",
      "user.online user:1",
      "user.online user:2",
    ]);
  },
});
