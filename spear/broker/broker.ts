/**
 * The broker port: it stores messages, and carries each accepted message from the spear that accepted it to all spears
 * that listen. Engines: `memory.ts`, `../redis/broker.ts`, `../rocketmq/broker.ts`; all pass `conformance.ts`.
 *
 * Each target has an `epoch`, and within it a `seq` that starts at 1 and increases by one with every accepted message.
 * A new epoch begins when a target's state was lost or may be incomplete (as after a failover to a replica), or when
 * the target was unused for long. It is not known which messages came between the last one seen of an epoch and the
 * next epoch.
 */
import type { Position, Target } from "../wire.ts";

/** A name for a new epoch. */
export function newEpoch(): string {
  // Not longer: from 13 characters on, a slice is a view that keeps all 36 in memory.
  return crypto.randomUUID().slice(0, 12);
}

/** Of a message; those of the system are accepted whatever came before them, and count. */
export type Priority = "low" | "normal" | "system";

export interface Rate {
  /** On average; as many come at once after a quiet time, and two at least. */
  readonly perSecond: number;
  /** Of the message. `low` finds the bucket empty when half of it is left. */
  readonly priority: Priority;
}

export interface Publication {
  readonly target: Target;
  /** The message's id; it also makes repeated attempts of this node harmless. */
  readonly id: string;
  /** A JSON object, without the position. */
  readonly body: string;
  /** The sender and the sender's own name for the message. A repeated key returns the first result. */
  readonly idempotencyKey?: string;
  /** What its target takes; default: everything. */
  readonly rate?: Rate;
  /** It is sent to those who listen now, at most once each, and neither counted nor kept: its place is seq 0. */
  readonly ephemeral?: true;
}

/** Without a place where `seq` is 0. */
export interface Accepted extends Position {
  /** The message's id; for a repetition, the first one's. */
  readonly id: string;
  /** Nobody gets it: its group takes no more now. */
  readonly dropped?: true;
}

export interface Entry extends Position {
  readonly body: string;
}

/** One page of a target's history. */
export interface HistoryPage {
  /** The target's present position. */
  readonly head: Position;
  /**
   * The stored messages after `after`, ascending: those of the head's epoch and, if the engine still has them, before
   * them those of the epoch before it. If `after` belongs to neither epoch, the page starts with the oldest stored
   * message. A page that has a next page may be empty.
   */
  readonly entries: readonly Entry[];
  /** Pass it as `after` to get the next page. Undefined: this page reaches the head. */
  readonly next: Position | undefined;
  /**
   * `after` belongs to the head's epoch, is not beyond the head, and nothing from there to the end of the page is
   * missing.
   */
  readonly complete: boolean;
  /** The epoch before the head's, where the one of `after` had ended when it began: who was there has had nothing of it. */
  readonly allOf?: string;
}

/**
 * A page ends before the message that would exceed this size, in bytes of bodies, but has at least one message. Small,
 * because a shared store must not be blocked, and because each recovering client holds one page in memory.
 */
export const pageBytes = 65_536;
export const messagesPerPage = 500;

/** Never reached: a thousand messages per second take 300 years. Redis counts exactly well beyond it. */
export const largestSeq = 10 ** 13;

export interface KnownPosition extends Position {
  readonly target: Target;
}

/** How messages go through a carrier that the broker can do without. */
export interface Carrier {
  /** Messages reach this node through it now. */
  readonly direct: boolean;
  /** What does not work; "" when all does. */
  readonly trouble: string;
  /** Of the last probe that came back; NaN before. */
  readonly roundTripMs: number;
  /** What this node has sent: texts for one node through the carrier and to its mailbox, messages over the detour. */
  readonly sent: { readonly direct: number; readonly detour: number; readonly mailbox: number };
  /** How often messages of this node may have been stored and not sent. */
  readonly faults: number;
  /** UTF-16 units on their way to other nodes. */
  readonly waiting: number;
}

