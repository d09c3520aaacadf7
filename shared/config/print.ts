/** The text of `--print-config`. */
import { redact, withoutPassword } from "../redact.ts";
import { get, type Leaf, set } from "./keys.ts";

/** JSON in the schema's order. A secret that is set is `***`; what is not set is left out. */
export function printedConfig(config: object, leaves: readonly Leaf[]): string {
  const shown: Record<string, unknown> = {};
  for (const leaf of leaves) {
    const value = get(config, leaf.path);
    if (value !== undefined) set(shown, leaf.path, leaf.secret === undefined ? value : "***");
  }
  const text = JSON.stringify(
    shown,
    (_key, value) => typeof value === "string" ? withoutPassword(value) : value,
    2,
  );
  return redact(text);
}
