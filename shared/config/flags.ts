/** A program's arguments: every key that is no secret is a flag of the same name. */
import { parseArgs } from "node:util";
import type { Leaf } from "./keys.ts";
import { isMisspelling } from "./names.ts";

const switches = ["help", "check", "print-config"];

export interface Flags {
  /** Name or path; `dev` where none is given. */
  readonly profile: string;
  /** What to do in place of starting. */
  readonly instead: "help" | "check" | "print" | undefined;
  /** The text of each flag by the key's name of today. */
  readonly values: ReadonlyMap<string, string>;
  readonly problems: readonly string[];
  /** About names of before. */
  readonly warnings: readonly string[];
}

/** A flag that is given twice has its last value. */
export function readFlags(args: readonly string[], keys: readonly Leaf[]): Flags {
  const names = ["profile", ...switches, ...keys.map((leaf) => leaf.key)];
  const renamed = new Map(keys.flatMap((leaf) => leaf.formerly.map((old) => [old, leaf.key])));
  const isSwitch = (name: string) => switches.includes(name);
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      [...names, ...renamed.keys()].map((name) => [name, {
        type: isSwitch(name) ? "boolean" : "string",
      }]),
    ),
    strict: false,
    tokens: true,
  });
  const given = new Map<string, string>();
  const problems: string[] = [];
  let isAfterUnknown = false;
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      // What follows an unknown flag was meant as its value.
      if (!isAfterUnknown) problems.push(unknown(token.value, undefined, names));
      isAfterUnknown = false;
      continue;
    }
    isAfterUnknown = !names.includes(token.name) && !renamed.has(token.name);
    const problem = isAfterUnknown
      ? unknown(token.rawName, token.name, names)
      : misuse(token, isSwitch(token.name));
    if (problem === undefined) given.set(token.name, token.value ?? "");
    else problems.push(problem);
  }
  const warnings: string[] = [];
  for (const [old, key] of renamed) {
    const value = given.get(old);
    if (value === undefined) continue;
    warnings.push(`the flag --${old} is now called --${key}`);
    if (!given.has(key)) given.set(key, value);
  }
  return {
    profile: given.get("profile") ?? "dev",
    instead: given.has("help")
      ? "help"
      : given.has("print-config")
      ? "print"
      : given.has("check")
      ? "check"
      : undefined,
    values: new Map(keys.flatMap(({ key }) => {
      const value = given.get(key);
      return value === undefined ? [] : [[key, value]];
    })),
    problems,
    warnings,
  };
}

interface OptionToken {
  readonly rawName: string;
  readonly value: string | undefined;
  readonly inlineValue: boolean | undefined;
}

function misuse({ rawName, value, inlineValue }: OptionToken, isSwitch: boolean) {
  if (isSwitch) return value === undefined ? undefined : `flag ${rawName} takes no value`;
  // The next flag is no value.
  const isMissing = value === undefined || inlineValue === false && value.startsWith("--");
  return isMissing ? `flag ${rawName} needs a value` : undefined;
}

function unknown(text: string, name: string | undefined, names: readonly string[]): string {
  const meant = name !== undefined && names.find((known) => isMisspelling(name, known));
  const hint = meant
    ? `did you mean --${meant}?`
    : `allowed: ${names.map((n) => `--${n}`).join(" ")}`;
  return `unknown flag ${text}; ${hint}`;
}

/** A text that is no value of the key's type stays a text, for the schema to refuse. */
export function parseFlag({ type }: Pick<Leaf, "type">, text: string): unknown {
  const kind = type.def.type;
  if (kind === "number") return text.trim() === "" || isNaN(Number(text)) ? text : Number(text);
  if (kind === "boolean") return text === "true" ? true : text === "false" ? false : text;
  if (kind === "array") return text === "" ? [] : text.split(",");
  return text;
}
