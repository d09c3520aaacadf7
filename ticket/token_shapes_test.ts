/**
 * Claims of a well-signed token may have any shape: the token is either accepted, or rejected with the name of the
 * claim. Nothing else happens.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { createHmac } from "node:crypto";
import fc from "fast-check";
import { isUserId } from "@gru/spear/identifiers";
import { ticketApp } from "./app.ts";
import { TokenError, type Verifier } from "./scheme.ts";
import { issuer, verifier } from "./token.ts";
import { slowTest } from "@gru/shared/testing/harness";

const secret = "a-secret-of-the-business-system-01";
const token2Secret = "a-secret-of-ticket-and-the-spears-1";
const nowMs = 1_700_000_000_000;
const nowS = nowMs / 1000;

const { admit, issue, bindsNodes } = issuer({
  scheme: "jwt",
  token1: { secret, issuer: "shop", audience: "gru", skewMs: 5000 },
  token2Secret,
  token2Ms: 30_000,
  rightsMs: 3_600_000,
}, () => nowMs);
const spear1: Verifier = verifier(
  { scheme: "jwt", token2Secret, skewMs: 5000 },
  "spear1",
  () => nowMs,
);

const errors: Error[] = [];
const app = ticketApp({
  nodes: () => [{ name: "spear1", addr: "http://spear1" }],
  issuer: { admit, issue, bindsNodes },
  now: () => nowMs,
  onError: (error) => errors.push(error),
});

function encoded(value: unknown): string {
  return Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString(
    "base64url",
  );
}

/** @param claims JSON text or a value: text can hold numbers that JSON.stringify would not write */
function signed(claims: unknown, key: string, header: object = { alg: "HS256" }): string {
  const text = `${encoded(header)}.${encoded(claims)}`;
  return `${text}.${createHmac("sha256", key).update(text).digest("base64url")}`;
}

const good1 = { sub: "7", exp: nowS + 600, iss: "shop", aud: "gru", name: "Ann", app: "1" };
const good2 = {
  ...{ sub: "7", jti: "x", exp: nowS + 30, name: "Ann", app: "1", nodes: ["spear1"] },
  ...{ until: nowMs + 600_000, groups: ["a*"], users: ["*"] },
};
const header2 = { alg: "HS256", typ: "gru-token2+jwt" };

/** JSON texts that a program which builds tokens by hand may write. */
const oddities = [
  ...["null", "true", "false", "0", "-1", "7", "7.5", "1e300", "-1e300", "1e999", "-1e999"],
  ...[
    "9007199254740993",
    "123456789012345678901234567890",
    '""',
    '"7"',
    '"07"',
    '"x"',
    '"\\ud800"',
  ],
  ...['"\\u0000"', "[]", "[[]]", '["7"]', "[7]", "[null]", "[[[[1]]]]", "{}", '{"sub":"7"}'],
  ...['{"listen":7}', '{"listen":[{}]}', '{"__proto__":[]}', '{"toString":"x"}', '{"length":1}'],
  ...[`"${"x".repeat(5000)}"`, `[${"1,".repeat(1500)}1]`, '"\u{1F600}"'],
];

