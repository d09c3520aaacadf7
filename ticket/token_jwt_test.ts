import assert from "node:assert/strict";
import {
  base64url,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type GenerateKeyPairResult,
  SignJWT,
} from "jose";
import { type Issuer, issuer, type IssuerConfig, type Verifier, verifier } from "./token.ts";

const secret = "business-secret-of-32-characters!";
const token2Secret = "our-own-secret-of-32-characters-!";
const claims = { userId: "7", userName: "Ann", appType: "1" };

/** Unix milliseconds; tests advance it. */
class Clock {
  ms = 1_700_000_000_000;
  readonly now = () => this.ms;
}

function issuerOf(
  token1: Partial<IssuerConfig["token1"]>,
  clock: Clock,
  changes: Partial<IssuerConfig> = {},
): Issuer {
  return issuer({
    scheme: "jwt",
    token1: { skewMs: 5000, ...token1 },
    token2Secret,
    token2Ms: 30_000,
    rightsMs: 3_600_000,
    ...changes,
  }, clock.now);
}

function verifierOf(clock: Clock, node = "spear1", secrets = token2Secret): Verifier {
  return verifier({ scheme: "jwt", token2Secret: secrets, skewMs: 5000 }, node, clock.now);
}

function token1(
  clock: Clock,
  payload: Record<string, unknown> = {},
  header: { readonly alg: string; readonly kid?: string; readonly typ?: string } = { alg: "HS256" },
): SignJWT {
  const nowS = clock.ms / 1000;
  return new SignJWT({ sub: "7", name: "Ann", app: "1", exp: nowS + 600, iat: nowS, ...payload })
    .setProtectedHeader(header);
}

const hmac = new TextEncoder().encode(secret);

function refused(message: RegExp) {
  return { name: "TokenError", message };
}

Deno.test("jwt: the issuer admits the bearer of a token1 with its rights until it expires", async () => {
  const clock = new Clock();
  const { admit } = issuerOf({ secret, issuer: "shop", audience: "gru" }, clock);
  const payload = { iss: "shop", aud: ["gru"], groups: { listen: [[1, 9]], send: [3] } };
  const grant = await admit(claims, await token1(clock, payload).sign(hmac));
  assert.deepEqual(grant, {
    ...claims,
    rights: { listen: [[1, 9]], send: [3], users: ["*"] },
    rightsUntil: clock.ms + 600_000,
  });
  const alone = await admit({}, await token1(clock, payload).sign(hmac));
  assert.deepEqual(alone, grant);
});

Deno.test("jwt: the affinity of a token1 stays with the client, from node to node", async () => {
  const clock = new Clock();
  const { admit, issue } = issuerOf({ secret }, clock);
  const sign = (affinity: unknown) => token1(clock, { affinity }).sign(hmac);
  const grant = await admit(claims, await sign("room 7"));
  assert.equal(grant.affinity, "room 7");
  assert.equal((await admit(claims, await sign(7))).affinity, "7");
  const { token } = await issue(grant, "", ["spear1", "spear2"]);
  const spear1 = verifierOf(clock);
  const entry = await spear1.check(claims, "", token);
  const resume = await spear1.resume(entry);
  const back = await verifierOf(clock, "spear2").check(claims, "", resume?.token ?? "");
  assert.deepEqual([entry.grant.affinity, back.grant.affinity], ["room 7", "room 7"]);
  for (const bad of ["", "x".repeat(129), ["a"]]) {
    await assert.rejects(admit(claims, await sign(bad)), refused(/claim affinity: expected text/));
  }
});

Deno.test("jwt: rights end after rightsMs when token1 is valid for longer", async () => {
  const clock = new Clock();
  const { admit } = issuerOf({ secret }, clock, { rightsMs: 60_000 });
  const grant = await admit({}, await token1(clock).sign(hmac));
  assert.equal(grant.rightsUntil, clock.ms + 60_000);
});

