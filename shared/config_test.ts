import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import { ConfigError, HelpRequested, loadConfig, secret } from "./config.ts";

const schema = z.strictObject({
  port: z.int().min(0).max(65_535).describe("where to listen"),
  mode: z.enum(["single", "redis"]),
  open: z.boolean().optional(),
  name: z.string().min(1).optional(),
  auth: z.strictObject({ scheme: z.string(), salt: secret("TEST_SALT") })
    .refine(({ scheme, salt }) => scheme !== "gru" || salt !== undefined, {
      path: ["salt"],
      error: "scheme gru wants a salt",
    }),
});

const profile = { port: 1, mode: "single", auth: { scheme: "open" } };

function load(
  args: readonly string[] = [],
  options: { profile?: unknown; environment?: Record<string, string> } = {},
) {
  return loadConfig({
    program: "prog",
    schema,
    profiles: new URL("file:///profiles/"),
    args,
    environment: (name) => options.environment?.[name],
    readFile: (path) => {
      if (path !== "/profiles/dev.json") throw new Deno.errors.NotFound();
      const given = options.profile ?? profile;
      return typeof given === "string" ? given : JSON.stringify(given);
    },
  });
}

Deno.test("loadConfig reads the profile, flags over it, secrets from the environment", () => {
  assert.deepEqual(load(), profile);
  assert.deepEqual(
    load(["--port", "2", "--mode=redis", "--auth.scheme", "gru", "--open", "true"], {
      environment: { TEST_SALT: "s" },
    }),
    { port: 2, mode: "redis", open: true, auth: { scheme: "gru", salt: "s" } },
  );
});

for (
  const [what, args, given, message] of [
    [
      "an unknown flag",
      ["--prot", "1"],
      undefined,
      /unknown flag --prot; allowed: .*--port.*--auth\.scheme/,
    ],
    ["a word that is no flag", ["port"], undefined, /unknown flag port/],
    ["a flag without a value", ["--port"], undefined, /flag --port needs a value/],
    ["a secret as a flag", ["--auth.salt", "x"], undefined, /unknown flag --auth\.salt/],
    [
      "a flag of the wrong type",
      ["--port", "x"],
      undefined,
      /port: is "x"; expected number.*where to listen/,
    ],
    ["an empty number", ["--port="], undefined, /port: is ""/],
    ["a flag out of range", ["--port", "70000"], undefined, /port: is 70000/],
    ["a boolean that is none", ["--open", "yes"], undefined, /open: is "yes"/],
    [
      "a profile that is not there",
      ["--profile", "none"],
      undefined,
      /no profile none; looked for \/profiles\/none\.json/,
    ],
    ["a profile that leaves the folder", ["--profile", "../x"], undefined, /profile "\.\.\/x"/],
    [
      "an unknown key",
      [],
      { ...profile, prot: 1 },
      /prot: unknown key; allowed: port, mode, open, name, auth$/,
    ],
    [
      "an unknown inner key",
      [],
      { ...profile, auth: { scheme: "open", x: 1 } },
      /auth\.x: unknown key; allowed: scheme$/,
    ],
    ["a wrong type", [], { ...profile, port: "1" }, /port: is "1"; expected number/],
    [
      "a missing key",
      [],
      { mode: "single", auth: { scheme: "open" } },
      /port: missing; expected number/,
    ],
    [
      "a value that is not offered",
      [],
      { ...profile, mode: "x" },
      /mode: is "x"; expected one of "single"\|"redis"/,
    ],
    [
      "a number where an object belongs",
      [],
      { ...profile, auth: 1 },
      /auth: is 1; expected object/,
    ],
    [
      "a secret in the file",
      [],
      { ...profile, auth: { scheme: "gru", salt: "x" } },
      /auth\.salt: a secret does not belong in a file; .*TEST_SALT/,
    ],
    [
      "a missing secret",
      ["--auth.scheme", "gru"],
      undefined,
      /auth\.salt: scheme gru wants a salt; set the environment variable TEST_SALT/,
    ],
    ["no JSON", [], "{", /\/profiles\/dev\.json is not JSON/],
    ["JSON that is no object", [], "[]", /\/profiles\/dev\.json is not a JSON object/],
  ] as const
) {
  Deno.test(`loadConfig refuses ${what} and says what would do`, () => {
    assert.throws(() => load(args, given === undefined ? {} : { profile: given }), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      return true;
    });
  });
}

Deno.test("loadConfig tells all problems at once and never a secret", () => {
  assert.throws(
    () => load(["--port", "x", "--mode", "y"], { environment: { TEST_SALT: "hidden" } }),
    ({ message }) => /port: /.test(message) && /mode: /.test(message) && !/hidden/.test(message),
  );
});

Deno.test("loadConfig lists every flag and secret for --help", () => {
  assert.throws(() => load(["--help"]), (error) => {
    assert.ok(error instanceof HelpRequested);
    for (
      const word of ["--port", "where to listen", "--auth.scheme", "single | redis", "TEST_SALT"]
    ) {
      assert.ok(error.message.includes(word), word);
    }
    return true;
  });
});

Deno.test("loadConfig takes or refuses whatever it is given, and nothing else happens", () => {
  fc.assert(fc.property(fc.array(fc.string()), fc.jsonValue(), (args, profile) => {
    try {
      load(args, { profile });
    } catch (error) {
      assert.ok(error instanceof ConfigError || error instanceof HelpRequested, String(error));
    }
  }));
});
