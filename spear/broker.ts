/**
 * How messages get from the spear that accepted one to all that have listeners, and what is kept of them.
 * Engines: `broker_memory.ts`, `broker_redis.ts`, `broker_rocketmq.ts`; all pass `broker_conformance.ts`.
 *
 * Each target has an `epoch`, new whenever its state began anew, and within it a `seq` that goes up by one with
 * every accepted message, from 1.
 */
import type { Position, Target } from "./wire.ts";

export interface Publication {
  readonly target: Target;
  /** The message's id; also makes our own repetitions harmless. */
  readonly id: string;
  /** A JSON object, without position. */
  readonly body: string;
  /** Who sent it and what the sender calls it: the same key again gives the first one's answer. */
  readonly idempotencyKey?: string;
}

export interface Accepted extends Position {
  /** The message's id; for a repetition the first one's. */
  readonly id: string;
}

export interface Entry {
  readonly seq: number;
  readonly body: string;
}

export interface History {
  /** Where the target is now. */
  readonly head: Position;
  /** Ascending. After `after` when its epoch is the head's, else all that is kept. */
  readonly entries: readonly Entry[];
  /** Nothing between `after` and the head is missing. */
  readonly complete: boolean;
}

export interface KnownPosition extends Position {
  readonly target: Target;
}

export interface Broker extends AsyncDisposable {
  /** Messages can be accepted and received now. */
  readonly connected: boolean;

  /**
   * Counts, keeps and sends out as one atomic step; settles in bounded time.
   * Publications to one target by one node are counted in the order of the calls.
   * @throws {NotAcceptedError} it has not happened and will not.
   * @throws {InDoubtError} it may have happened.
   */
  publish(publication: Publication): Promise<Accepted>;

  /**
   * From the moment this resolves every message after the position goes to the sink, or the sink is
   * told of a disruption. A node that does not listen to a target gets none of its messages.
   */
  listen(target: Target): Promise<Position>;
  unlisten(target: Target): Promise<void>;

  /**
   * Where each target is now, given how far this node has come, in the same order. A target that is behind has lost
   * data (a failover): it begins a new epoch, so that no seq is given twice within one.
   */
  positions(known: readonly KnownPosition[]): Promise<Position[]>;

  /** What is kept after a position, not further than `upTo`. */
  history(target: Target, after: Position, upTo?: number): Promise<History>;
}

/** The receiving side of a node. Messages of a target may come twice or with gaps, but not in wrong order. */
export interface BrokerSink {
  message(target: Target, epoch: string, seq: number, body: string): void;
  /** Messages may have been missed: compare positions. */
  disrupted(): void;
}

export interface HistoryLimits {
  /** Messages kept per target; 0: none, there is no recovery. */
  readonly size: number;
  readonly ageMs: number;
}

export class NotAcceptedError extends Error {
  override readonly name = "NotAcceptedError";
}

export class InDoubtError extends Error {
  override readonly name = "InDoubtError";
}
