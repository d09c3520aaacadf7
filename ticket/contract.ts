/** What the other programs know of ticket: which node it sends a user to, and who is let in. */
export { spearAuth } from "./auth.ts";
export { Ring, type RingNode } from "./ring.ts";
