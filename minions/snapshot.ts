/** What the pages are told each second. */
import type { z } from "zod";
import type { nodeInfo, totals } from "@gru/stat/api_schemas";
import type { ClusterEvent, ClusterView } from "./cluster.ts";

export type Snapshot = ClusterView & {
  /** Unix milliseconds. */
  readonly at: number;
  /** The newest first. */
  readonly events: readonly ClusterEvent[];
} & (StatSnapshot | { readonly problem: string });

/** As stat's HTTP API answers. */
export interface StatSnapshot {
  readonly nodes: readonly z.output<typeof nodeInfo>[];
  readonly totals: z.output<typeof totals>;
}
