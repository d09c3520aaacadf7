/** The text of `--help`. */
import { defaultText, type Leaf, typeText } from "./keys.ts";

export function helpText(program: string, leaves: readonly Leaf[]): string {
  const flags = leaves.filter((leaf) => leaf.secret === undefined);
  const secrets = leaves.filter((leaf) => leaf.secret !== undefined);
  const width = Math.max(...flags.map((leaf) => leaf.key.length)) + 4;
  const line = (name: string, text: string) => `  ${name.padEnd(width)} ${text}`;
  return [
    `${program}: every key of a profile is also a flag of the same name.`,
    "",
    line("--profile", "the name of a profile, or the path of a file [string; default dev]"),
    line("--check", "says what is wrong with the configuration, and does not start"),
    line(
      "--print-config",
      "prints the configuration in force, without secrets, and does not start",
    ),
    ...flags.map((leaf) => line(`--${leaf.key}`, about(leaf))),
    ...(secrets.length === 0 ? [] : ["", "Secrets, from the environment only:"]),
    ...secrets.map((leaf) => line(leaf.secret ?? "", leaf.description ?? leaf.key)),
  ].join("\n");
}

function about(leaf: Leaf): string {
  const value = defaultText(leaf);
  const type = typeText(leaf);
  return `${leaf.description ?? ""} [${value === undefined ? type : `${type}; default ${value}`}]`
    .trim();
}
