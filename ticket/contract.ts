/** What the other programs know of ticket: which node it sends a user to. */
export { Ring, type RingNode } from "./ring.ts";
