/** What a schema complains of, as lines for the person who started the program. */
import type { z } from "zod";
import { withoutPassword } from "../redact.ts";
import { get, type Leaf, type Shape, unset } from "./keys.ts";

/**
 * All that is wrong with the values: one line for each. A schema does not check what belongs together while one value is of
 * a wrong type, so the rest is checked with that value's default in its place.
 */
export function problemsOf(
  schema: Shape,
  values: Record<string, unknown>,
  leaves: readonly Leaf[],
): string[] {
  const issues: z.core.$ZodIssue[] = [];
  const rest = structuredClone(values);
  for (;;) {
    const found = schema.safeParse(rest).error?.issues ?? [];
    const fresh = found.filter((issue) => !issues.some((known) => isSame(known, issue)));
    if (fresh.length === 0) break;
    issues.push(...fresh);
    for (const issue of found) leaveOut(issue, rest, leaves);
  }
  const lines = new Map<string, string>();
  for (const issue of issues) {
    const key = issue.path.map(String).join(".");
    const isMissing = issue.code === "custom" && inForce(values, issue.path, leaves) === undefined;
    // A key may be missing for several reasons, and one is enough.
    const id = isMissing ? key : `${key} ${issue.message}`;
    if (!lines.has(id)) lines.set(id, describe(issue, values, leaves));
  }
  return [...lines.values()];
}

function inForce(values: unknown, path: readonly PropertyKey[], leaves: readonly Leaf[]): unknown {
  return get(values, path) ??
    leaves.find((leaf) => leaf.key === path.map(String).join("."))?.defaultValue;
}

/** Also that a value is missing which was left out because it was wrong. */
function isSame(known: z.core.$ZodIssue, issue: z.core.$ZodIssue): boolean {
  return known.path.join(".") === issue.path.join(".") &&
    (known.message === issue.message || issue.code !== "custom");
}

function leaveOut(issue: z.core.$ZodIssue, values: unknown, leaves: readonly Leaf[]): void {
  if (issue.code === "unrecognized_keys") {
    for (const key of issue.keys) unset(values, [...issue.path, key]);
  } else if (issue.code !== "custom") {
    // An element of a list has no default, but the list has one.
    const leaf = leaves.find(({ path }) => path.every((part, i) => issue.path[i] === part));
    unset(values, leaf?.path ?? issue.path);
  }
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
  const value = inForce(values, path, leaves);
  const shown = JSON.stringify(
    value,
    (_key, inner) => typeof inner === "string" ? withoutPassword(inner) : inner,
  );
  const given = value === undefined ? "missing" : `is ${shown}`;
  const message = issue.message.replace(/^Invalid (input|option): /, "");
  return `${key}: ${given}; ${message}${leaf?.description ? ` (${leaf.description})` : ""}`;
}
