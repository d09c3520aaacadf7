import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { exportSPKI } from "jose";
import { edgeApp, type EdgeSettings } from "./edge.ts";
import { startTicket, ticketSchema } from "./ticket.ts";

const token1 = "business-secret-of-32-characters!";
const token2 = "our-own-secret-of-32-characters-!";
const secrets = { GRU_TOKEN1_SECRET: token1, GRU_TOKEN2_SECRET: token2 };
const sample = "token_gen_for_ticket@sumory.com";

function load(profile: string, flags: readonly string[], environment: Record<string, string>) {
  return loadConfig({
    program: "ticket",
    schema: ticketSchema,
    profiles: new URL("./profiles/", import.meta.url),
    args: ["--profile", profile, ...flags],
    environment: (name) => environment[name],
  });
}

function assertHidden(error: Error, environment: Record<string, string>): void {
  for (const value of Object.values(environment)) {
    assert.ok(!error.message.includes(value), error.message);
  }
}

const jwt = "--auth.scheme=jwt";
const gru = ["--auth.scheme=gru", "--auth.gruAllowed=true"];

Deno.test("ticket accepts good secrets from the environment", () => {
  assert.equal(load("test1", [jwt], secrets).auth.token2Secret, token2);
  const jwks = ["--auth.token1.jwks=https://x/keys", "--auth.token1.issuer=shop"];
  load("test1", [jwt, ...jwks, "--auth.token1.audience=gru"], { GRU_TOKEN2_SECRET: token2 });
  load("dev", gru, { GRU_SALT_TOTICKET: sample, GRU_SALT_TOSPEAR: sample });
});

for (
  const [what, profile, flags, environment, message] of [
    ["jwt without any secret", "dev", [jwt], {}, /token1\.secret: .*needs exactly one of/],
    [
      "jwt without a secret for token2",
      "dev",
      [jwt],
      { GRU_TOKEN1_SECRET: token1 },
      /token2Secret/,
    ],
    ...[
      ["a certificate", "-----BEGIN CERTIFICATE-----\nMFkwEw==\n-----END CERTIFICATE-----"],
      [
        "a private key in one line",
        "-----BEGIN PRIVATE KEY-----\\nMFkwEw==\\n-----END PRIVATE KEY-----",
      ],
      ["a key without its frame", "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE"],
    ].map(([key, pem = ""]) =>
      [
        `a public key that is ${key}`,
        "dev",
        [jwt],
        { GRU_TOKEN1_PUBLIC_KEY: pem, GRU_TOKEN2_SECRET: token2 },
        /token1\.publicKey: .*PEM/,
      ] as const
    ),
    [
      "jwt with two ways to check token1",
      "dev",
      [jwt],
      { ...secrets, GRU_TOKEN1_PUBLIC_KEY: "-----BEGIN" },
      /needs exactly one of/,
    ],
    [
      "a short secret for token1",
      "dev",
      [jwt],
      { ...secrets, GRU_TOKEN1_SECRET: "short-secret" },
      /token1\.secret: must have 32/,
    ],
    [
      "one short secret of two",
      "dev",
      [jwt],
      { ...secrets, GRU_TOKEN2_SECRET: `${token2},brief` },
      /token2Secret: must have 32/,
    ],
    [
      "one secret for both tokens",
      "dev",
      [jwt],
      { ...secrets, GRU_TOKEN2_SECRET: token1 },
      /must differ from/,
    ],
    [
      "a key set without issuer and audience",
      "dev",
      [jwt, "--auth.token1.jwks=https://x/keys"],
      { GRU_TOKEN2_SECRET: token2 },
      /set auth\.token1\.issuer and auth\.token1\.audience/,
    ],
    [
      "the old scheme without gruAllowed",
      "test1",
      ["--auth.scheme=gru"],
      { GRU_SALT_TOTICKET: "a-salt", GRU_SALT_TOSPEAR: "b-salt" },
      /gruAllowed/,
    ],
    [
      "a sample salt outside dev",
      "test2",
      gru,
      { GRU_SALT_TOTICKET: sample, GRU_SALT_TOSPEAR: "b-salt" },
      /saltToTicket: is the published sample of the old Gru/,
    ],
    ["the old scheme without salts", "dev", gru, {}, /saltToTicket: scheme gru needs this salt/],
  ] as const
) {
  Deno.test(`ticket refuses to start with ${what}, and does not show the secret`, () => {
    assert.throws(() => load(profile, flags, environment), (error: Error) => {
      assert.equal(error.name, "ConfigError");
      assert.match(error.message, message);
      assertHidden(error, environment);
      return true;
    });
  });
}

Deno.test("ticket refuses to start with a public key that cannot verify any token", async () => {
  const rsa = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const pairs = [
    await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-384" }, true, [
      "sign",
      "verify",
    ]),
    await crypto.subtle.generateKey({ ...rsa, modulusLength: 1024 }, true, ["sign", "verify"]),
  ];
  for (const { publicKey } of pairs) {
    const environment = {
      GRU_TOKEN1_PUBLIC_KEY: await exportSPKI(publicKey),
      GRU_TOKEN2_SECRET: token2,
    };
    const config = load("dev", [jwt, "--registry=memory:", "--port=0"], environment);
    await assert.rejects(startTicket(config), {
      name: "ConfigError",
      message: /token1\.publicKey: .*(P-256|2048).*GRU_TOKEN1_PUBLIC_KEY/,
    });
  }
});

Deno.test("ticket refuses a secret in a flag", () => {
  assert.throws(() => load("dev", [`--auth.token2Secret=${token2}`], {}), /unknown flag/);
});

const url = { GRU_NODES_URL: "http://127.0.0.1:1/nodes" };

for (
  const [what, settings, message] of [
    ["no address of nodes", secrets, /GRU_NODES_URL: missing/],
    ["no secrets", url, /GRU_TOKEN2_SECRET: scheme jwt needs/],
    [
      "a short secret for token1",
      { ...url, ...secrets, GRU_TOKEN1_SECRET: "brief" },
      /GRU_TOKEN1_SECRET: must have 32/,
    ],
    [
      "one secret for both",
      { ...url, ...secrets, GRU_TOKEN2_SECRET: token1 },
      /GRU_TOKEN2_SECRET: must differ/,
    ],
    [
      "a key set without issuer and audience",
      { ...url, GRU_TOKEN2_SECRET: token2, GRU_TOKEN1_JWKS: "https://x/keys" },
      /GRU_TOKEN1_AUDIENCE: /,
    ],
    [
      "the old scheme",
      { ...url, ...secrets, GRU_AUTH_SCHEME: "gru" },
      /expected jwt, hook or open/,
    ],
    [
      "hops that are not a number",
      { ...url, ...secrets, GRU_TRUSTED_HOPS: "two" },
      /GRU_TRUSTED_HOPS: expected 0 or more, got two/,
    ],
    ["negative hops", { ...url, ...secrets, GRU_TRUSTED_HOPS: "-1" }, /GRU_TRUSTED_HOPS/],
  ] as [string, EdgeSettings, RegExp][]
) {
  Deno.test(`the edge refuses to start with ${what}`, () => {
    assert.throws(() => edgeApp(settings), { name: "TypeError", message });
  });
}

Deno.test("the edge starts with good settings", () => {
  edgeApp({ ...url, ...secrets });
  edgeApp({ ...url, GRU_AUTH_SCHEME: "open", GRU_TRUSTED_HOPS: "2" });
});
