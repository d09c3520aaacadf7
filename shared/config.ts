/**
 * Profiles: one complete JSON file per program and setting, every key of it also a flag of the same
 * name, secrets only from the environment. All problems are reported at once, each with its key, its
 * value and what is allowed.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { z } from "zod";

/** The message is for the person who started the program; it lists every problem. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** Thrown for `--help`; the message is the help text. */
export class HelpRequested extends Error {
  override readonly name = "HelpRequested";
}

/** A key that no profile and no flag may hold: its value is the environment variable's. */
export function secret(environmentVariable: string) {
  return z.string().min(1).optional().meta({ environmentVariable });
}

/** A key that holds the profile's name, whatever is in the file. */
export function profileName() {
  return z.string().default("").meta({ profileName: true });
}

type Shape = z.ZodObject;

export interface ConfigSource<S extends Shape> {
  readonly program: string;
  readonly schema: S;
  /** The folder of `<name>.json` files that come with the program. */
  readonly profiles: URL;
  readonly args: readonly string[];
  readonly environment?: (name: string) => string | undefined;
  readonly readFile?: (path: string) => string;
}

/** @throws {ConfigError} {@linkcode HelpRequested} */
export function loadConfig<S extends Shape>(source: ConfigSource<S>): z.output<S> {
  const { program, schema, args, environment = Deno.env.get } = source;
  const all = leavesOf(schema);
  const leaves = all.filter((leaf) => !leaf.profileName);
  const keys = leaves.filter((leaf) => leaf.secret === undefined);
  const { profile, flags } = readFlags(program, args, keys);
  if (flags.help !== undefined) throw new HelpRequested(helpText(source, leaves));

  const values = readProfile(source, profile);
  const problems: string[] = [];
  for (const { path } of all.filter((leaf) => leaf.profileName)) set(values, path, profile);
  for (const leaf of leaves) {
    const given = get(values, leaf.path);
    if (leaf.secret === undefined) {
      const flag = flags[leaf.key];
      if (flag !== undefined) set(values, leaf.path, parseFlag(leaf, flag));
    } else if (given !== undefined) {
      problems.push(
        `${leaf.key}: a secret does not belong in a file; set the environment variable ${leaf.secret}`,
      );
    } else {
      const value = environment(leaf.secret);
      if (value !== undefined && value !== "") set(values, leaf.path, value);
    }
  }
  const result = schema.safeParse(values);
  if (!result.success) {
    problems.push(...result.error.issues.map((issue) => describe(issue, values, leaves)));
  }
  if (problems.length > 0 || !result.success) {
    throw new ConfigError(
      `${program}, profile ${profile}: ${problems.join(`\n${program}, profile ${profile}: `)}`,
    );
  }
  return result.data;
}

interface Leaf {
  readonly key: string;
  readonly path: readonly string[];
  readonly type: string;
  readonly description: string | undefined;
  readonly secret: string | undefined;
  readonly profileName: boolean;
}

function leavesOf(schema: Shape, prefix: readonly string[] = []): Leaf[] {
  return Object.entries(schema.shape).flatMap(([name, field]) => {
    const path = [...prefix, name];
    const inner = unwrap(field as z.ZodType);
    if (inner instanceof z.ZodObject) return leavesOf(inner, path);
    const meta = (field as z.ZodType).meta() ?? {};
    return [{
      key: path.join("."),
      path,
      type: inner instanceof z.ZodEnum ? inner.options.join(" | ") : inner.def.type,
      description: meta.description,
      secret: meta.environmentVariable as string | undefined,
      profileName: meta.profileName === true,
    }];
  });
}

function unwrap(field: z.ZodType): z.ZodType {
  return field instanceof z.ZodOptional || field instanceof z.ZodNullable ||
      field instanceof z.ZodDefault
    ? unwrap(field.unwrap() as z.ZodType)
    : field;
}

function readFlags(program: string, args: readonly string[], keys: readonly Leaf[]) {
  const names = ["profile", "help", ...keys.map((leaf) => leaf.key)];
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      names.map((name) => [name, { type: name === "help" ? "boolean" : "string" }]),
    ),
    strict: false,
    tokens: true,
  });
  const flags: Record<string, string> = {};
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    const given = token.kind === "option" ? token.rawName : token.value;
    if (token.kind !== "option" || !names.includes(token.name)) {
      throw new ConfigError(
        `${program}: unknown flag ${given}; allowed: ${names.map((name) => `--${name}`).join(" ")}`,
      );
    }
    if (token.name !== "help" && token.value === undefined) {
      throw new ConfigError(`${program}: flag ${given} needs a value`);
    }
    flags[token.name] = token.value ?? "";
  }
  return { profile: flags.profile ?? "dev", flags };
}

