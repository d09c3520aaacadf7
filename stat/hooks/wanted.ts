/** Which events somebody wants. */
import { allows } from "@gru/ticket/token";
import type { EventKind, HookEvent } from "./event.ts";

export interface Wanted {
  /** Undefined: all. */
  readonly events?: readonly EventKind[] | undefined;
  /** The ids of groups and users; undefined: all. Events of nodes and of hooks themselves always match. */
  readonly match?: Parameters<typeof allows>[0] | undefined;
  /** The endpoint, if it is one: gaps of others are not its business. */
  readonly endpoint?: string | undefined;
}

export function isWanted({ kind, subject, data }: HookEvent, wanted: Wanted): boolean {
  // What is missing matters to everybody.
  if (kind === "hooks.gap") {
    const { endpoint } = data as { readonly endpoint?: string };
    return endpoint === undefined || endpoint === wanted.endpoint;
  }
  if (wanted.events !== undefined && !wanted.events.includes(kind)) return false;
  if (wanted.match === undefined || subject.startsWith("node:")) return true;
  return allows(wanted.match, subject.slice(subject.indexOf(":") + 1));
}
