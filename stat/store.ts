/**
 * The port of stat's store: which users are online on which nodes. Engines: `store_memory.ts` (one process) and
 * `store_redis.ts` (shared by any number of stats); both pass `store_conformance.ts`.
 */
import type { BanRecord, MuteRecord } from "@gru/spear/contract";
import type { Outbox } from "./hooks/outbox.ts";
import type { Telling } from "./hooks/telling.ts";
import type { Kick, Load, Report } from "./contract.ts";

/** The names of the live nodes, from the registry. Data of other nodes are ignored. */
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

/** Each user and each group once, on however many nodes it is. */
export interface DistinctCounts {
  readonly users: number;
  readonly groups: number;
}

/** The lists that {@linkcode StatStore.page} can read. */
export type Listing =
  | { readonly of: "users" }
  | { readonly of: "groups" }
  | { readonly of: "users of a group"; readonly groupId: string };

/** The result of a report. */
export interface Applied {
  readonly resync: boolean;
  readonly refused?: boolean;
}

export interface PageOptions {
  /** Only names that begin with this. */
  readonly prefix: string;
  /** Only names after this one; "" for the first page. */
  readonly after: string;
  readonly limit: number;
}

export interface Found {
  readonly name: string;
  /** The nodes where it is, sorted; for a group with its number of users there, otherwise 0. */
  readonly nodes: readonly { readonly node: string; readonly users: number }[];
}

export interface Kicks {
  readonly kicks: readonly Kick[];
  readonly now: number;
  readonly more: boolean;
  /** How many kicks from `from` on are stored: a node that knows more knows that some were lost. */
  readonly count: number;
  readonly from: number;
}

/** What somebody may not do until a time: bans, mutes. */
export interface Restrictions<R extends BanRecord | MuteRecord> {
  /** Replaces that of the same kind and id. It ends when the store's clock has advanced by `ms`. */
  set(restriction: NewRestriction<R>): Promise<R>;

  /** Undefined: there was none. */
  lift(kind: R["kind"], id: string): Promise<R | undefined>;

  /** All that is stored, the earliest to end first, and the present time: it is in force while `until` is later. */
  all(): Promise<{ readonly records: readonly R[]; readonly now: number }>;

  /**
   * Stores what nodes remember, after the data were lost or came back older. For each kind and id the latest version wins.
   */
  restore(records: readonly R[]): Promise<void>;
}

export type NewRestriction<R extends BanRecord | MuteRecord> =
  & Pick<R, "kind" | "id" | "reason">
  & { readonly ms: number };

/** No token is valid for longer: rights last a day at most, and clocks differ by five minutes at most. */
export const kicksKeptMs = 86_400_000 + 600_000;
/** Only kicks are counted that will be kept for at least this much longer: no clock error makes stat forget these. */
export const kicksUncountedMs = 60_000;
/** The most kicks in one answer. */
export const kicksPerPage = 10_000;

/** After a possible loss of data, a live node that has not reported for this long is no longer waited for. */
export const reportsWaitMs = 20_000;
/**
 * When no stat could reach the data for longer than this, nodes may seem silent only because their reports could not
 * arrive. The data then count as lost.
 */
export const silenceMs = 3000;
/**
 * The least time to live of a report. A node that reports in time is still alive when the data come back within
 * {@linkcode silenceMs}.
 */
export const leastTtlMs = silenceMs + 1000;

/** The whole cluster at one time. */
export interface Sample {
  /** Unix milliseconds on the store's clock, a multiple of the step. */
  readonly at: number;
  readonly nodes: readonly NodeCounts[];
  /** Over all nodes; missing where an earlier version of stat took the sample. */
  readonly distinct?: DistinctCounts;
}

/** One command, or what happened to a program, see `audit.ts` and `happenings.ts`. */
export interface AuditEntry {
  /** Unix milliseconds on the store's clock. */
  readonly at: number;
  /** `cluster`: nobody commanded it. */
  readonly via: "api" | "console" | "cluster";
  /** The console's user, or the name of the key. */
  readonly who: string;
  readonly address: string;
  /** The route: `POST /users/:userId/kick`; or what happened: `joined`. */
  readonly command: string;
  /** On whom: the ids in the path; or the program. */
  readonly target: string;
  readonly details: string;
  /** `ok`, or the status of the refusal. */
  readonly result: string;
}

export interface Samples {
  /** Ascending. */
  readonly samples: readonly Sample[];
  readonly now: number;
}

/**
 * Reads return each node as its newest applied report left it. They include only nodes that are in `live` and whose
 * last report is younger than its `ttlMs`. No operation iterates over all nodes, groups or users: a full report costs
 * its size, and a read costs its answer. A report without changes takes constant time.
 *
 * Data may be lost or come back older: the server was emptied, restarted or replaced by a replica. Until every node of
 * a read's `live` has reported again, the read rejects with `unavailable`; lost data are never taken for "nobody is
 * online". See {@linkcode StatStore.settle}.
 *
 * There is one clock, the store's. Everything with a time limit is aged by it, whatever the clocks of the programs
 * show. All times are Unix milliseconds on it.
 *
 * Every method rejects with an `RpcError` of code `unavailable`, within a time limit, when the data cannot be reached.
 * The outcome of an `apply` is then unknown; the same report can be sent again in either case.
 */
