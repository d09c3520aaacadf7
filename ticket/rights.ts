/** What a user may do, as written in tokens and checked by spear. Knows nothing of tokens; Web APIs only. */

/**
 * Ids in a token: one id (`10` or `"lobby"`), a range of integers that includes both ends (`[100, 199]`), or a prefix
 * (`"room:*"`; `"*"` matches every id). An id itself contains no `*`.
 */
export type Pattern = number | string | readonly [number, number];

export interface Rights {
  /** Groups that the user may join and list the users of. */
  readonly listen: readonly Pattern[];
  /** Groups that the user may send to. */
  readonly send: readonly Pattern[];
  /** Users that the user may send to. */
  readonly users: readonly Pattern[];
}

export const everything: Rights = { listen: ["*"], send: ["*"], users: ["*"] };

const maxPatterns = 1000;
const maxPatternLength = 129;

/**
 * Reads the claims `groups` (`[…]` for both rights, or `{ listen: […], send: […] }`; missing: no group) and `users`
 * (missing: every user, as in the old Gru).
 * @throws {TypeError} that names the claim.
 */
export function readRights(
  claims: { readonly groups?: unknown; readonly users?: unknown },
): Rights {
  const { groups = [], users = everything.users } = claims;
  if (Array.isArray(groups)) {
    const both = patterns("groups", groups);
    return { listen: both, send: both, users: patterns("users", users) };
  }
  if (typeof groups !== "object" || groups === null) {
    throw new TypeError("groups: expected a list or { listen, send }");
  }
  const { listen = [], send = [] } = groups as Record<string, unknown>;
  return {
    listen: patterns("groups.listen", listen),
    send: patterns("groups.send", send),
    users: patterns("users", users),
  };
}

/** Writes the claims that {@linkcode readRights} reads. */
export function writeRights({ listen, send, users }: Rights): Record<string, unknown> {
  return { groups: { listen, send }, users };
}

function patterns(claim: string, value: unknown): Pattern[] {
  if (!Array.isArray(value)) throw new TypeError(`${claim}: expected a list`);
  if (value.length > maxPatterns) {
    throw new TypeError(`${claim}: at most ${maxPatterns} entries, got ${value.length}`);
  }
  for (const [i, pattern] of value.entries()) {
    if (!isPattern(pattern)) {
      throw new TypeError(`${claim}[${i}]: expected an id, [from, to] or "prefix*"`);
    }
  }
  return value;
}

/** True for what a claim may hold as a {@linkcode Pattern}. */
export function isPattern(value: unknown): value is Pattern {
  if (typeof value === "string") {
    const star = value.indexOf("*");
    // The limit counts code points, some of which take two UTF-16 units.
    return value !== "" && value.length <= 2 * maxPatternLength &&
      [...value].length <= maxPatternLength &&
      (star < 0 || star === value.length - 1);
  }
  if (Array.isArray(value)) return value.length === 2 && value.every(Number.isSafeInteger);
  return Number.isSafeInteger(value);
}

/**
 * True when one of the patterns matches the id. Tries them in turn: most users have few patterns, and an index for each
 * user would cost memory.
 */
export function allows(patterns: readonly Pattern[], id: string): boolean {
  // `1e2` and `0100` are other groups than `100`.
  const number = Number.isSafeInteger(Number(id)) && String(Number(id)) === id ? Number(id) : NaN;
  return patterns.some((pattern) => {
    if (typeof pattern === "number") return pattern === number;
    if (typeof pattern !== "string") return pattern[0] <= number && number <= pattern[1];
    return pattern.endsWith("*") ? id.startsWith(pattern.slice(0, -1)) : pattern === id;
  });
}
