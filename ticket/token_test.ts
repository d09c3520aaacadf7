import assert from "node:assert/strict";
import { everything } from "./rights.ts";
import { issuer, type IssuerConfig, verifier } from "./token.ts";
import { gruToken } from "./token_gru.ts";

Deno.test("gruToken returns the known values of the old Gru", () => {
  assert.equal(gruToken("123456", "salt"), "397a79aca9daa9aa6b06dfd834e23c81");
  assert.equal(gruToken("123456我是谁", "salt"), "05449c97faaf7df7efe43cefc6c37631");
  assert.equal(gruToken(" ", "salt"), "");
  assert.equal(gruToken("123456", ""), "");
});

const claims = { userId: "7", userName: "Ann", appType: "1" };
const refused = { name: "TokenError" };

function config(changes: Partial<IssuerConfig>): IssuerConfig {
  return { scheme: "gru", token1: { skewMs: 0 }, token2Ms: 1000, rightsMs: 1000, ...changes };
}

Deno.test("scheme gru accepts its own tokens for their owner only", async () => {
  const { admit, issue } = issuer(config({ saltToTicket: "a", saltToSpear: "b" }));
  const { check, pass } = verifier({ scheme: "gru", saltToSpear: "b", skewMs: 0 }, "spear1");
  const token1 = gruToken("7_Ann_1", "a");
  const grant = await admit(claims, token1);
  const { token } = await issue(grant, token1, ["spear1"]);
  assert.equal(token, gruToken(`7_Ann_1_${token1}`, "b"));
  const entry = await check(claims, token1, token);
  assert.deepEqual(entry.grant, { ...claims, rights: everything });
  assert.equal(await pass(entry, ["spear2"], 1000), token);
  const other = { ...claims, userId: "8" };
  await assert.rejects(admit(other, token1), refused);
  await assert.rejects(check(other, token1, token), refused);
  await assert.rejects(check(claims, token1, token1), refused);
});

Deno.test("scheme gru without a salt accepts no token, not even the empty one", async () => {
  await assert.rejects(issuer(config({})).admit(claims, ""), refused);
  const { check } = verifier({ scheme: "gru", skewMs: 0 }, "spear1");
  await assert.rejects(check(claims, "", ""), refused);
});

Deno.test("scheme open accepts any token", async () => {
  const { admit } = issuer(config({ scheme: "open" }));
  assert.equal((await admit(claims, "x")).userId, "7");
  const { check } = verifier({ scheme: "open", skewMs: 0 }, "spear1");
  assert.deepEqual((await check(claims, "", "y")).grant.rights, everything);
});
