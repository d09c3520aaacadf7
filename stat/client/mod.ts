/**
 * The library for business systems: stat's HTTP API with types, the events of the cluster, the check of what Gru sends
 * (hooks and decisions), and tokens for users. Runs wherever JavaScript has `fetch`.
 *
 * ```ts
 * import { api } from "@gru/server";
 *
 * const gru = api({ url: "http://127.0.0.1:50000" });
 * const { data, error } = await gru.POST("/groups/{groupId}/messages", {
 *   params: { path: { groupId: "10" } },
 *   body: { content: "the lesson begins" },
 * });
 * ```
 */
export { api, type ApiOptions } from "./api.ts";
export { HookError, verifyDecision, verifyHook } from "./hooks.ts";
export { events, EventsError, type EventsOptions, type GruEvent } from "./events.ts";
export { type Ids, idsIn, token1, type Token1Options } from "./token1.ts";
export type { Decision, Kind, KindData } from "./kinds.ts";
export type { paths } from "./paths.ts";
