/** What other programs may import of ticket: which node a user is sent to, and which token is accepted. */
import { z } from "zod";
import { isPattern } from "./rights.ts";
export { spearAuth, tokensClaim, tokensKey } from "./auth.ts";
export { Ring, type RingNode } from "./ring.ts";

/** A pattern of ids in a profile, as tokens have them. @param what it matches: `a group id` */
export function patternSchema(what: string) {
  return z.union([z.string(), z.int(), z.tuple([z.int(), z.int()])]).refine(isPattern, {
    error: `expected ${what}, [from, to], "prefix*" or "*"`,
  });
}
