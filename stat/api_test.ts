import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { RpcError } from "@gru/shared/rpc/contract";
import { createApi } from "./api.ts";

function api(usersOfGroup: (groupId: string) => Promise<string[]>) {
  return createApi({ usersOfGroup, log: logger("stat") });
}

const nobody = api(() => Promise.resolve([]));

async function errorOf(response: Response): Promise<[number, string, string]> {
  const { error, ...rest } = await response.json();
  assert.deepEqual(rest, {});
  assert.deepEqual(Object.keys(error), ["code", "message"]);
  return [response.status, error.code, error.message];
}

Deno.test("GET /getGroupStat answers as Gru did, ids ascending", async () => {
  const app = api((groupId) => Promise.resolve(groupId === "10" ? ["30", "4", "100"] : []));
  const response = await app.request("/getGroupStat?groupId=10&other=1");
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^application\/json/);
  assert.equal(await response.text(), '{"groupId":10,"userIds":[4,30,100]}');
  const empty = await app.request("/getGroupStat?groupId=11");
  assert.equal(await empty.text(), '{"groupId":11,"userIds":[]}');
});

Deno.test("GET /getGroupStat gives ids that a JSON number cannot hold as strings", async () => {
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
  const long = await nobody.request(`/getGroupStat?groupId=${"1".repeat(257)}`);
  assert.match((await errorOf(long))[2], /^groupId: has 257 characters;/);
  assert.equal((await nobody.request("/getGroupStat?groupId=%ff%fe")).status, 200);
});

Deno.test("GET /getGroupStat says when the answer cannot be had", async () => {
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