for (
  const [what, payload, message] of [
    ["that has expired", { exp: 1_699_999_900 }, /it has expired/],
    ["that never expires", { exp: undefined }, /claim exp is missing/],
    ["that is not valid yet", { nbf: 1_700_000_100 }, /claim nbf does not fit/],
    ["issued in the future", { iat: 1_700_000_100 }, /issued in the future/],
    ["of another issuer", { iss: "evil" }, /claim iss does not fit/],
    ["for another audience", { aud: "bank" }, /claim aud does not fit/],
    ["without a user", { sub: undefined }, /claim sub is missing/],
    ["for a user id that is not a number", { sub: "ann" }, /claim sub: expected a user id/],
    ["for another user", { sub: "8" }, /belongs to another \(claim sub\)/],
    ["for another user name", { name: "Bob" }, /belongs to another \(claim name\)/],
    ["for another app", { app: "2" }, /belongs to another \(claim app\)/],
    ["with a name that is not text", { name: {} }, /claim name: expected text/],
    ["with invalid rights", { groups: [{}] }, /claim groups\[0\]: expected an id/],
  ] as const
) {
  Deno.test(`jwt: the issuer refuses a token1 ${what}`, async () => {
    const clock = new Clock();
    const { admit } = issuerOf({ secret, issuer: "shop", audience: "gru" }, clock);
    const token = await token1(clock, { iss: "shop", aud: "gru", ...payload }).sign(hmac);
    await assert.rejects(admit(claims, token), refused(message));
  });
}

Deno.test("jwt: clocks may differ by skewMs and no more", async () => {
  const clock = new Clock();
  const { admit } = issuerOf({ secret }, clock);
  const nowS = clock.ms / 1000;
  await admit({}, await token1(clock, { exp: nowS - 4, iat: nowS - 9 }).sign(hmac));
  await admit({}, await token1(clock, { nbf: nowS + 4, iat: nowS + 4 }).sign(hmac));
  await assert.rejects(admit({}, await token1(clock, { exp: nowS - 6 }).sign(hmac)));
  await assert.rejects(admit({}, await token1(clock, { iat: nowS + 6 }).sign(hmac)));
});

function unsigned(header: object, payload: object): string {
  return `${base64url.encode(JSON.stringify(header))}.${
    base64url.encode(JSON.stringify(payload))
  }.`;
}

Deno.test("jwt: alg none, garbage, and tokens of megabytes are refused", async () => {
  const clock = new Clock();
  const { admit } = issuerOf({ secret }, clock);
  const exp = clock.ms / 1000 + 60;
  for (const alg of ["none", "None", "NONE", "HS512", ""]) {
    await assert.rejects(admit({}, unsigned({ alg }, { sub: "7", exp })), { name: "TokenError" });
  }
  for (const garbage of ["", ".", "..", "a.b.c", "\u0000", "{}", "x".repeat(10_000_000)]) {
    await assert.rejects(admit({}, garbage), { name: "TokenError" }, garbage.slice(0, 20));
  }
});

