/** What other programs may import of ticket: which node a user is sent to, and which token is accepted. */
export { spearAuth, tokensClaim, tokensKey } from "./auth.ts";
export { Ring, type RingNode } from "./ring.ts";