function withClaim(good: object, claim: string, json: string): string {
  const rest = Object.entries(good).filter(([name]) => name !== claim)
    .map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)},`).join("");
  return `{${rest}"${claim}":${json}}`;
}

async function post(token: string) {
  errors.length = 0;
  const response = await app.request("/ticket", {
    method: "POST",
    headers: { authorization: `Bearer ${token}` },
  });
  return { status: response.status, ...await response.json() };
}

async function get(token: string) {
  const query = new URLSearchParams({ userId: "7", userName: "Ann", appType: "1", token1: token });
  return await (await app.request(`/ticket?${query}`)).json();
}

for (
  const claim of [
    "sub",
    "exp",
    "nbf",
    "iat",
    "iss",
    "aud",
    "name",
    "app",
    "groups",
    "users",
    "jti",
    "affinity",
  ]
) {
  Deno.test(`token1 with any value for ${claim} gets a ticket, or 401 and 711 that name the claim`, async () => {
    for (const json of oddities) {
      const token = signed(withClaim(good1, claim, json), secret);
      const answer = await post(token);
      assert.deepEqual(errors, [], `${claim}: ${json}`);
      const again = await get(token);
      if (answer.success) {
        assert.ok(again.success || again.errorCode === 711, `${claim}: ${json}`);
        continue;
      }
      const what = `${claim}: ${json.slice(0, 40)}: ${answer.detail}`;
      assert.deepEqual([answer.status, answer.errorCode], [401, 711], what);
      if (!/expired|future|too long/.test(answer.detail)) {
        assert.match(answer.detail, new RegExp(`\\b${claim}\\b`), what);
      }
      assert.equal(again.errorCode, 711, what);
    }
  });
}

for (const claim of ["exp", "nbf", "iat"]) {
  Deno.test(`token1 whose ${claim} is beyond all time is rejected, and the error names the claim`, async () => {
    for (const json of ["1e999", "1e300", "8640000000001", "123456789012345678901234567890"]) {
      const { status, detail } = await post(signed(withClaim(good1, claim, json), secret));
      assert.equal(status, 401, `${claim}: ${json}`);
      assert.match(detail, new RegExp(`claim ${claim}`));
    }
  });
}

for (const [what, sub] of [["a number", 7], ["a list", ["7"]], ["an object", { a: 7 }]] as const) {
  Deno.test(`token1 whose sub is ${what} is rejected because it is not text`, async () => {
    const { status, errorCode, detail } = await post(signed({ ...good1, sub }, secret));
    assert.deepEqual([status, errorCode], [401, 711]);
    assert.match(detail, new RegExp(`claim sub: expected .* got ${what}`));
  });
}

/** Returns the admitted user, or throws a TokenError. */
async function checkToken2(token: string): Promise<string> {
  try {
    const entry = await spear1.check({ userId: "7", userName: "", appType: "" }, "", token);
    assert.ok(isUserId(entry.grant.userId));
    assert.ok(Number.isFinite(entry.once?.until) && Number.isFinite(entry.grant.rightsUntil));
    await spear1.resume(entry);
    await spear1.pass(entry, ["spear2"], 1000);
    return "";
  } catch (error) {
    assert.ok(error instanceof TokenError, `${error}`);
    return error.message;
  }
}

for (const claim of Object.keys(good2)) {
  Deno.test(`token2 and resume with any value for ${claim} are accepted, or rejected with the name of the claim`, async () => {
    for (const json of oddities) {
      const message = await checkToken2(
        signed(withClaim(good2, claim, json), token2Secret, header2),
      );
      if (message === "" || /expired|too long|another (user|name|app)|other nodes/.test(message)) {
        continue;
      }
      assert.match(message, new RegExp(`\\b${claim}\\b`), `${claim}: ${json.slice(0, 40)}`);
    }
  });
  Deno.test(`token2 without ${claim} is rejected, unless the claim is optional`, async () => {
    const token = signed({ ...good2, [claim]: undefined }, token2Secret, header2);
    const message = await checkToken2(token);
    if (claim === "groups" || claim === "users") assert.equal(message, "");
    else assert.match(message, new RegExp(`\\b${claim}\\b`));
  });
}

const anyClaims = fc.tuple(
  fc.constantFrom({}, good1, good2),
  fc.dictionary(
    fc.constantFrom(...Object.keys(good1), ...Object.keys(good2), "nbf", "iat", "__proto__"),
    fc.jsonValue(),
  ),
).map(([good, odd]) => ({ ...good, ...odd }));

slowTest(
  "no token makes ticket or spear fail, whatever its claims, its header and its payload are",
  async () => {
    const payload = fc.oneof(anyClaims, fc.jsonValue(), fc.string());
    const header = fc.record({
      alg: fc.oneof({ weight: 4, arbitrary: fc.constant("HS256") }, fc.jsonValue()),
      typ: fc.oneof({ weight: 4, arbitrary: fc.constant("gru-token2+jwt") }, fc.jsonValue()),
      kid: fc.jsonValue(),
      crit: fc.oneof(fc.constant(["b64"]), fc.constant(["exp"]), fc.jsonValue()),
      b64: fc.jsonValue(),
      zip: fc.jsonValue(),
      jwk: fc.jsonValue(),
    }, { requiredKeys: ["alg"] });
    await fc.assert(
      fc.asyncProperty(payload, header, async (payload, header) => {
        const answer = await post(signed(payload, secret, header));
        assert.deepEqual(errors, []);
        assert.ok(answer.success || (answer.status === 401 && answer.errorCode === 711));
        await checkToken2(signed(payload, token2Secret, header));
      }),
      { numRuns: 1000 },
    );
  },
);