for (const alg of ["RS256", "ES256"]) {
  Deno.test(`jwt: a token1 signed by ${alg} is verified with the public key, which does not work as a shared secret`, async () => {
    const clock = new Clock();
    const { privateKey, publicKey } = await generateKeyPair(alg);
    const pem = await exportSPKI(publicKey);
    const { admit } = issuerOf({ publicKey: pem }, clock);
    await admit(claims, await token1(clock, {}, { alg }).sign(privateKey));
    const other = await generateKeyPair(alg);
    const forged = await token1(clock, {}, { alg }).sign(other.privateKey);
    await assert.rejects(admit(claims, forged), refused(/signature/));
    // Key confusion: an attacker uses the public key as if it were the shared secret.
    for (const text of [pem, pem.trim(), pem.replaceAll(/-----.*-----|\s/g, "")]) {
      const confused = await token1(clock).sign(new TextEncoder().encode(text));
      await assert.rejects(admit(claims, confused), refused(/algorithm is not allowed/));
    }
    const foreign = alg === "RS256" ? "ES256" : "RS256";
    const pair = await generateKeyPair(foreign);
    const wrong = await token1(clock, {}, { alg: foreign }).sign(pair.privateKey);
    await assert.rejects(admit(claims, wrong), refused(/algorithm is not the key's/));
  });
}

/** Replaces the clock of the whole program, because the key set's cache uses no other. */
function timeOfAll(clock: Clock): Disposable {
  const { now } = Date;
  Date.now = clock.now;
  return { [Symbol.dispose]: () => void (Date.now = now) };
}

Deno.test("jwt: keys come from a key set, follow its rotation, and stay valid while it is down", async () => {
  const clock = new Clock();
  using _time = timeOfAll(clock);
  const first = await generateKeyPair("ES256");
  const second = await generateKeyPair("RS256");
  const [old, fresh] = [
    { ...await exportJWK(first.publicKey), kid: "1", alg: "ES256" },
    { ...await exportJWK(second.publicKey), kid: "2", alg: "RS256" },
  ];
  let keys = [old];
  let asked = 0;
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, () => {
    asked++;
    return Response.json({ keys });
  });
  try {
    const jwks = `http://127.0.0.1:${server.addr.port}/keys`;
    const { admit } = issuerOf({ jwks, issuer: "shop", audience: "gru" }, clock);
    const payload = { iss: "shop", aud: "gru", exp: clock.ms / 1000 + 100_000 };
    const signed = (alg: string, kid: string, { privateKey }: GenerateKeyPairResult) =>
      token1(clock, payload, { alg, kid }).sign(privateKey);
    const byFirst = await signed("ES256", "1", first);
    const bySecond = await signed("RS256", "2", second);
    for (let i = 0; i < 10; i++) await admit(claims, byFirst);
    assert.equal(asked, 1);

    // An unknown key does not cause a fetch for each token.
    for (let i = 0; i < 10; i++) {
      await assert.rejects(admit(claims, bySecond), refused(/signature/));
    }
    assert.equal(asked, 1);
    clock.ms += 31_000;
    for (let i = 0; i < 10; i++) {
      await assert.rejects(admit(claims, bySecond), refused(/signature/));
    }
    assert.equal(asked, 2);

    // The key set gets a second key: the first token signed with it triggers the fetch.
    keys = [old, fresh];
    clock.ms += 31_000;
    for (let i = 0; i < 10; i++) await admit(claims, bySecond);
    await admit(claims, byFirst);
    assert.equal(asked, 3);

    // The key set drops the first key: its tokens are rejected once the cache expires.
    keys = [fresh];
    await admit(claims, byFirst);
    clock.ms += 601_000;
    await admit(claims, bySecond);
    await assert.rejects(admit(claims, byFirst), refused(/signature/));

    await server.shutdown();
    clock.ms += 601_000;
    for (let i = 0; i < 10; i++) await admit(claims, bySecond);
    await assert.rejects(admit(claims, byFirst), refused(/signature/));
  } finally {
    await server.shutdown();
  }
});

Deno.test("jwt: a key set that cannot be fetched is not reported as an invalid token", async () => {
  const jwks = "http://127.0.0.1:1/keys";
  const { admit } = issuerOf({ jwks, issuer: "shop", audience: "gru" }, new Clock());
  const { privateKey } = await generateKeyPair("ES256");
  const token = await token1(new Clock(), {}, { alg: "ES256" }).sign(privateKey);
  await assert.rejects(admit(claims, token), (error: Error) => error.name !== "TokenError");
});

async function token2(clock: Clock, nodes = ["spear1", "spear2"], payload = {}) {
  const { admit, issue } = issuerOf({ secret }, clock);
  const text = await token1(clock, { groups: ["a*"], ...payload }).sign(hmac);
  return await issue(await admit(claims, text), text, nodes);
}

Deno.test("jwt: token2 admits its user at its nodes, for some seconds", async () => {
  const clock = new Clock();
  const { token, expiresAt } = await token2(clock);
  assert.equal(expiresAt, clock.ms + 30_000);
  for (const node of ["spear1", "spear2"]) {
    const { grant, nodes, once } = await verifierOf(clock, node).check(claims, "", token);
    assert.deepEqual(grant.rights, { listen: ["a*"], send: ["a*"], users: ["*"] });
    assert.deepEqual(nodes, ["spear1", "spear2"]);
    assert.equal(once?.until, clock.ms + 40_000);
  }
  const { check } = verifierOf(clock);
  await check({ ...claims, userName: "", appType: "" }, "", token);
  await assert.rejects(
    verifierOf(clock, "spear3").check(claims, "", token),
    refused(/other nodes/),
  );
  await assert.rejects(check({ ...claims, userId: "8" }, "", token), refused(/another user/));
  await assert.rejects(
    check({ ...claims, userName: "B" }, "", token),
    refused(/another user name/),
  );
  await assert.rejects(check({ ...claims, appType: "2" }, "", token), refused(/another app/));
  clock.ms += 36_000;
  await assert.rejects(check(claims, "", token), refused(/expired/));
});

Deno.test("jwt: no other token of the same secret passes for token2, nor token2 for token1", async () => {
  const clock = new Clock();
  const { check } = verifierOf(clock);
  const key = new TextEncoder().encode(token2Secret);
  const lookalike = token1(clock, { nodes: ["spear1"], until: clock.ms + 1e6 });
  await assert.rejects(check(claims, "", await lookalike.sign(key)), refused(/claim typ/));
  const forged = await token1(clock, {}, { alg: "HS256", typ: "gru-token2+jwt" })
    .sign(hmac);
  await assert.rejects(check(claims, "", forged), refused(/signature/));
  const { token } = await token2(clock);
  await assert.rejects(issuerOf({ secret }, clock).admit(claims, token), refused(/signature/));
  for (const garbage of ["", "a.b.c", unsigned({ alg: "none", typ: "gru-token2+jwt" }, {})]) {
    await assert.rejects(check(claims, "", garbage), { name: "TokenError" });
  }
});

Deno.test("jwt: a resume token has the same bindings and is valid as long as the rights", async () => {
  const clock = new Clock();
  const { token } = await token2(clock);
  const own = verifierOf(clock);
  const entry = await own.check(claims, "", token);
  const resume = await own.resume(entry);
  assert.equal(resume?.expiresAt, clock.ms + 600_000);
  clock.ms += 599_000;
  const again = await verifierOf(clock, "spear2").check(claims, "", resume?.token ?? "");
  assert.deepEqual(again.grant, entry.grant);
  assert.deepEqual(again.nodes, entry.nodes);
  assert.notEqual(again.once?.id, entry.once?.id);
  await assert.rejects(
    verifierOf(clock, "spear3").check(claims, "", resume?.token ?? ""),
    refused(/other nodes/),
  );
  clock.ms += 10_000;
  await assert.rejects(own.check(claims, "", resume?.token ?? ""), refused(/expired/));
});

Deno.test("jwt: a spear can issue tokens that move its clients to other nodes", async () => {
  const clock = new Clock();
  const own = verifierOf(clock);
  const entry = await own.check(claims, "", (await token2(clock)).token);
  const pass = await own.pass(entry, ["spear9"], 20_000);
  const { grant } = await verifierOf(clock, "spear9").check(claims, "", pass);
  assert.deepEqual(grant, entry.grant);
  await assert.rejects(own.check(claims, "", pass), refused(/other nodes/));
});

Deno.test("jwt: secrets can be rotated without rejecting any valid token", async () => {
  const clock = new Clock();
  const next = "the-next-secret-of-32-characters!!";
  const { token } = await token2(clock);
  await verifierOf(clock, "spear1", `${next}, ${token2Secret}`).check(claims, "", token);
  await assert.rejects(
    verifierOf(clock, "spear1", next).check(claims, "", token),
    refused(/signature/),
  );
});
