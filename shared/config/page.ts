/** The page of all keys: `shared/docs/configuration.md`, without its introduction. */
import { defaultText, type Leaf, leavesOf, type Shape, typeText } from "./keys.ts";

export interface PageProgram {
  readonly name: string;
  readonly schema: Shape;
}

/** A key with the programs that have it under the same meaning and type. */
interface Entry {
  readonly leaf: Leaf;
  /** Its default by program. */
  readonly defaults: Map<string, string>;
}

/** @param programs those with `common` keys, and others @param common the names of programs that share most keys */
export function keysPage(programs: readonly PageProgram[], common: readonly string[]): string {
  const entries = entriesOf(programs);
  const isCommon = ({ defaults }: Entry) => common.every((name) => defaults.has(name));
  const keys = entries.filter(({ leaf }) => leaf.secret === undefined);
  const secrets = entries.filter(({ leaf }) => leaf.secret !== undefined);
  const sections = [
    ["Keys of all five programs", keys.filter(isCommon)] as const,
    ...programs.map(({ name }) =>
      [
        `Keys of ${name}`,
        keys.filter((entry) =>
          entry.defaults.has(name) && !(isCommon(entry) && common.includes(name))
        )
          .map(({ leaf, defaults }) => ({
            leaf,
            defaults: new Map([[name, defaults.get(name) ?? ""]]),
          })),
      ] as const
    ),
  ];
  return [
    ...sections.flatMap(([title, found]) => [`## ${title}`, "", ...found.map(lineOf), ""]),
    "## Secrets",
    "",
    ...secrets.map(secretLine),
  ].join("\n");
}

function entriesOf(programs: readonly PageProgram[]): Entry[] {
  const entries = new Map<string, Entry>();
  for (const { name, schema } of programs) {
    for (const leaf of leavesOf(schema)) {
      if (leaf.profileName) continue;
      const id = JSON.stringify([leaf.key, typeText(leaf), leaf.description]);
      const entry = entries.get(id) ?? { leaf, defaults: new Map() };
      entry.defaults.set(name, defaultText(leaf) ?? "");
      entries.set(id, entry);
    }
  }
  return [...entries.values()];
}

function lineOf({ leaf, defaults }: Entry): string {
  // A default that depends on other keys is told in words.
  const quoted = (value: string) =>
    leaf.whenMissing === undefined && value !== "none" ? `\`${value}\`` : value;
  const values = [...new Set(defaults.values())];
  const shown = values.length === 1
    ? quoted(values[0] ?? "")
    : [...defaults].map(([name, value]) => `${quoted(value)} (${name})`).join(", ");
  const former = leaf.formerly.map((name) => `; formerly \`${name}\``).join("");
  return item(
    `**\`${leaf.key}\`** (${typeText(leaf)}; default ${shown}${former}): ${leaf.description}`,
  );
}

function secretLine({ leaf, defaults }: Entry): string {
  const programs = [...defaults.keys()].join(", ");
  return item(`**\`${leaf.secret}\`** (key \`${leaf.key}\` of ${programs}): ${leaf.description}`);
}

/** An item of a list, in lines of at most 118 characters. */
function item(text: string): string {
  const lines = [""];
  for (const word of text.replace(/ \*:/g, " \\*:").split(" ")) {
    const last = lines.at(-1) ?? "";
    if (last !== "" && last.length + word.length > 115) lines.push(word);
    else lines[lines.length - 1] = last === "" ? word : `${last} ${word}`;
  }
  return `- ${lines.join("\n  ")}`;
}
