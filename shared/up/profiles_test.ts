/** The profiles that come with the programs, and those that came with an earlier version. */
import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { ConfigError, readConfig } from "@gru/shared/config";
import { defaultText, leavesOf } from "../config/keys.ts";
import { isMisspelling } from "../config/names.ts";
import { readProfile } from "../config/profile.ts";
import earlier from "./profiles_fixture.json" with { type: "json" };
import { programs } from "./programs.ts";

/** What a start of the program gets, with the secrets that a profile of tests needs. @param file the text of the profile */
function read(name: string, profile: string, file?: string) {
  const program = programs.find((program) => program.name === name);
  assert.ok(program, `there is no program ${name}`);
  return readConfig({
    ...{ program: name, schema: program.schema, profiles: program.profiles },
    args: ["--profile", profile],
    environment: (variable) => variable === "GRU_MINIONS_PASSWORD" ? "a console word" : undefined,
    ...(file === undefined ? {} : { readFile: () => file }),
  });
}

for (const [file, values] of Object.entries(earlier)) {
  const [program = "", profile = ""] = file.split("/");

  Deno.test(`the profile ${file} of version 7cfb5b9 still means what it meant, and so does today's shorter one`, () => {
    const { config, warnings } = read(program, profile, JSON.stringify(values));
    assert.deepEqual(
      warnings,
      program === "spear"
        ? [`spear, profile ${profile}: the key gatherMs is now called batchDelayMs`]
        : [],
    );
    const today = read(program, profile);
    // Its default depends on the order: this one with strict.
    const defaults = program === "idgen" ? { ceilingMs: 3000 } : {};
    assert.deepEqual({ ...defaults, ...today.config }, config);
    assert.deepEqual(today.warnings, []);

    const given = new Map(entries(values));
    const renamed = new Map([["gatherMs", "batchDelayMs"]]);
    const inForce = new Map(entries(config));
    for (const [key, value] of given) {
      assert.deepEqual(inForce.get(renamed.get(key) ?? key), value, key);
    }
  });
}

/** `[["auth.scheme", "open"], …]` */
function entries(value: object, prefix = ""): [string, unknown][] {
  return Object.entries(value).flatMap(([name, inner]) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? entries(inner, `${prefix}${name}.`)
      : [[`${prefix}${name}`, inner] as [string, unknown]]
  );
}

for (const { name, schema, profiles } of programs) {
  Deno.test(`each key of ${name} has a meaning, and a default unless it is a secret`, () => {
    for (const leaf of leavesOf(schema)) {
      if (leaf.profileName) continue;
      assert.ok(leaf.description, `${leaf.key} has no meaning`);
      if (leaf.secret === undefined) {
        assert.notEqual(defaultText(leaf), undefined, `${leaf.key} has no default`);
      }
    }
  });

  Deno.test(`the profiles of ${name} hold only what differs from the defaults`, () => {
    const defaults = new Map(leavesOf(schema).map((leaf) => [leaf.key, leaf.defaultValue]));
    for (const { name: file } of Deno.readDirSync(fileURLToPath(profiles))) {
      const profile = file.replace(".json", "");
      const { values } = readProfile({ program: name, profiles }, profile);
      const { $schema, ...others } = values;
      assert.equal($schema, "../profile.schema.json");
      for (const [key, value] of entries(others)) {
        assert.notDeepEqual(value, defaults.get(key), `${file}: ${key} is the default`);
      }
    }
  });
}

for (const { name, schema } of programs) {
  Deno.test(`no key of ${name} looks to an older version like a misspelling of another key`, () => {
    const groups = Map.groupBy(leavesOf(schema), ({ path }) => path.slice(0, -1).join("."));
    const top = [...new Set(leavesOf(schema).map(({ path }) => path[0] ?? ""))];
    const inside = [...groups.values()].map((leaves) =>
      leaves.map(({ path }) => path.at(-1) ?? "")
    );
    for (const names of [top, ...inside]) {
      for (const one of names) {
        for (const other of names) {
          assert.ok(one === other || !isMisspelling(one, other), `${one} and ${other}`);
        }
      }
    }
  });
}

const everyProgram = programs.filter(({ name }) => name !== "up");
const secrets = {
  GRU_CLUSTER_KEY: "a cluster key",
  GRU_ZOOKEEPER_CREDENTIALS: "gru:digest word",
  GRU_REDIS_PASSWORD: "a redis word",
  GRU_STAT_API_KEY: "an api key",
  GRU_MINIONS_PASSWORD: "a console word",
  GRU_TOKEN1_SECRET: "the secret of token1 with many characters",
  GRU_TOKEN2_SECRET: "the secret of token2 with many characters",
};
const missing: Readonly<Record<string, readonly string[]>> = {
  ticket: ["auth.token1.secret", "auth.token2Secret"],
  spear: ["advertise", "auth.token2Secret", "redisPassword"],
  stat: ["apiKey", "redisPassword"],
  idgen: [],
  minions: ["apiKey", "password"],
};

for (const { name, schema, profiles } of everyProgram) {
  const load = (args: readonly string[], environment: Readonly<Record<string, string>>) =>
    readConfig({
      ...{ program: name, schema, profiles, args: ["--profile", "production", ...args] },
      environment: (variable) => environment[variable],
    });
  /** The key of each line. */
  const refused = (args: readonly string[]) => {
    try {
      load(args, {});
    } catch (error) {
      assert.ok(error instanceof ConfigError);
      return error.message.split("\n").map((line) =>
        /, profile production: ([\w.]+): /.exec(line)?.[1] ?? line
      ).sort();
    }
    return [];
  };
  const always = [...missing[name] ?? [], "rpc.clusterKey", "zookeeper.credentials"];

  Deno.test(`the profile production of ${name} names all that is missing at once, in one line each`, () => {
    assert.deepEqual(refused([]), [...always, "rpc.advertise"].sort());
    const local = always.filter((key) => key !== "advertise");
    assert.deepEqual(refused(["--host=127.0.0.1"]), local.sort(), "also on this machine alone");
  });

  Deno.test(`the profile production of ${name} is complete with the secrets and the addresses`, () => {
    const addresses = ["--rpc.advertise=10.0.0.5"];
    if (name === "spear") addresses.push("--advertise=http://spear1.example:31001");
    const { config, warnings } = load(addresses, secrets);
    const { host, zookeeper, auth, signIn } = config as Record<string, unknown>;
    assert.equal(host, "0.0.0.0");
    assert.equal((zookeeper as { acl: string }).acl, "digest");
    if (auth !== undefined) assert.equal((auth as { scheme: string }).scheme, "jwt");
    if (name === "minions") assert.equal(signIn, "password");
    assert.deepEqual(warnings, []);
  });
}
