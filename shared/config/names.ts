/**
 * Keys of a file that the schema does not have under these names. Programs of two versions may run on one profile during an
 * upgrade, so that a key of a newer version must not stop an older program: it is ignored, with a warning. It is refused where
 * ignoring it could harm: when it looks like a misspelling, and in groups that protect (`unknownKeys: "refuse"`).
 */
import { distance } from "fastest-levenshtein";
import { z } from "zod";
import { get, type KeyMeta, type Leaf, set, type Shape, unset, unwrap } from "./keys.ts";

export interface Findings {
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** Gives renamed keys their names of today, in place. @returns a warning for each */
export function renameKeys(values: Record<string, unknown>, leaves: readonly Leaf[]): string[] {
  const warnings: string[] = [];
  for (const leaf of leaves) {
    for (const old of leaf.formerly) {
      const path = old.split(".");
      const value = get(values, path);
      if (value === undefined) continue;
      unset(values, path);
      // A file for programs of two versions has both names.
      if (get(values, leaf.path) === undefined) set(values, leaf.path, value);
      warnings.push(`the key ${old} is now called ${leaf.key}`);
    }
  }
  return warnings;
}

/** Takes unknown keys out of the values, in place, and `$schema`, which is the editor's. */
export function dropUnknownKeys(
  values: Record<string, unknown>,
  schema: Shape,
  leaves: readonly Leaf[],
): Findings {
  delete values.$schema;
  const problems: string[] = [];
  const warnings: string[] = [];

  function look(value: unknown, type: z.ZodType, meta: KeyMeta, prefix: string): void {
    if (type instanceof z.ZodArray && Array.isArray(value)) {
      const inside = unwrap(type.element as z.ZodType);
      value.forEach((one, i) => look(one, inside.inner, inside.meta, `${prefix}${i}.`));
    }
    if (!(type instanceof z.ZodObject) || typeof value !== "object" || value === null) return;
    for (const [name, inner] of Object.entries(value)) {
      if (Object.hasOwn(type.shape, name)) {
        const field = unwrap(type.shape[name]);
        look(inner, field.inner, field.meta, `${prefix}${name}.`);
        continue;
      }
      Reflect.deleteProperty(value, name);
      const key = `${prefix}${name}`;
      const problem = complain(key, name, prefix, meta, leaves, Object.keys(type.shape));
      if (problem === undefined) {
        warnings.push(`the unknown key ${key} is ignored; perhaps it belongs to a newer version`);
      } else problems.push(problem);
    }
  }

  look(values, schema, {}, "");
  return { problems, warnings };
}

/** undefined: it may be ignored. */
function complain(
  key: string,
  name: string,
  prefix: string,
  { unknownKeys }: KeyMeta,
  leaves: readonly Leaf[],
  shape: readonly string[],
): string | undefined {
  const dotted = name.includes(".") && leaves.find((leaf) => leaf.key === key);
  if (dotted) return `${key}: unknown key; in a file it is ${nested(dotted.path)}`;
  const known = [
    ...new Set(
      leaves.filter((leaf) => leaf.key.startsWith(prefix))
        .map((leaf) => leaf.key.slice(prefix.length).split(".")[0] ?? ""),
    ),
  ];
  // The elements of a list are no leaves.
  const siblings = known.length === 0 ? shape : known;
  const meant = siblings.find((sibling) => isMisspelling(name, sibling));
  if (meant !== undefined) {
    const secret = leaves.find((leaf) => leaf.key === `${prefix}${meant}`)?.secret;
    return `${key}: unknown key; did you mean ${prefix}${meant}?` +
      (secret === undefined ? "" : ` A secret: set the environment variable ${secret}`);
  }
  if (unknownKeys !== "refuse") return undefined;
  return `${key}: unknown key; allowed: ${siblings.join(", ")} ` +
    "(not ignored: in this group it may protect the cluster)";
}

/** `{ "auth": { "scheme": … } }` */
function nested(path: readonly string[]): string {
  return path.reduceRight((inner, part) => `{ ${JSON.stringify(part)}: ${inner} }`, "…");
}

/** Of two names: few letters differ, or their order, case or dashes. Names that differ by a number are two names. */
export function isMisspelling(name: string, known: string): boolean {
  const [one = "", other = ""] = [name, known].map((text) =>
    text.toLowerCase().replace(/[-_]/g, "")
  );
  if (one === other) return true;
  const [bare, bareOther] = [one, other].map((text) => text.replace(/\d/g, ""));
  if (bare === bareOther) return false;
  if ([...one].sort().join("") === [...other].sort().join("")) return true;
  return distance(one, other) <= (Math.min(one.length, other.length) < 6 ? 1 : 2);
}
