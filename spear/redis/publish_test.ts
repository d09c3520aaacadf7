import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { startRedis, withRedis } from "@gru/shared/testing/redis";
import { InDoubtError, NotAcceptedError } from "../broker/broker.ts";
import { RedisBroker } from "./broker.ts";
import { defaults, newTarget, TestNode } from "../broker/testing.ts";
import { brokersOver } from "./testing.ts";
import type { Target } from "../wire.ts";
import publishScript from "./lua/publish.lua" with { type: "text" };

/** What may be taken from a user of Redis, and given back. */
const permissions = [
  ["resetchannels", "allchannels"],
  ...["xadd", "hset", "pexpire", "set", "xtrim", "xrange", "hdel", "hgetall", "publish", "del"]
    .map((command) => [`-${command}`, `+${command}`] as const),
] as const;

serverTest({
  name: "a publication happens wholly or not at all, whatever Redis does not permit or cannot do",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis({ appendOnly: true });
    await using cluster = brokersOver(server.url);
    await using one = await TestNode.open(cluster.open);
    await using two = await TestNode.open(cluster.open);
    const target = newTarget();
    const member = await two.member(target);
    const ask = (...words: string[]) =>
      withRedis(server.port, (redis) => redis.call(words[0] ?? "", ...words.slice(1)));
    const causes = [
      ...permissions.map(([take, give]) => [
        ["ACL", "SETUSER", "default", take],
        ["ACL", "SETUSER", "default", give],
      ]),
      [["CONFIG", "SET", "maxmemory", "1mb"], ["CONFIG", "SET", "maxmemory", "0"]],
      [
        ["CONFIG", "SET", "min-replicas-to-write", "1"],
        ["CONFIG", "SET", "min-replicas-to-write", "0"],
      ],
    ];
    let seq = 0;
    for (const [spoil = [], mend = []] of causes) {
      await one.publish(target, `before ${++seq}`);
      await ask(...spoil);
      const refused = one.publish(target, "refused", "key");
      await assert.rejects(refused, NotAcceptedError, spoil.join(" "));
      await ask(...mend);
      const accepted = await one.publish(target, `after ${spoil.join(" ")}`, `key ${seq}`);
      assert.equal(accepted.seq, ++seq, `a hole after ${spoil.join(" ")}`);
      await waitFor(() => member.frames.length === seq);
    }
    assert.ok(!member.ids.includes("refused"));
    assert.deepEqual(member.lost, []);
    const { entries } = await two.broker.history(target, { epoch: "", seq: 0 });
    assert.equal(entries.length, seq);
  },
});

for (
  const [what, rules] of [
    ["to channels", ["resetchannels"]],
    ["to keys", ["resetkeys", "~other*"]],
    ["for a command", ["-xadd"]],
  ] as const
) {
  serverTest({
    name: `a broker whose user of Redis has no permission ${what} is not connected until it has`,
    needs: "redis",
    fn: async () => {
      await using server = await startRedis();
      const setUser = (...words: readonly string[]) =>
        withRedis(server.port, (redis) => redis.call("ACL", "SETUSER", "default", ...words));
      await setUser(...rules);
      const sink = { message: () => {}, disrupted: () => {}, seen: () => [] };
      await using broker = new RedisBroker({
        ...defaults,
        ...{ url: server.url, node: "spear1" },
        log: logger("test"),
      }, sink);
      for (let looks = 0; looks < 10; looks++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        assert.equal(broker.connected, false);
      }
      await setUser("allkeys", "+@all", "allchannels");
      await waitFor(() => broker.connected);
    },
  });
}

serverTest({
  name:
    "with durability replica a success survives the loss of the primary, and without a replica nothing is accepted",
  needs: "redis",
  fn: async () => {
    await using primary = await startRedis({ args: ["--repl-diskless-sync-delay", "0"] });
    await using replica = await startRedis({
      args: ["--replicaof", "127.0.0.1", `${primary.port}`],
    });
    const connected = async () =>
      /connected_slaves:1\b/.test(await withRedis(primary.port, (redis) => redis.info()));
    await waitFor(connected, { what: "a replica in step" });
    await using broker = new RedisBroker({
      ...{ ...defaults, publishMs: 3000, durability: "replica" },
      ...{ url: primary.url, node: "spear1", log: logger("test") },
    }, { message: () => {}, disrupted: () => {}, seen: () => [] });
    await waitFor(() => broker.connected);
    const publish = (target: Target, id: string) => broker.publish({ target, id, body: "{}" });

    const targets = Array.from({ length: 50 }, newTarget);
    const accepted = await Promise.all(targets.map((target, i) => publish(target, `m${i}`)));
    for (const [i, target] of targets.entries()) {
      const kept = await withRedis(
        replica.port,
        (redis) => redis.hget(`gru:{${target}}:state`, "epoch"),
      );
      assert.equal(kept, accepted[i]?.epoch);
    }

    // It has the connection to the replica still, and no confirmation.
    const [target = "g:1"] = targets;
    replica.freeze();
    const unsure = publish(target, "unsure");
    await assert.rejects(unsure, InDoubtError);
    replica.thaw();
    await waitFor(() => broker.connected, { timeoutMs: 20_000 });
    assert.equal((await publish(target, "sure")).seq, 3);

    await replica.kill();
    await assert.rejects(publish(target, "alone"));
    await assert.rejects(publish(newTarget(), "alone"), NotAcceptedError);
  },
});

serverTest({
  name: "what is ephemeral is sent again only where its key shows that it was not sent before",
  needs: "redis",
  fn: async () => {
    await using server = await startRedis();
    await withRedis(server.port, async (redis) => {
      let number = 0;
      const publish = (id: string, repeated: 0 | 1, key?: string) => {
        const keys = ["state", "log", "nodes", ...(key === undefined ? [] : [key])];
        return redis.eval(publishScript, keys.length, ...keys, ...[
          ...[id, "{}", "node", ++number, repeated, "e", "home", -1, 60_000, 60_000, 1000],
          ...["PUBLISH", "channel", "detour", "all", ""],
        ]);
      };
      const forgotten = publish("m1", 1);
      await assert.rejects(forgotten, /^ReplyError: FORGOTTEN/);
      assert.deepEqual(await publish("m2", 1, "key"), ["m2", "", 0, []]);
      assert.deepEqual(await publish("m3", 1, "key"), ["m2", "-", 0, []]);
      // It has written nothing but the key.
      assert.deepEqual(await redis.keys("*"), ["key"]);
    });
  },
});
