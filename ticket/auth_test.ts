import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { edgeApp, type EdgeSettings } from "./edge.ts";
import { ticketSchema } from "./ticket.ts";

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

Deno.test("ticket takes good secrets from the environment", () => {
  assert.equal(load("test1", [jwt], secrets).auth.token2Secret, token2);
  const jwks = ["--auth.token1.jwks=https://x/keys", "--auth.token1.issuer=shop"];
  load("test1", [jwt, ...jwks, "--auth.token1.audience=gru"], { GRU_TOKEN2_SECRET: token2 });
  load("dev", gru, { GRU_SALT_TOTICKET: sample, GRU_SALT_TOSPEAR: sample });
});

for (
  const [what, profile, flags, environment, message] of [
    ["jwt without any secret", "dev", [jwt], {}, /token1\.secret: .*wants one of/],
    [
      "jwt without a secret for token2",
      "dev",
      [jwt],
      { GRU_TOKEN1_SECRET: token1 },
      /token2Secret/,
    ],
    [
      "jwt with two ways to check token1",
      "dev",
      [jwt],
      { ...secrets, GRU_TOKEN1_PUBLIC_KEY: "-----BEGIN" },
      /wants one of/,
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
      /must be another one/,
    ],
    [
      "a key set for whomever",
      "dev",
      [jwt, "--auth.token1.jwks=https://x/keys"],
      { GRU_TOKEN2_SECRET: token2 },
      /issuer and audience/,
    ],
    [
      "the old scheme where nobody allowed it",
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
      /saltToTicket: is Gru's sample/,
    ],
    ["the old scheme without salts", "dev", gru, {}, /saltToTicket: scheme gru wants this salt/],
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

Deno.test("ticket refuses a secret in a flag", () => {
  assert.throws(() => load("dev", [`--auth.token2Secret=${token2}`], {}), /unknown flag/);
});

const url = { GRU_NODES_URL: "http://127.0.0.1:1/nodes" };

for (
  const [what, settings, message] of [
    ["no address of nodes", secrets, /GRU_NODES_URL: missing/],
    ["no secrets", url, /GRU_TOKEN2_SECRET: scheme jwt wants/],
    [
      "a short secret for token1",
      { ...url, ...secrets, GRU_TOKEN1_SECRET: "brief" },
      /GRU_TOKEN1_SECRET: must have 32/,
    ],
    [
      "one secret for both",
      { ...url, ...secrets, GRU_TOKEN2_SECRET: token1 },
      /GRU_TOKEN2_SECRET: must be another/,
    ],
    [
      "a key set for whomever",
      { ...url, GRU_TOKEN2_SECRET: token2, GRU_TOKEN1_JWKS: "https://x/keys" },
      /GRU_TOKEN1_AUDIENCE: /,
    ],
    ["the old scheme", { ...url, ...secrets, GRU_AUTH_SCHEME: "gru" }, /expected jwt or open/],
    [
      "hops that are no number",
      { ...url, ...secrets, GRU_TRUSTED_HOPS: "two" },
      /GRU_TRUSTED_HOPS: expected 0 or more, got two/,
    ],
    ["less than no hops", { ...url, ...secrets, GRU_TRUSTED_HOPS: "-1" }, /GRU_TRUSTED_HOPS/],
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