export interface Broker extends AsyncDisposable {
  /** Messages can be accepted and received now. */
  readonly connected: boolean;
  /** Of an engine that messages reach other nodes through, while a slower way works without it. */
  readonly carrier?: Carrier;

  /**
   * Assigns the position, stores the message and sends it to the nodes, as one atomic step; settles in bounded time.
   * Publications of one node to one target get their seqs in the order of the calls.
   *
   * @throws {NotAcceptedError} the message was not accepted and will not be.
   * @throws {OverRateError} the same, because it is above the rate; a repetition of an accepted one never is.
   * @throws {InDoubtError} the outcome is unknown: Redis had the message when the connection broke.
   */
  publish(publication: Publication): Promise<Accepted>;

  /**
   * After this resolves, every message after the returned position reaches the sink, or the sink is notified of a
   * disruption. A node that does not listen to a target gets none of its messages.
   * @throws {NotAcceptedError} this node does not listen.
   */
  listen(target: Target): Promise<Position>;
  /** @param seen how far this node has come: the broker knows it from here on, as it asked {@linkcode BrokerSink.seen} before */
  unlisten(target: Target, seen?: Position): Promise<void>;

  /**
   * The present position of each target, in the same order, given how far this node has come. A target whose position
   * is behind has lost data: it begins a new epoch, so that no seq is used twice within one epoch.
   * @throws {NotAcceptedError} no answer within the time limit of a publication.
   */
  positions(known: readonly KnownPosition[]): Promise<Position[]>;

  /**
   * The first page of history after a position: at most {@linkcode messagesPerPage} messages and `bytes` of bodies.
   * @param bytes default and maximum {@linkcode pageBytes}
   * @throws {NotAcceptedError} no answer within the time limit of a publication.
   */
  history(target: Target, after: Position, bytes?: number): Promise<HistoryPage>;

  /**
   * Removes all messages of the target from history; its position stays. What is on its way to members still arrives.
   * @throws {NotAcceptedError} no answer within the time limit of a publication.
   */
  clear(target: Target): Promise<void>;
}

/** A broker that needs servers. */
export interface ServedBroker extends Broker {
  /** Writes something small that expires. Rejects, saying why, when no message could be accepted now. */
  proveWritable(): Promise<void>;
}

/**
 * The receiving side of a node. Messages of a target may arrive twice or with gaps, but never in the wrong order. Those with seq 0
 * are ephemeral: they arrive once or not at all, and are in no order with others.
 */
export interface BrokerSink {
  message(target: Target, epoch: string, seq: number, body: string): void;
  /** Messages may have been missed: compare positions. */
  disrupted(): void;
  /** How far this node has come in each target that it listens to, including messages held back. */
  seen(): Iterable<KnownPosition>;
}

/**
 * 1000 messages of 16 KB. With a limit on the number of messages alone, one client with large messages could make each
 * target 100 MB.
 */
export const historyBytes = 16_000_000;

export interface HistoryLimits {
  /** Messages stored per target; 0: none, so there is no recovery. */
  readonly size: number;
  /**
   * Bytes of bodies stored per target; default {@linkcode historyBytes}. The newest message is stored even if it alone
   * is larger.
   */
  readonly bytes?: number;
  readonly ageMs: number;
}

/** What is kept of a target, where targets differ. */
export type HistoryOf = (target: Target) => HistoryLimits;

export class NotAcceptedError extends Error {
  override readonly name: string = "NotAcceptedError";
}

/** The message is above its target's rate. */
export class OverRateError extends NotAcceptedError {
  override readonly name = "OverRateError";
  /** Before that an attempt with the same priority is in vain. */
  readonly retryAfterMs: number;

  constructor({ perSecond }: Rate, retryAfterMs: number) {
    super(`its group takes ${perSecond} messages a second`);
    this.retryAfterMs = retryAfterMs;
  }
}

export class InDoubtError extends Error {
  override readonly name = "InDoubtError";
}
