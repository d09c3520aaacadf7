import assert from "node:assert/strict";
import { secretsProblem, signWebhook, verifyWebhook, WebhookError } from "./signature.ts";

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
const body = '{"test": 2432232314}';
const message = { id: "msg_p5jXN8AQM9LWM0D4loKWxJek", timestampS: 1614265330, body };
const nowS = message.timestampS;

Deno.test("a message has the signature of the specification's example", () => {
  assert.deepEqual(signWebhook(secret, message), {
    "webhook-id": message.id,
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
  });
});

Deno.test("a signed message is accepted, with headers as a record and as Headers", () => {
  const headers = signWebhook(secret, message);
  const expected = { id: message.id, timestampS: nowS };
  assert.deepEqual(verifyWebhook(secret, headers, body, { nowS }), expected);
  assert.deepEqual(verifyWebhook(secret, new Headers(headers), body, { nowS }), expected);
});

Deno.test("while secrets are rotated, each side may know the old one, the new one or both", () => {
  for (
    const [signs, accepts] of [[`${other},${secret}`, secret], [secret, `${other}, ${secret}`]]
  ) {
    verifyWebhook(accepts ?? "", signWebhook(signs ?? "", message), body, { nowS });
  }
  refused(signWebhook(other, message), body, nowS, /none fits/);
});

Deno.test("a changed body, id or time, and another's signature are refused", () => {
  const good = signWebhook(secret, message);
  refused(good, `${body} `, nowS, /none fits/);
  refused({ ...good, "webhook-id": "msg_2" }, body, nowS, /none fits/);
  refused({ ...good, "webhook-timestamp": String(nowS + 1) }, body, nowS, /none fits/);
  refused({ ...good, "webhook-signature": `v1,${"A".repeat(43)}=` }, body, nowS, /none fits/);
  refused({ ...good, "webhook-signature": "v1," }, body, nowS, /none fits/);
});

Deno.test("a message that is too old or from the future is refused", () => {
  const headers = signWebhook(secret, message);
  verifyWebhook(secret, headers, body, { nowS: nowS + 300 });
  verifyWebhook(secret, headers, body, { nowS: nowS - 300 });
  refused(headers, body, nowS + 301, /too old/);
  refused(headers, body, nowS - 301, /in the future/);
});

Deno.test("headers that are missing or malformed are refused by name", () => {
  const good = signWebhook(secret, message);
  for (const name of Object.keys(good)) {
    refused({ ...good, [name]: undefined }, body, nowS, new RegExp(`${name}: missing`));
  }
  for (const time of ["-1", "1e9", "NaN", " 1614265330", "1614265330.5", "9".repeat(13)]) {
    refused({ ...good, "webhook-timestamp": time }, body, nowS, /webhook-timestamp: expected/);
  }
  refused({ ...good, "webhook-id": "a.1" }, body, nowS, /webhook-id: expected/);
  for (const signature of ["v2,g0hM", "v1", "v1,%%%", "g0hM9SsE+OTPJTGt"]) {
    refused({ ...good, "webhook-signature": signature }, body, nowS, /none fits/);
  }
  refused({ ...good, "webhook-signature": "v1,AA ".repeat(30) }, body, nowS, /more than 20/);
});

Deno.test("a signature of another version beside a good one does no harm", () => {
  const good = signWebhook(secret, message);
  verifyWebhook(
    secret,
    { ...good, "webhook-signature": `v1a,xx ${good["webhook-signature"]}` },
    body,
    { nowS },
  );
});

Deno.test("a bad secret is named by its place, never shown", () => {
  assert.equal(secretsProblem(`${secret}, ${other}`), undefined);
  assert.match(secretsProblem(`${secret},abc`) ?? "", /^secret 2: expected whsec_/);
  assert.match(secretsProblem("whsec_***") ?? "", /expected base64/);
  assert.match(secretsProblem("whsec_AAAA") ?? "", /24 to 64 bytes.*got 3/);
  assert.throws(() => signWebhook("", message), TypeError);
});

function refused(
  headers: Record<string, string | undefined>,
  body: string,
  nowS: number,
  why: RegExp,
): void {
  assert.throws(() => verifyWebhook(secret, headers, body, { nowS }), (error) => {
    assert(error instanceof WebhookError);
    assert.match(error.message, why);
    return true;
  });
}
