import assert from "node:assert/strict";
import { authenticated, modern, old, singleSpear } from "./spear_testing.ts";

function nested(depth: number): string {
  return `{"userId":1,"id":1,"subscribeGroups":[{"id":10}],"x":${"[".repeat(depth)}${
    "]".repeat(depth)
  }}`;
}

for (const dialect of [modern, old]) {
  Deno.test({
    name: `an argument of 40 000 levels is refused, and the connection lives on (${dialect.name})`,
    // socket.io-client 2 leaves timers behind for a few milliseconds.
    sanitizeOps: dialect !== old,
    sanitizeResources: dialect !== old,
    fn: async () => {
      await using spear = await singleSpear();
      await using client = await authenticated(spear.address, 1, dialect);
      for (const event of ["subscribe", "unsubscribe", "msg"]) {
        // As text: the stock client itself cannot write it otherwise.
        client.send(event, nested(40_000));
        const result = await client.next(`${event}_result`);
        assert.equal(result.errorCode, 1003);
        assert.match(result.msg, /at most 32 deep|levels|deep/);
      }
      assert.equal((await client.request("online", 10)).success, true);
    },
  });
}

Deno.test("names of the prototype in an argument change nothing", async () => {
  await using spear = await singleSpear();
  await using client = await authenticated(spear.address);
  const text = '{"__proto__":{"polluted":1},"constructor":{"prototype":{"polluted":1}},' +
    '"userId":1,"subscribeGroups":[{"id":"__proto__"},{"id":"constructor"}]}';
  client.send("subscribe", text);
  const result = await client.next("subscribe_result");
  // `__proto__` is a group id like any other.
  assert.equal(result.success, true, JSON.stringify(result));
  assert.equal(({} as { polluted?: number }).polluted, undefined);
  for (const id of ["__proto__", "constructor"]) {
    assert.deepEqual((await client.request("online", id)).data, { userIds: [1] });
  }
});
