import assert from "node:assert/strict";
import { RawClient } from "../load/raw_client.ts";
import { authenticated, modern, old, singleSpear } from "../spear_testing.ts";

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

Deno.test("a packet of 40 000 levels harms nobody, whatever socket.io takes it for", async () => {
  await using spear = await singleSpear();
  const { hostname, port } = new URL(spear.address);
  const deep = `${"[".repeat(40_000)}${"]".repeat(40_000)}`;
  await using honest = await authenticated(spear.address, 2);
  for (const begin of ['20["auth",', '2["subscribe",', "2", "3", "0", "4", '51-["msg",', "61-"]) {
    const client = await RawClient.connect({
      host: hostname,
      port: Number(port),
      onPacket: () => {},
    });
    client.send(`${begin}${deep}${begin.includes('"') ? "]" : ""}`);
    const argument = { type: 0, target: { id: 2 }, content: begin };
    assert.equal((await honest.request("msg", argument)).success, true);
    assert.equal((await honest.next("msg")).content, begin);
    client.close();
    await client.closed;
  }
});
