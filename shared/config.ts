/**
 * Profiles: one JSON file per program and setting, which holds what differs from the schema's defaults; every key of it also a
 * flag of the same name, secrets only from the environment. All problems are reported at once, each with its key, its value and
 * what is allowed.
 */
import type { z } from "zod";
import { ConfigError, HelpRequested } from "./config/errors.ts";
import { parseFlag, readFlags } from "./config/flags.ts";
import { helpText } from "./config/help.ts";
import { get, type Leaf, leavesOf, set, type Shape } from "./config/keys.ts";
import { dropUnknownKeys, renameKeys } from "./config/names.ts";
import { printedConfig } from "./config/print.ts";
import { problemsOf } from "./config/problems.ts";
import { type ProfileFile, type ProfileSource, readProfile } from "./config/profile.ts";
import { logger } from "./log.ts";
import { hideSecret, redact } from "./redact.ts";
import { secretText } from "./secret_text.ts";

export { ConfigError, HelpRequested } from "./config/errors.ts";
export { profileName, secret } from "./config/keys.ts";

export interface ConfigSource<S extends Shape> extends ProfileSource {
  readonly schema: S;
  readonly args: readonly string[];
  readonly environment?: (name: string) => string | undefined;
}

export interface LoadedConfig<S extends Shape> {
  readonly config: z.output<S>;
  /** Its name or path. */
  readonly profile: string;
  /** `check`: the program is not to start. A text: neither, and this is to be printed. */
  readonly instead: "check" | { readonly print: string } | undefined;
  /** What works, and should be changed all the same: a line for each. */
  readonly warnings: readonly string[];
}

/** Warnings go to the program's log. @throws {ConfigError} {@linkcode HelpRequested} */
export function loadConfig<S extends Shape>(source: ConfigSource<S>): z.output<S> {
  const { config, warnings } = readConfig(source);
  for (const warning of warnings) logger(source.program).warn("{warning}", { warning });
  return config;
}

/** @throws {ConfigError} {@linkcode HelpRequested} */
export function readConfig<S extends Shape>(source: ConfigSource<S>): LoadedConfig<S> {
  const { program, schema, args, environment = Deno.env.get } = source;
  const all = leavesOf(schema);
  const leaves = all.filter((leaf) => !leaf.profileName);
  const keys = leaves.filter((leaf) => leaf.secret === undefined);
  const flags = readFlags(args, keys);
  if (flags.instead === "help") throw new HelpRequested(helpText(program, leaves));

  const { profile } = flags;
  const misused = flags.problems.map((problem) => redact(`${program}: ${problem}`));
  const { values, warnings: repeated } = readFile(source, profile, misused);
  const renamed = renameKeys(values, keys);
  const unknown = dropUnknownKeys(values, schema, leaves);
  const warnings = [...repeated, ...renamed, ...unknown.warnings, ...flags.warnings];
  for (const { path } of all.filter((leaf) => leaf.profileName)) set(values, path, profile);
  for (const leaf of keys) {
    const flag = flags.values.get(leaf.key);
    if (flag !== undefined) set(values, leaf.path, parseFlag(leaf, flag));
  }
  const problems = [
    ...unknown.problems,
    ...takeSecrets(values, leaves, environment),
    ...problemsOf(schema, values, leaves),
  ];
  const tell = (text: string) => redact(`${program}, profile ${profile}: ${text}`);
  const lines = [...misused, ...problems.map(tell)];
  if (lines.length > 0) throw new ConfigError(lines.join("\n"));
  const config = schema.parse(values);
  return {
    config,
    profile,
    instead: flags.instead === "print" ? { print: printedConfig(config, leaves) } : flags.instead,
    warnings: warnings.map(tell),
  };
}

/** @param misused what is wrong besides, if the file is wrong */
function readFile(source: ProfileSource, profile: string, misused: readonly string[]): ProfileFile {
  try {
    return readProfile(source, profile);
  } catch (error) {
    if (!(error instanceof ConfigError) || misused.length === 0) throw error;
    throw new ConfigError([...misused, error.message].join("\n"), { cause: error });
  }
}

/** Puts the environment's secrets among the values. @returns what is wrong with them */
function takeSecrets(
  values: Record<string, unknown>,
  leaves: readonly Leaf[],
  environment: (name: string) => string | undefined,
): string[] {
  const problems: string[] = [];
  for (const leaf of leaves) {
    if (leaf.secret === undefined) continue;
    if (get(values, leaf.path) !== undefined) {
      problems.push(
        `${leaf.key}: a secret does not belong in a file; set the environment variable ${leaf.secret}`,
      );
      continue;
    }
    const value = environment(leaf.secret) ?? "";
    hideSecret(value.trim());
    const read = secretText(value, leaf);
    if (read.problem !== undefined) {
      problems.push(`${leaf.key}: the environment variable ${leaf.secret} ${read.problem}`);
    }
    // Also one that is refused: it is not missing as well.
    const text = read.problem === undefined ? read.text : value.trim();
    if (text !== "") set(values, leaf.path, text);
  }
  return problems;
}
