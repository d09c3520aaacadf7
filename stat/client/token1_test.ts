/// <reference lib="deno.ns" />
import assert from "node:assert/strict";
import { exportPKCS8, generateKeyPair, jwtVerify } from "jose";
import { token1 } from "./token1.ts";

Deno.test("token1 is one that the public key verifies, with the claims that ticket reads", async () => {
  const { privateKey, publicKey } = await generateKeyPair("ES256", { extractable: true });
  const token = await token1({
    ...{ key: await exportPKCS8(privateKey), user: 7, name: "Ann", app: "1" },
    ...{ groups: [10, "room:*"], minutes: 5 },
  });
  const { sub, name, app, groups } = (await jwtVerify(token, publicKey)).payload;
  assert.deepEqual({ sub, name, app, groups }, {
    ...{ sub: "7", name: "Ann", app: "1", groups: [10, "room:*"] },
  });
  const secret = "a secret of 32 characters or more";
  const other = await token1({ key: secret, user: "8" });
  assert.equal((await jwtVerify(other, new TextEncoder().encode(secret))).payload.sub, "8");
});
