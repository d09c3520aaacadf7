import assert from "node:assert/strict";
import { gruToken, tokenScheme } from "./token.ts";

Deno.test("gruToken gives Gru's known values", () => {
  assert.equal(gruToken("123456", "salt"), "397a79aca9daa9aa6b06dfd834e23c81");
  assert.equal(gruToken("123456我是谁", "salt"), "05449c97faaf7df7efe43cefc6c37631");
  assert.equal(gruToken(" ", "salt"), "");
  assert.equal(gruToken("123456", ""), "");
});

const claims = { userId: "7", userName: "Ann", appType: "1" };

Deno.test("scheme gru accepts its own tokens for their owner only", async () => {
  const scheme = tokenScheme({ scheme: "gru", saltToTicket: "a", saltToSpear: "b" });
  const token1 = gruToken("7_Ann_1", "a");
  const token2 = await scheme.issueToken2(claims, token1);
  assert.equal(token2, gruToken(`7_Ann_1_${token1}`, "b"));
  assert.equal(await scheme.acceptsToken1(claims, token1), true);
  assert.equal(await scheme.acceptsToken2(claims, token1, token2), true);
  const other = { ...claims, userId: "8" };
  assert.equal(await scheme.acceptsToken1(other, token1), false);
  assert.equal(await scheme.acceptsToken2(other, token1, token2), false);
  assert.equal(await scheme.acceptsToken2(claims, token1, token1), false);
});

Deno.test("scheme gru without a salt accepts no token, also not the empty one", async () => {
  const scheme = tokenScheme({ scheme: "gru" });
  assert.equal(await scheme.acceptsToken1(claims, ""), false);
  assert.equal(await scheme.acceptsToken2(claims, "", ""), false);
});

Deno.test("scheme open accepts any token", async () => {
  const scheme = tokenScheme({ scheme: "open" });
  assert.equal(await scheme.acceptsToken1(claims, "x"), true);
  assert.equal(await scheme.acceptsToken2(claims, "", "y"), true);
});
