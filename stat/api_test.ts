import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { Prover } from "@gru/shared/rpc/proof";
import type { RpcClient } from "@gru/shared/rpc/client";
import { defineContract, RpcError } from "@gru/shared/rpc/contract";
import { localClient } from "@gru/shared/rpc/local";
import type { SpearContract } from "@gru/spear/contract";
import { hooksSchema } from "./hooks/config.ts";
import { createApi } from "./api.ts";
import { MemoryStore } from "./store_memory.ts";
import { Operations } from "./operations.ts";

function api(
  usersOfGroup: (groupId: string) => Promise<string[]>,
  apiKey?: string,
  onWrongKey: (address: string) => void = () => {},
) {
  const store = Object.assign(new MemoryStore(), { usersOfGroup });
  const spears = localClient(defineContract("spear", {}), {}) as unknown as RpcClient<
    SpearContract
  >;
  return createApi({
    operations: new Operations({ store, spears, instances: () => [] }),
    apiKey,
    onWrongKey,
    closing: new AbortController().signal,
    auditMs: 86_400_000,
    hooks: hooksSchema.parse({}),
    log: logger("stat"),
  });
}

const nobody = api(() => Promise.resolve([]));

async function errorOf(response: Response): Promise<[number, string, string]> {
  const { error, ...rest } = await response.json();
  assert.deepEqual(rest, {});
  assert.deepEqual(Object.keys(error), ["code", "message"]);
  return [response.status, error.code, error.message];
}

Deno.test("GET /getGroupStat answers as the old Gru did, with ascending ids", async () => {
  const app = api((groupId) => Promise.resolve(groupId === "10" ? ["30", "4", "100"] : []));
  const response = await app.request("/getGroupStat?groupId=10&other=1");
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^application\/json/);
  assert.equal(await response.text(), '{"groupId":10,"userIds":[4,30,100]}');
  const empty = await app.request("/getGroupStat?groupId=11");
  assert.equal(await empty.text(), '{"groupId":11,"userIds":[]}');
});

Deno.test("GET /getGroupStat returns ids that a JSON number cannot hold as strings", async () => {
  const ids = ["b", "9007199254740993", "-7", "007", "1.5", "1e3", " 5", "9007199254740991", "a"];
  const response = await api(() => Promise.resolve(ids)).request(
    "/getGroupStat?groupId=18446744073709551615",
  );
  assert.deepEqual(await response.json(), {
    groupId: "18446744073709551615",
    userIds: [-7, 9007199254740991, " 5", "007", "1.5", "1e3", "9007199254740993", "a", "b"],
  });
});

Deno.test("GET /getGroupStat refuses a groupId that is missing, empty or too long", async () => {
  const missing = "groupId: missing or empty; expected 1 to 256 characters";
  for (const query of ["", "?groupid=10", "?groupId", "?groupId="]) {
    const response = await nobody.request(`/getGroupStat${query}`);
    assert.deepEqual(await errorOf(response), [400, "invalid_argument", missing], query);
  }
  const twice = await nobody.request("/getGroupStat?groupId=1&groupId=2");
  assert.match((await errorOf(twice))[2], /^groupId: is given more than once/);
  const long = await nobody.request(`/getGroupStat?groupId=${"1".repeat(257)}`);
  assert.match((await errorOf(long))[2], /^groupId: has 257 characters;/);
  assert.equal((await nobody.request("/getGroupStat?groupId=%ff%fe")).status, 200);
});

Deno.test("GET /getGroupStat reports an error when the store fails", async () => {
  const app = api(() => Promise.reject(new RpcError("unavailable", "Redis: cannot read a group")));
  assert.deepEqual(await errorOf(await app.request("/getGroupStat?groupId=1")), [
    ...[503, "unavailable"] as const,
    "Redis: cannot read a group",
  ]);
  const broken = api(() => Promise.reject(new Error("a secret detail")));
  assert.deepEqual(await errorOf(await broken.request("/getGroupStat?groupId=1")), [
    ...[500, "internal"] as const,
    "The request failed",
  ]);
});

Deno.test("createApi welcomes at / and refuses other routes and methods in one shape", async () => {
  assert.match(await (await nobody.request("/")).text(), /^Welcome to stat/);
  const [status, code] = await errorOf(await nobody.request("/getGroupStats?groupId=1"));
  assert.deepEqual([status, code], [404, "not_found"]);
  for (const path of ["/", "/getGroupStat?groupId=1"]) {
    const response = await nobody.request(path, { method: "POST" });
    assert.equal(response.headers.get("allow"), "GET, HEAD");
    assert.deepEqual((await errorOf(response)).slice(0, 2), [405, "method_not_allowed"]);
    assert.equal((await nobody.request(path, { method: "HEAD" })).status, 200);
  }
});

Deno.test("createApi requires its key on all routes except the old Gru's route, the welcome and the document", async () => {
  const app = api(() => Promise.resolve([]), "k\u00e9y");
  for (const path of ["/", "/getGroupStat?groupId=1", "/openapi.json"]) {
    assert.equal((await app.request(path)).status, 200, path);
  }
  const given = ["", "Bearer", "Bearer wrong", "Basic k\u00e9y", "Bearer k\u00e9y2", "k\u00e9y"];
  for (const authorization of given) {
    for (const path of ["/bans", "/no/such/route"]) {
      const response = await app.request(path, { headers: { authorization } });
      assert.equal(response.headers.get("www-authenticate"), "Bearer");
      assert.deepEqual((await errorOf(response)).slice(0, 2), [401, "unauthenticated"]);
    }
  }
  const right = await app.request("/bans", { headers: { authorization: "bearer k\u00e9y" } });
  assert.deepEqual(await right.json(), { bans: [] });
});

Deno.test("createApi rejects a body that is too large, not JSON, or of another type", async () => {
  const post = (body: string, type = "application/json") =>
    nobody.request("/broadcast", {
      method: "POST",
      body,
      headers: { "content-type": type, "content-length": `${body.length}` },
    });
  const large = await post(JSON.stringify({ content: "x".repeat(4_200_000) }));
  assert.deepEqual((await errorOf(large)).slice(0, 2), [413, "too_large"]);
  for (
    const [body, type, status] of [
      ["{", "application/json", 400],
      ["", "application/json", 400],
      ['{"content":"x"}', "text/plain", 415],
    ] as const
  ) {
    const [found, code, message] = await errorOf(await post(body, type));
    assert.deepEqual([found, code], [status, "invalid_argument"]);
    assert.match(message, /^the body: /);
  }
});

Deno.test("a wrong key is told with its address; no key, and a proof of an earlier life, are not", async () => {
  const told: string[] = [];
  const app = api(() => Promise.resolve([]), "right", (address) => told.push(address));
  const call = async (authorization?: string) => {
    const headers = authorization === undefined ? {} : { authorization };
    const response = await app.request("/bans", { headers }, { address: "192.0.2.1" });
    await response.body?.cancel();
    return response.status;
  };
  const prover = new Prover("right", "api", "http://localhost");
  const { authorization } = prover.prove({ method: "GET", path: "/bans", terms: [""] }, undefined);
  assert.deepEqual([await call(), await call(authorization), await call("Bearer right")], [
    ...[401, 401, 200],
  ]);
  assert.deepEqual(told, []);
  assert.equal(await call("Bearer guess"), 401);
  assert.equal(await call(`${authorization}x`), 401);
  assert.deepEqual(told, ["192.0.2.1", "192.0.2.1"]);
});
