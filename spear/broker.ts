/**
 * How messages get from the spear that accepted one to all that have listeners, and what is kept of them.
 * Engines: `broker_memory.ts`, `broker_redis.ts`, `broker_rocketmq.ts`; all pass `broker_conformance.ts`.
 *
 * Each target has an `epoch` and within it a `seq` that goes up by one with every accepted message, from 1. A new
 * epoch begins when a target's state was lost or may be incomplete, as after a failover to a replica, and when nobody
 * has used it for long. What came between the last message seen of an epoch and the next epoch is not known.
 */
import type { Position, Target } from "./wire.ts";

/** The name of an epoch that begins. */
export function newEpoch(): string {
  // One character more, and all 36 would be kept: from 13 on a slice is a view.
  return crypto.randomUUID().slice(0, 12);
}

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

export interface Entry extends Position {
  readonly body: string;
}

export interface History {
  /** Where the target is now. */
  readonly head: Position;
  /**
   * What is kept after `after`, ascending: of the head's epoch, and before that of the epoch that went before it
   * where the engine still has some. When `after` is of neither, all that is kept.
   */
  readonly entries: readonly Entry[];
  /** `after` is of the head's epoch, not beyond the head, and nothing between the two (or `upTo`) is missing. */
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
   * @throws {InDoubtError} it has happened, or not, or may still happen: Redis had it when the connection broke.
   */
  publish(publication: Publication): Promise<Accepted>;

  /**
   * From the moment this resolves every message after the position goes to the sink, or the sink is
   * told of a disruption. A node that does not listen to a target gets none of its messages.
   * @throws {NotAcceptedError} this node does not listen.
   */
  listen(target: Target): Promise<Position>;
  unlisten(target: Target): Promise<void>;

  /**
   * Where each target is now, given how far this node has come, in the same order. A target that is behind has lost
   * data: it begins a new epoch, so that no seq is given twice within one.
   * @throws {NotAcceptedError} not to be found out within the time for a publication.
   */
  positions(known: readonly KnownPosition[]): Promise<Position[]>;

  /**
   * What is kept after a position, not further than seq `upTo` of the head's epoch.
   * @throws {NotAcceptedError} not to be found out within the time for a publication.
   */
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
