/** What the pages receive: the snapshot each second, and how the spears do while that is looked at. */
import type { z } from "zod";
import type { nodeInfo, totals } from "@gru/stat/api_schemas";
import type { ClusterEvent, ClusterView } from "./cluster.ts";

/**
 * What the console cannot reach. `redis`: stat's Redis. `reports`: Redis may have lost data, and not all spears have
 * reported again. `key`: stat refuses this console.
 */
export type Away = "zookeeper" | "stat" | "redis" | "reports" | "key";

export interface Problem {
  readonly away: Away;
  /** Unix milliseconds. */
  readonly since: number;
  /** For people who look for the cause. */
  readonly detail: string;
}

/** In the shapes of stat's HTTP API. */
export interface StatSnapshot {
  readonly nodes: readonly z.output<typeof nodeInfo>[];
  readonly totals: z.output<typeof totals>;
}

export type Snapshot = ClusterView & {
  /** Unix milliseconds. */
  readonly at: number;
  /** The newest first. */
  readonly events: readonly ClusterEvent[];
  /** None: everything is as of now. */
  readonly problems: readonly Problem[];
  /** As of now, or as last known; missing: not known since the console started. */
  readonly known?: StatSnapshot & {
    /** Unix milliseconds. */
    readonly at: number;
  };
};

/** The words of spear's contract. */
export interface NodeVitals {
  readonly node: string;
  /** Null: it did not answer, or is of an earlier version. */
  readonly vitals: {
    /** Milliseconds, as below. Null: no message came. */
    readonly delivery: { readonly p50: number; readonly p99: number } | null;
    readonly refusedPerSecond: number;
    readonly errorsPerSecond: number;
    readonly cutOff: number;
    readonly missed: number;
    readonly loopLagMs: number;
  } | null;
}