export interface StatStore extends AsyncDisposable {
  /** False while the data cannot be reached. */
  readonly ready: boolean;
  /** Makes events of what changes here, where hooks are on. */
  readonly telling: Telling;
  /** These events, on their way to business systems. */
  readonly outbox: Outbox;

  /**
   * Call it again and again with all live nodes. The data count as complete when every live node has reported since the
   * data may have been lost, or when `waitMs` have passed since then. After that, a node without a report is a node
   * without users.
   * @param waitMs default {@linkcode reportsWaitMs}
   * @returns the nodes that are waited for, sorted; none when the data are complete
   */
  settle(live: LiveNodes, waitMs?: number): Promise<string[]>;

  /**
   * Applies a report. A full report replaces everything that was known of the node, at once for every reader. A report with
   * changes follows the previous version and is applied as a whole; while a very large one is being applied, readers can see
   * part of it. An old version changes nothing.
   *
   * A name that comes twice in a list counts once. A name that has both joined and left has joined.
   *
   * Of a report in parts, the last part applies it; the others only prepare it and keep the node alive. A full report whose
   * parts are a minute apart is dropped, and its next part is answered with `resync: true`.
   *
   * - `resync: true`: nothing was applied, because the session or the previous version is not the stored one.
   * - `refused: true`: nothing was applied, because the report is `claimed` by a session that does not hold the node's place.
   *
   * @param signal aborted: nobody waits for the answer, and the rest of the report need not be applied
   */
  apply(report: Report, ttlMs: number, signal?: AbortSignal): Promise<Applied>;

  /**
   * Gives the node's place to this session, if no session has it, if this session has it already, and with `takeOver`
   * in any case. False: another session has it. Forgotten with the node, see {@linkcode sweep}.
   */
  claim(node: string, session: string, takeOver: boolean): Promise<boolean>;

  /** Each user once, in no order. */
  usersOfGroup(groupId: string, live: LiveNodes): Promise<string[]>;

  /** Sorted. */
  nodesOfUser(userId: string, live: LiveNodes): Promise<string[]>;

  /**
   * The first `limit` names on the live nodes, each once, by code points. Costs its answer times the number of nodes;
   * the memory engine checks each name once.
   */
  page(listing: Listing, live: LiveNodes, options: PageOptions): Promise<Found[]>;

  /** The live nodes with users of the group, sorted, with the number of users. */
  nodesOfGroup(
    groupId: string,
    live: LiveNodes,
  ): Promise<{ readonly node: string; readonly users: number }[]>;

  /** The counts of the nodes that have reported, sorted by name. */
  counts(live: LiveNodes): Promise<NodeCounts[]>;

  /**
   * How many different users or groups there are on the live nodes. Takes many small steps where there are many names:
   * about a second for a million.
   */
  distinct(of: "users" | "groups", live: LiveNodes): Promise<number>;

  /** Ends the node's time to live now. A node that keeps reporting comes back with its next report. */
  removeNode(node: string): Promise<void>;

  /**
   * Stores the sample of the present step, unless there is one. Removes samples that are older than `keepMs`, or from
   * the future (of a stat with another clock). Resolves to the milliseconds until the next step.
   */
  addSample(
    sample: Omit<Sample, "at">,
    options: { readonly stepMs: number; readonly keepMs: number },
  ): Promise<number>;

  /** The samples of the last `lastMs`. */
  samples(lastMs: number): Promise<Samples>;

  /**
   * Keeps an entry of the audit log; forgets those older than `keepMs`, and the oldest when there are more than `most`.
   * Of entries with the same `once`, which several stats note, only the first one is kept.
   */
  audit(
    entry: Omit<AuditEntry, "at">,
    options: { readonly keepMs: number; readonly most: number; readonly once?: string },
  ): Promise<void>;

  /** The newest entries before a moment (default: of all), the newest first. */
  audits(limit: number, before?: number): Promise<AuditEntry[]>;

  /** Each new ban is told to hooks. */
  readonly bans: Restrictions<BanRecord>;
  readonly mutes: Restrictions<MuteRecord>;

  /**
   * Tokens issued to the user before now are invalid. Resolves to the time of the kick, never before an earlier one of
   * the user.
   * @param reason for hooks
   */
  kick(userId: string, reason?: string): Promise<number>;

  /**
   * The kicks from `since` on, in order of time, and the store's clock. `more: true`: there are later ones. Kicks older
   * than {@linkcode kicksKeptMs} are forgotten.
   */
  kicks(since: number): Promise<Kicks>;

  /** As {@linkcode Restrictions.restore}. */
  restoreKicks(kicks: readonly Kick[]): Promise<void>;

  /**
   * Removes a bounded amount of data that nobody reads any more: nodes past their time to live, whichever stat served
   * them, and data that full reports replaced. Several stats may run it at once. `more: true`: call again soon.
   */
  sweep(): Promise<{ readonly more: boolean }>;
}
