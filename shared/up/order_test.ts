/** Events of one connection take effect in the order they came, and text reaches Redis as what it is: with a real Redis. */
import assert from "node:assert/strict";
import { serverTest } from "@gru/shared/testing/harness";
import { startRedis } from "@gru/shared/testing/redis";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { localClient } from "@gru/shared/rpc/local";
import { idgenContract } from "@gru/idgen/contract";
import { authenticated, singleSpear } from "../../spear/spear_testing.ts";
import { idgenIn } from "./up_testing.ts";

async function startPair() {
  await using stack = new AsyncDisposableStack();
  const redis = stack.use(await startRedis());
  const registry = stack.use(new MemoryRegistry());
  const idgen = stack.use(
    await idgenIn(registry),
  );
  const spear = stack.use(
    await singleSpear(
      { mode: "redis", registry: "memory:", redis: redis.url, monitorPort: 0 },
      { registry, idgen: localClient(idgenContract, idgen.handlers) },
    ),
  );
  const owned = stack.move();
  return { spear, [Symbol.asyncDispose]: () => owned.disposeAsync() };
}

const message = (group: number, content: string) => ({ type: 1, target: { id: group }, content });
const join = (userId: number, group: number) => ({ userId, subscribeGroups: [{ id: group }] });

serverTest({
  name:
    "msg, subscribe and unsubscribe take effect in the order they came, without waiting for results",
  needs: "redis",
  fn: async () => {
    await using pair = await startPair();
    await using sender = await authenticated(pair.spear.address, 1);
    await using witness = await authenticated(pair.spear.address, 2);
    const rounds = 50;
    const mine: string[] = [];
    for (let i = 1; i <= rounds; i++) {
      // Somebody else listens, so that this node gets the group's messages in any case.
      await witness.request("subscribe", join(2, i));
      const results = await Promise.all([
        sender.request("msg", message(i, "before")),
        sender.request("subscribe", join(1, i)),
        sender.request("msg", message(i, "as a member")),
        sender.request("msg", message(i, "as a member")),
        sender.request("unsubscribe", join(1, i)),
        sender.request("msg", message(i, "after")),
      ]);
      assert.ok(results.every(({ success }) => success), JSON.stringify(results));
      for (const expected of ["before", "as a member", "as a member", "after"]) {
        assert.equal((await witness.next("msg")).content, expected);
      }
      mine.push(...sender.pending("msg").map(({ content }) => content));
      while (sender.pending("msg").length > 0) await sender.next("msg");
    }
    assert.deepEqual(mine, Array.from({ length: 2 * rounds }, () => "as a member"));
  },
});

serverTest({
  name:
    "content may be any text, also what is not well-formed Unicode; what names a message may not",
  needs: "redis",
  fn: async () => {
    await using pair = await startPair();
    await using client = await authenticated(pair.spear.address, 1);
    const { data: { positions: [start] } } = await client.request("subscribe", join(1, 10));
    const contents = ["\ud801x", "\ud802x", "\udc00", "\ud83d", "👋", "\u0000\u2028"];
    for (const content of contents) {
      const result = await client.request("msg", { ...message(10, content), clientMsgId: content });
      if (!content.isWellFormed()) {
        assert.equal(result.errorCode, 1003);
        assert.match(result.msg, /msg\.clientMsgId: expected well-formed Unicode/);
        assert.equal((await client.request("msg", message(10, content))).success, true);
      } else assert.equal(result.success, true);
      assert.equal((await client.next("msg")).content, content);
    }
    // From history, too.
    await client.request("unsubscribe", join(1, 10));
    const since = { epoch: start.epoch, seq: start.seq };
    await client.request("subscribe", { userId: 1, subscribeGroups: [{ id: 10, since }] });
    for (const content of contents) assert.equal((await client.next("msg")).content, content);
    const epoch = "\ud801";
    const refused = await client.request("subscribe", {
      userId: 1,
      subscribeGroups: [{ id: 11, since: { epoch, seq: 1 } }],
    });
    assert.equal(refused.errorCode, 1003);
  },
});
