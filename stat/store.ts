/**
 * Who is online where. Engines: `store_memory.ts` (one process) and `store_redis.ts` (shared by any number of
 * stats); both pass `store_conformance.ts`.
 */
import type { Ban } from "@gru/spear/contract";
import type { Load, Report } from "./contract.ts";

/** Names of the nodes that are alive, as the registry says. What is stored of any other node is not read. */
export type LiveNodes = ReadonlySet<string>;

export interface NodeCounts {
  readonly node: string;
  readonly connections: number;
  /** Distinct users. */
  readonly users: number;
  /** Groups that have a member on the node. */
  readonly groups: number;
  readonly load: Load;
}

/** What {@linkcode StatStore.page} goes through. */
export type Listing =
  | { readonly of: "users" }
  | { readonly of: "groups" }
  | { readonly of: "users of a group"; readonly groupId: string };

export interface PageOptions {
  /** Only names that begin with it. */
  readonly prefix: string;
  /** Only names behind it; "" for the first page. */
  readonly after: string;
  readonly limit: number;
}

export interface Found {
  readonly name: string;
  /** The nodes it is on, sorted; of a group with its number of users there, else 0. */
  readonly nodes: readonly { readonly node: string; readonly users: number }[];
}

/** The whole cluster at one moment. */
export interface Sample {
  /** Unix milliseconds, a multiple of the period. */
  readonly at: number;
  readonly nodes: readonly NodeCounts[];
}

/**
 * Reads see each node as its newest applied report left it, and only nodes that are in `live` and whose last
 * report is younger than its `ttlMs`. Nothing here walks all nodes, groups or users, except that a full report
 * costs what it holds and a read costs its answer. A report without changes takes constant time.
 *
 * Every method rejects with an `RpcError` of code `unavailable`, within a bound, when the data are out of reach.
 * The outcome of an `apply` is then unknown; sending the same report again is right in either case.
 */
export interface StatStore extends AsyncDisposable {
  /** False while the data are out of reach. */
  readonly ready: boolean;

  /**
   * Takes a report in. A full one replaces all that was known of the node, at once for every reader. One with
   * changes follows on the version before it and is applied as a whole; readers can see a very large one in
   * parts for the moment that it takes. A version that was applied already, or an older one, changes nothing.
   * `resync: true`: nothing was applied, for this session or the version before is not what is stored.
   *
   * In a list a name that comes twice counts once, and one that has both joined and left has joined.
   */
  apply(report: Report, ttlMs: number): Promise<{ readonly resync: boolean }>;

  /** Each user once, in no order. */
  usersOfGroup(groupId: string, live: LiveNodes): Promise<string[]>;

  /** Sorted. */
  nodesOfUser(userId: string, live: LiveNodes): Promise<string[]>;

  /**
   * The first `limit` names of the live nodes, each once, by code points. Costs what it gives, times the nodes; the
   * memory engine looks at each name once.
   */
  page(listing: Listing, live: LiveNodes, options: PageOptions): Promise<Found[]>;

  /** The live nodes that a group has users on, sorted, with how many. */
  nodesOfGroup(
    groupId: string,
    live: LiveNodes,
  ): Promise<{ readonly node: string; readonly users: number }[]>;

  /** Of the nodes that have reported, sorted by name. */
  counts(live: LiveNodes): Promise<NodeCounts[]>;

  /** Ends the node's time to live now. A node that goes on reporting comes back with its next report. */
  removeNode(node: string): Promise<void>;

  /** Kept unless there is one of that moment already; those before `keepFrom` are let go. */
  addSample(sample: Sample, keepFrom: number): Promise<void>;

  /** From a moment on, ascending. */
  samples(from: number): Promise<Sample[]>;

  /** Replaces a ban of the same user or group. */
  setBan(ban: Ban): Promise<void>;

  /** False: there was none. */
  liftBan(kind: Ban["kind"], id: string): Promise<boolean>;

  /** All that hold at `now` (Unix milliseconds), the earliest to end first. Forgets those that are over. */
  bans(now: number): Promise<Ban[]>;

  /**
   * Frees a bounded part of what nobody reads any more: nodes past their time to live, whoever served them,
   * and what full reports replaced. Safe to run in several stats at once.
   * `more: true`: call again soon, there is more to free.
   */
  sweep(): Promise<{ readonly more: boolean }>;
}
