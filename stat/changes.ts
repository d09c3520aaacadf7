/** The changes in a report, in one form for all engines. */
import type { Report } from "./contract.ts";

export interface Change {
  /** undefined: the users of the whole node. */
  readonly groupId: string | undefined;
  readonly joined: ReadonlySet<string>;
  /** Empty in a full report; never contains a name that is in `joined`. */
  readonly left: ReadonlySet<string>;
}

export function changesOf(report: Report): Change[] {
  const groups = new Map<string | undefined, { joined: Set<string>; left: Set<string> }>();
  for (
    const { groupId, joined, left } of [{ groupId: undefined, ...report.users }, ...report.groups]
  ) {
    const change = groups.getOrInsertComputed(
      groupId,
      () => ({ joined: new Set(), left: new Set() }),
    );
    for (const name of joined) change.joined.add(name);
    for (const name of left) change.left.add(name);
  }
  return [...groups].map(([groupId, { joined, left }]) => ({
    groupId,
    joined,
    left: report.full ? new Set() : left.difference(joined),
  }));
}
