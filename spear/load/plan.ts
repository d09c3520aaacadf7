/** What `load.ts` and its workers say to each other. */
import type { LatencyCounts, LatencyEntries } from "./latency.ts";
import type { Counts } from "./ledger.ts";
import type { Protocol } from "./line.ts";

/** The plan of the whole load, sent to each worker. */
export interface LoadPlan {
  /** Connections that receive. Neighbours share a group, and are distributed over targets, sources and workers. */
  readonly clients: number;
  readonly groups: number;
  readonly targets: readonly string[];
  /** Where the sending connections go; default: the same as the members. */
  readonly sendTo?: readonly string[] | undefined;
  /** The ticket to ask for a spear; `targets` is then ignored. */
  readonly ticket: string | undefined;
  /**
   * Local addresses; none: the system chooses. A given address is bound first, which needs a port that is free for all
   * destinations; after many short connections that takes long.
   */
  readonly sources: readonly string[];
  /** Connections per worker that send and receive nothing. */
  readonly senders: number;
  /** Characters per message. */
  readonly content: number;
  /** Connections per worker that are opened at once. */
  readonly connecting: number;
  /** How long a member that cannot connect tries again, every second or two; default: not at all. */
  readonly retryMs?: number | undefined;
  readonly firstUser: number;
  /** The number of the first group; default 1. */
  readonly firstGroup?: number | undefined;
  readonly workers: number;
  readonly worker: number;
  /**
   * The members are clients of the library, come by `ticket`, and send themselves: nothing else does. Each message is followed to
   * each of them. The answer to `result` is then a `Counts`.
   */
  readonly track?: boolean;
  /** What the clients speak; default 4. */
  readonly protocol?: Protocol | undefined;
  /** Each message goes to one member, as a user, in turn; the members are in no group. */
  readonly unicast?: boolean | undefined;
  /**
   * Half-way through a `send` all members lose their connections at once, and come back with the position of the last message
   * that they have. The answer to `result` is then a {@linkcode RecoveryResult}.
   */
  readonly recovery?: boolean | undefined;
  /** In a recovery storm: how long the members stay away; default 0. */
  readonly awayMs?: number | undefined;
  /** The worker says once a second how far it is. */
  readonly progress?: boolean | undefined;
}

/** The number of the group of a member, which is counted from 0. */
export function groupOf({ clients, groups, firstGroup = 1 }: LoadPlan, member: number): number {
  return firstGroup + Math.floor(member * groups / clients);
}

/** How many members a group has. @param group counted from 0 */
export function membersOf({ clients, groups }: LoadPlan, group: number): number {
  return Math.ceil((group + 1) * clients / groups) - Math.ceil(group * clients / groups);
}

export type LoadCommand =
  | { readonly do: "connect" }
  | { readonly do: "send"; readonly perSecond: number; readonly seconds: number }
  /** How many messages this worker has received, and how many deliveries its own messages cause at all workers. */
  | { readonly do: "count" }
  /** Everything since the last `send`. */
  | { readonly do: "result" };

/** The result of `connect`. */
export interface WorkerConnected {
  readonly connected: number;
  readonly seconds: number;
  /** Failed attempts that were repeated. */
  readonly retries: number;
  /** From the first attempt until the client was authenticated and subscribed. */
  readonly latencies: LatencyEntries;
}

/** How far a worker is. */
export interface SoFar {
  /** Members that are in now. */
  readonly connected: number;
  /** The messages since the last result. */
  readonly sent: number;
  /** The deliveries since the last result. */
  readonly received: number;
  /** Of these deliveries. */
  readonly latencies: LatencyCounts;
}

export interface Progress extends Omit<SoFar, "latencies"> {
  /** Of the last second. */
  readonly latencies: LatencyEntries;
}

export interface WorkerCount {
  /** Deliveries that the messages of this worker should cause, at all workers together. */
  readonly expected: number;
  /** Deliveries at this worker. */
  readonly received: number;
}

export interface WorkerResult extends WorkerCount {
  readonly sent: number;
  readonly accepted: number;
  /** Answered with an error: nobody is expected to get these. */
  readonly refused: number;
  readonly latencies: LatencyEntries;
  /** Connections that ended unexpectedly, since the start. */
  readonly lost: number;
}

export interface RecoveryResult {
  readonly counts: Counts;
  /** Messages that came to members because they came back with a position. */
  readonly recovered: number;
  /** Members that were told that everything had come, and that something may be missing. */
  readonly wholly: number;
  readonly partly: number;
  /** From the return until all members of this worker were back. */
  readonly backSeconds: number;
  /** From the return until a member was back. */
  readonly back: LatencyEntries;
  readonly retries: number;
  /** Of what was not recovered but came as it was sent. */
  readonly latencies: LatencyEntries;
}
