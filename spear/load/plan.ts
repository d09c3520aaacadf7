/** What `load.ts` and its workers say to each other. */

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
  readonly latencies: Latencies;
}

export type Latencies = readonly (readonly [bucket: number, count: number])[];

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
  readonly latencies: Latencies;
  /** Connections that ended unexpectedly, since the start. */
  readonly lost: number;
}