function parseFlag(leaf: Leaf, text: string): unknown {
  if (leaf.type === "number") {
    return text.trim() === "" || isNaN(Number(text)) ? text : Number(text);
  }
  if (leaf.type === "boolean") return text === "true" ? true : text === "false" ? false : text;
  if (leaf.type === "array") return text === "" ? [] : text.split(",");
  return text;
}

function readProfile<S extends Shape>(source: ConfigSource<S>, profile: string) {
  const { program, readFile = Deno.readTextFileSync } = source;
  if (!/^[\w-]+$/.test(profile)) {
    throw new ConfigError(
      `${program}: profile ${JSON.stringify(profile)}: a name of letters, digits, _ and -`,
    );
  }
  // A compiled program reads the file beside itself first, so that it can be changed without a rebuild.
  const beside = Deno.build.standalone
    ? [join(dirname(Deno.execPath()), "profiles", program, `${profile}.json`)]
    : [];
  const paths = [...beside, fileURLToPath(new URL(`${profile}.json`, source.profiles))];
  for (const path of paths) {
    let text;
    try {
      text = readFile(path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      throw new ConfigError(`${program}: profile ${profile}: cannot read ${path}: ${error}`);
    }
    try {
      const values = JSON.parse(text);
      if (typeof values === "object" && values !== null && !Array.isArray(values)) return values;
    } catch (error) {
      throw new ConfigError(`${program}: profile ${profile}: ${path} is not JSON: ${error}`);
    }
    throw new ConfigError(`${program}: profile ${profile}: ${path} is not a JSON object`);
  }
  throw new ConfigError(`${program}: no profile ${profile}; looked for ${paths.join(" and ")}`);
}

function describe(issue: z.core.$ZodIssue, values: unknown, leaves: readonly Leaf[]): string {
  const path = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    const depth = path.length;
    const siblings = leaves.filter((leaf) => path.every((part, i) => leaf.path[i] === part));
    const allowed = new Set(
      siblings.filter((leaf) => leaf.secret === undefined).map((leaf) => leaf.path[depth]),
    );
    const unknown = issue.keys.map((key) => [...path, key].join(".")).join(", ");
    return `${unknown}: unknown key; allowed: ${[...allowed].join(", ")}`;
  }
  const key = path.join(".");
  const leaf = leaves.find((leaf) => leaf.key === key);
  if (leaf?.secret !== undefined) {
    return `${key}: ${issue.message}; set the environment variable ${leaf.secret}`;
  }
  const value = get(values, path);
  const given = value === undefined ? "missing" : `is ${JSON.stringify(value)}`;
  const message = issue.message.replace(/^Invalid (input|option): /, "");
  return `${key}: ${given}; ${message}${leaf?.description ? ` (${leaf.description})` : ""}`;
}

function helpText<S extends Shape>(source: ConfigSource<S>, leaves: readonly Leaf[]): string {
  const flags = leaves.filter((leaf) => leaf.secret === undefined);
  const width = Math.max(...flags.map((leaf) => leaf.key.length)) + 4;
  const line = (name: string, text: string) => `  ${name.padEnd(width)} ${text}`;
  const secrets = leaves.filter((leaf) => leaf.secret !== undefined);
  return [
    `${source.program}: every key of a profile is a flag of the same name.`,
    "",
    line("--profile", "the name of the profile to start from (default dev)"),
    ...flags.map((leaf) =>
      line(`--${leaf.key}`, `${leaf.description ?? ""} [${leaf.type}]`.trim())
    ),
    ...(secrets.length === 0 ? [] : ["", "Secrets, from the environment only:"]),
    ...secrets.map((leaf) => line(leaf.secret ?? "", leaf.description ?? leaf.key)),
  ].join("\n");
}

function get(object: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, key) => typeof at === "object" && at !== null ? Reflect.get(at, key) : undefined,
    object,
  );
}

function set(object: Record<string, unknown>, path: readonly string[], value: unknown): void {
  const [first, ...rest] = path;
  if (first === undefined) return;
  if (rest.length === 0) {
    object[first] = value;
    return;
  }
  const inner = object[first] ?? {};
  object[first] = inner;
  // A value that is no object where one belongs is left for the schema to complain of.
  if (typeof inner === "object") set(inner as Record<string, unknown>, rest, value);
}
