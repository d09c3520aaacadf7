import assert from "node:assert/strict";
import fc from "fast-check";
import { z } from "zod";
import { isMisspelling } from "./config/names.ts";
import { ConfigError, HelpRequested, loadConfig, readConfig, secret } from "./config.ts";

const schema = z.strictObject({
  port: z.int().min(0).max(65_535).describe("where to listen"),
  mode: z.enum(["single", "redis"]),
  open: z.boolean().optional(),
  name: z.string().min(1).optional(),
  auth: z.strictObject({ scheme: z.string(), salt: secret("TEST_SALT") })
    .refine(({ scheme, salt }) => scheme !== "gru" || salt !== undefined, {
      path: ["salt"],
      error: "scheme gru wants a salt",
    }).meta({ unknownKeys: "refuse" }),
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
      ["--lever", "1"],
      undefined,
      /unknown flag --lever; allowed: .*--port.*--auth\.scheme/,
    ],
    [
      "a misspelled flag",
      ["--prot", "1"],
      undefined,
      /unknown flag --prot; did you mean --port\?$/,
    ],
    ["a switch with a value", ["--check=no"], undefined, /flag --check takes no value/],
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
    [
      "a profile that is neither a name nor a path",
      ["--profile", "a profile"],
      undefined,
      /profile "a profile": expected a name of letters, digits, _ and -, or the path of a \.json file/,
    ],
    [
      "a path that leads nowhere",
      ["--profile", "../x"],
      undefined,
      /no profile \.\.\/x; looked for \.\.\/x$/,
    ],
    [
      "a misspelled key",
      [],
      { ...profile, prot: 1 },
      /^prog, profile dev: prot: unknown key; did you mean port\?$/,
    ],
    [
      "a misspelled key that is a secret",
      [],
      { ...profile, auth: { scheme: "open", slat: "hidden" } },
      /auth\.slat: unknown key; did you mean auth\.salt\? A secret: .*TEST_SALT$/,
    ],
    [
      "a key as flags have it",
      [],
      { ...profile, "auth.scheme": "open" },
      /auth\.scheme: unknown key; in a file it is \{ "auth": \{ "scheme": … \} \}$/,
    ],
    [
      "an unknown key in a group that protects",
      [],
      { ...profile, auth: { scheme: "open", twice: true } },
      /auth\.twice: unknown key; allowed: scheme, salt \(not ignored: .*protect/,
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
    [
      "no JSON",
      [],
      '{\n  "port" 1',
      /\/profiles\/dev\.json is not JSON: line 2, column 10: colon expected$/,
    ],
    [
      "an empty file",
      [],
      "",
      /\/profiles\/dev\.json is not JSON: line 1, column 1: value expected$/,
    ],
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

Deno.test("loadConfig names wrong flags, a wrong file and wrong values together", () => {
  const messageOf = (args: string[], profile?: unknown) => {
    try {
      load(args, { profile });
    } catch (error) {
      return (error as Error).message.split("\n");
    }
    return [];
  };
  assert.deepEqual(
    messageOf(["--prot", "1", "word", "--port=x", "--open", "--name"]).map((line) =>
      line.slice(0, 32)
    ),
    [
      "prog: unknown flag --prot; did y",
      "prog: unknown flag word; allowed",
      "prog: flag --open needs a value",
      'prog, profile dev: port: is "x";',
    ],
  );
  assert.deepEqual(messageOf(["--prot=1"], "{").map((line) => line.slice(0, 19)), [
    "prog: unknown flag ",
    "prog, profile dev: ",
  ]);
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

const secrets = z.strictObject({
  plain: secret("TEST_PLAIN"),
  pem: secret("TEST_PEM", { lines: true }),
});

function loadSecrets(environment: Record<string, string>) {
  return loadConfig({
    program: "prog",
    schema: secrets,
    profiles: new URL("file:///profiles/"),
    args: [],
    environment: (name) => environment[name],
    readFile: () => "{}",
  });
}

Deno.test("a secret is what stands between the white space around it", () => {
  const space = fc.stringMatching(/^[ \t\r\n\u00a0\ufeff]{0,4}$/);
  const word = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/);
  fc.assert(fc.property(space, word, space, (before, word, after) => {
    assert.deepEqual(loadSecrets({ TEST_PLAIN: before + word + after }), { plain: word });
  }));
  const pem = "-----BEGIN PUBLIC KEY-----\r\nabc\n-----END PUBLIC KEY-----";
  assert.deepEqual(loadSecrets({ TEST_PEM: `\n${pem}\n` }), { pem });
  const lines = "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----";
  for (const end of ["\\n", "\\r\\n"]) {
    const escaped = lines.replaceAll("\n", end);
    assert.deepEqual(loadSecrets({ TEST_PEM: `${escaped}${end}` }), { pem: lines });
  }
});

Deno.test("a secret with a line end or a control character inside is refused by its variable's name", () => {
  for (
    const [name, value, message] of [
      [
        "TEST_PLAIN",
        "hidden\nhidden",
        /plain: the environment variable TEST_PLAIN holds a line end/,
      ],
      ["TEST_PLAIN", "hidden\r\nhidden", /TEST_PLAIN holds a line end inside \(U\+000D\)/],
      ["TEST_PLAIN", "hidden\u0000hidden", /TEST_PLAIN holds a control character .*U\+0000/],
      ["TEST_PLAIN", "hidden\thidden", /TEST_PLAIN holds a control character .*U\+0009/],
      ["TEST_PLAIN", "hidden\u2028hidden", /TEST_PLAIN holds .*U\+2028/],
      ["TEST_PEM", "hidden\u001bhidden", /TEST_PEM holds .*U\+001B/],
      ["TEST_PLAIN", "hidden\u200b", /TEST_PLAIN holds .*invisible.*U\+200B/],
      ["TEST_PLAIN", "\u200ehidden", /TEST_PLAIN holds .*U\+200E/],
      ["TEST_PLAIN", "\u2060", /TEST_PLAIN holds .*U\+2060/],
      ["TEST_PEM", "hidden\\dhidden", /TEST_PEM holds a backslash inside .*expected PEM/],
      ["TEST_PLAIN", " \n", /TEST_PLAIN holds nothing but white space/],
    ] as const
  ) {
    assert.throws(() => loadSecrets({ [name]: value }), (error) => {
      assert.ok(error instanceof ConfigError);
      assert.match(error.message, message);
      assert.doesNotMatch(error.message, /hidden/);
      return true;
    });
  }
});

/** The warnings, of a profile that is taken. */
function warningsOf(file: string): readonly string[] {
  const { config, warnings } = readConfig({
    ...{ program: "prog", schema, profiles: new URL("file:///profiles/"), args: [] },
    environment: () => undefined,
    readFile: () => file,
  });
  assert.deepEqual(config, profile);
  return warnings.map((warning) => warning.replace("prog, profile dev: ", ""));
}

Deno.test("a profile may hold comments, commas after the last, a byte order mark and the editor's $schema", () => {
  const file = `\ufeff// The first spear.
{
  "$schema": "../profile.schema.json",
  /* for people: */ "port": 1, // the port
  "mode": "single",
  "auth": { "scheme": "open", },
}
`;
  assert.deepEqual(warningsOf(file), []);
});

Deno.test("a key of a newer version is ignored with a warning that names it, wherever it is", () => {
  const nested = z.strictObject({
    limits: z.strictObject({ authMs: z.int().default(1) }).prefault({}),
    groups: z.array(z.strictObject({ match: z.string() })).default([]),
  });
  const file = { ages: 1, limits: { nodes: 2 }, groups: [{ match: "a", rate: 3 }] };
  const { config, warnings } = readConfig({
    ...{ program: "prog", schema: nested, profiles: new URL("file:///profiles/"), args: [] },
    environment: () => undefined,
    readFile: () => JSON.stringify(file).replace("{", '{"__proto__": { "limits": 5 }, '),
  });
  assert.deepEqual(config, { limits: { authMs: 1 }, groups: [{ match: "a" }] });
  assert.deepEqual(
    warnings,
    ["__proto__", "ages", "limits.nodes", "groups.0.rate"].map((key) =>
      `prog, profile dev: the unknown key ${key} is ignored; perhaps it belongs to a newer version`
    ),
  );
});

Deno.test("of a key that is given twice the last value is used, with a warning that says where", () => {
  const file =
    `{ "port": 2, "mode": "single", "auth": { "scheme": "x", "scheme": "open" },\n "port": 1 }`;
  assert.deepEqual(warningsOf(file), [
    "the key auth.scheme is given again in line 1, column 57; this value is used",
    "the key port is given again in line 2, column 2; this value is used",
  ]);
});

Deno.test("a profile may be a file anywhere, by its path", () => {
  for (const path of ["./x.json", "/etc/gru/spear", "x.jsonc", "..\\x"]) {
    const { config, profile: name } = readConfig({
      ...{ program: "prog", schema, profiles: new URL("file:///profiles/") },
      args: ["--profile", path],
      environment: () => undefined,
      readFile: (asked) => {
        assert.equal(asked, path);
        return JSON.stringify(profile);
      },
    });
    assert.deepEqual(config, profile);
    assert.equal(name, path);
  }
});

Deno.test("a file that the program may not read is refused with what gives the permission", () => {
  assert.throws(
    () =>
      loadConfig({
        ...{ program: "prog", schema, profiles: new URL("file:///profiles/") },
        args: ["--profile", "/etc/gru/x.json"],
        readFile: () => {
          throw new Deno.errors.NotCapable("Requires read access");
        },
      }),
    {
      message: "prog, profile /etc/gru/x.json: may not be read; " +
        "set the environment variable GRU_PERMISSIONS=--allow-read=/etc/gru/x.json",
    },
  );
});

Deno.test("--check and --print-config read everything and start nothing; what is printed holds no secret", () => {
  const read = (...args: string[]) =>
    readConfig({
      ...{ program: "prog", schema: printed, profiles: new URL("file:///profiles/"), args },
      environment: (name) => name === "TEST_SALT" ? "hidden" : undefined,
      readFile: () => "{}",
    }).instead;
  const printed = z.strictObject({
    url: z.string().default("redis://user:hidden@127.0.0.1"),
    list: z.array(z.string()).default(["*"]),
    auth: z.strictObject({ salt: secret("TEST_SALT"), other: secret("TEST_OTHER") }).prefault({}),
    port: z.int().default(5),
  });
  assert.equal(read(), undefined);
  assert.equal(read("--check"), "check");
  const shown = read("--print-config", "--port=6");
  assert.ok(typeof shown === "object");
  assert.deepEqual(JSON.parse(shown.print), {
    url: "redis://user:***@127.0.0.1",
    list: ["*"],
    auth: { salt: "***" },
    port: 6,
  });
  assert.throws(() => read("--check", "--port=x"), ConfigError);
  assert.throws(() => read("--print-config", "--port=x"), ConfigError);
});

Deno.test("a misspelling differs in few letters, their order, case or dashes; names with other numbers are other names", () => {
  for (const name of ["prot", "Port", "por", "ports", "p_ort"]) {
    assert.ok(isMisspelling(name, "port"));
  }
  for (const name of ["drain_ms", "drainMS", "dranMs", "drainsMs"]) {
    assert.ok(isMisspelling(name, "drainMs"), name);
  }
  for (
    const [name, known] of [
      ["host", "port"],
      ["token1", "token2"],
      ["authMs", "ageMs"],
      ["workPerSecond", "nodeWorkPerSecond"],
      ["certFile", "keyFile"],
    ] as const
  ) assert.ok(!isMisspelling(name, known), name);
});

Deno.test("a profile may begin with a byte order mark, and end its lines as Windows does", () => {
  const source = {
    program: "prog",
    schema: z.strictObject({ one: z.int() }),
    profiles: new URL("file:///profiles/"),
    args: [],
    environment: () => undefined,
  };
  const readFile = () => '\ufeff{\r\n"one": 1\r\n}\r\n';
  assert.deepEqual(loadConfig({ ...source, readFile }), { one: 1 });
});

Deno.test("a value that is refused is shown without what may be a password in it", () => {
  const refused = z.string().refine(() => false, "is no address");
  const source = {
    program: "prog",
    schema: z.strictObject({ one: refused, all: z.array(refused) }),
    profiles: new URL("file:///profiles/"),
    environment: () => undefined,
  };
  for (const address of ["redis://u:a/hidden@h", "cluster:u:a @hidden@h:1", "u:hidden@h:1"]) {
    const readFile = () => JSON.stringify({ one: address, all: [address] });
    assert.throws(() => loadConfig({ ...source, args: [], readFile }), (error: Error) => {
      assert.match(error.message, /one: is .*\*\*\*@h/);
      assert.match(error.message, /all\.0: is .*\*\*\*@h/);
      assert.doesNotMatch(error.message, /hidden/);
      return true;
    });
  }
});

const renamed = z.strictObject({
  batchDelayMs: z.int().default(25).meta({ formerly: ["gatherMs"] }),
  limits: z.strictObject({ authMs: z.int().default(10).meta({ formerly: ["loginMs"] }) })
    .prefault({}),
});

function readRenamed(args: readonly string[], profile: unknown) {
  const { config, warnings } = readConfig({
    ...{ program: "prog", schema: renamed, profiles: new URL("file:///profiles/"), args },
    environment: () => undefined,
    readFile: () => JSON.stringify(profile),
  });
  return { config, warnings };
}

Deno.test("a key's former name goes on working in a profile and as a flag, with one warning that names the new one", () => {
  assert.deepEqual(readRenamed([], { gatherMs: 1, loginMs: 2 }), {
    config: { batchDelayMs: 1, limits: { authMs: 2 } },
    warnings: [
      "prog, profile dev: the key gatherMs is now called batchDelayMs",
      "prog, profile dev: the key loginMs is now called limits.authMs",
    ],
  });
  assert.deepEqual(readRenamed(["--gatherMs=3"], { batchDelayMs: 1 }), {
    config: { batchDelayMs: 3, limits: { authMs: 10 } },
    warnings: ["prog, profile dev: the flag --gatherMs is now called --batchDelayMs"],
  });
  assert.throws(
    () => readRenamed(["--gatherMs=x"], {}),
    ({ message }) => /^prog, profile dev: batchDelayMs: is "x"/.test(message),
  );
});

Deno.test("a key's name of today counts more than its former one", () => {
  const { config } = readRenamed(["--gatherMs=3", "--batchDelayMs=4"], {
    ...{ loginMs: 5, limits: { authMs: 6 } },
  });
  assert.deepEqual(config, { batchDelayMs: 4, limits: { authMs: 6 } });
});

Deno.test("a value of a wrong type does not hide what else is wrong, and a missing value is named once", () => {
  const guarded = schema.superRefine(({ auth }, context) => {
    if (auth.salt === undefined) {
      context.addIssue({ code: "custom", path: ["auth", "salt"], message: "missing here too" });
    }
  });
  const profile = { port: 1, mode: "x", auth: { scheme: "gru" } };
  assert.throws(
    () =>
      loadConfig({
        ...{ program: "prog", schema: guarded, profiles: new URL("file:///profiles/"), args: [] },
        environment: () => undefined,
        readFile: () => JSON.stringify(profile),
      }),
    ({ message }) => {
      assert.deepEqual(message.split("\n").map((line: string) => line.slice(0, 40)), [
        'prog, profile dev: mode: is "x"; expecte',
        "prog, profile dev: auth.salt: scheme gru",
      ]);
      return true;
    },
  );
});
