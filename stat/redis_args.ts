/** What the scripts of stat take and give, as text. */
import { Buffer } from "node:buffer";
import { createHash } from "node:crypto";
import type { Change } from "./changes.ts";
import type { Report } from "./contract.ts";
import { compareNames } from "./names.ts";
import type { PageOptions } from "./store.ts";

/** Script arguments for all changes, in at least one piece, none with more than `size` names by much. */
export function piecesOf(changes: readonly Change[], size: number): string[][] {
  let piece: string[] = [];
  const pieces = [piece];
  let names = 0;
  for (const { groupId = "", joined, left } of changes) {
    for (const [verb, users] of [["leave", [...left]], ["join", [...joined]]] as const) {
      for (let at = 0; at < users.length; at += size) {
        const part = users.slice(at, at + size);
        if (names > 0 && names + part.length > size) {
          pieces.push(piece = []);
          names = 0;
        }
        piece.push(verb, groupId, `${part.length}`, ...part);
        names += part.length;
      }
    }
  }
  return pieces;
}

/** The lowest and the highest name, as Redis takes them. Names are UTF-8, in which there is no byte 255. */
export function lexRange({ prefix, after }: PageOptions): [string | Buffer, string | Buffer] {
  const low = after === "" || compareNames(after, prefix) < 0 ? `[${prefix}` : `(${after}`;
  return [low, prefix === "" ? "+" : Buffer.concat([Buffer.from(`(${prefix}`), Buffer.of(255)])];
}

/** Where a full report is written to: the same for all its parts, whichever stats take them, and another's never. */
export function placeOf({ node, session, version }: Report, nodeName: string): string {
  const hash = createHash("sha256").update(JSON.stringify([node, session, version]));
  return `${hash.digest("base64url").slice(0, 22)}:${nodeName}`;
}
