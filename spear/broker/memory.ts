/** The broker of one process: all spears in it share one bus. */
import {
  type Accepted,
  type Broker,
  type BrokerSink,
  type HistoryLimits,
  type HistoryOf,
  type HistoryPage,
  type KnownPosition,
  messagesPerPage,
  newEpoch,
  NotAcceptedError,
  pageBytes,
  type Publication,
} from "./broker.ts";
import { CompactSet } from "@gru/shared/compact";
import { HistoryRing } from "./history_ring.ts";
import { takeOne } from "./rate.ts";
import type { Position, Target } from "../wire.ts";

interface Log {
  readonly limits: HistoryLimits;
  epoch: string;
  seq: number;
  /** Set with the first message. */
  kept: HistoryRing | undefined;
  readonly listeners: CompactSet<BrokerSink>;
  /** Results by idempotency key, oldest first; set with the first message that has a key. */
  accepted: Map<string, { readonly accepted: Accepted; readonly keptUntil: number }> | undefined;
  /** When it takes as many messages at once as ever, Unix microseconds. */
  fullAt: number;
  usedAt: number;
}

const sweepEveryMs = 10_000;

/** Holds the logs of all targets. */
export class MemoryBus {
  readonly #historyOf: HistoryOf;
  readonly #now: () => number;
  readonly #logs = new Map<Target, Log>();
  #sweptAt: number;

  /** @param historyOf default: `limits` for all */
  constructor(
    limits: HistoryLimits,
    now: () => number = Date.now,
    historyOf: HistoryOf = () => limits,
  ) {
    this.#historyOf = historyOf;
    this.#now = now;
    this.#sweptAt = now();
  }

  connect(sink: BrokerSink): Broker {
    const listening = new Set<Target>();
    let closed = false;
    const unlisten = (target: Target) => {
      listening.delete(target);
      this.#logs.get(target)?.listeners.delete(sink);
    };
    return {
      get connected() {
        return !closed;
      },
      publish: async (publication) => {
        if (closed) throw new NotAcceptedError("the broker is closed");
        return this.#publish(publication);
      },
      listen: async (target) => {
        if (closed) throw new NotAcceptedError("the broker is closed");
        const log = this.#log(target);
        log.listeners.add(sink);
        listening.add(target);
        return positionOf(log);
      },
      unlisten: async (target) => unlisten(target),
      positions: async (known) => known.map((position) => this.#position(position)),
      history: async (target, after, bytes) => this.#history(target, after, bytes),
      clear: async (target) => void (this.#log(target).kept = undefined),
      [Symbol.asyncDispose]: async () => {
        closed = true;
        listening.forEach(unlisten);
      },
    };
  }

  #publish({ target, id, body, idempotencyKey, rate, ephemeral }: Publication): Accepted {
    const log = this.#log(target);
    const now = this.#now();
    const before = idempotencyKey === undefined ? undefined : log.accepted?.get(idempotencyKey);
    if (before !== undefined && before.keptUntil > now) return before.accepted;
    if (rate !== undefined) log.fullAt = takeOne(log.fullAt, now * 1000, rate);

    const seq = ephemeral ? 0 : ++log.seq;
    const epoch = ephemeral ? "" : log.epoch;
    const accepted = { id, epoch, seq };
    const keptUntil = now + log.limits.ageMs;
    if (idempotencyKey !== undefined) {
      // Removed and inserted again, even if an old entry has expired: entries must stay in order of their age.
      log.accepted ??= new Map();
      log.accepted.delete(idempotencyKey);
      log.accepted.set(idempotencyKey, { accepted, keptUntil });
    }
    if (log.limits.size > 0 && !ephemeral) {
      (log.kept ??= new HistoryRing(log.limits, seq)).add(seq, body, keptUntil);
    }
    for (const sink of log.listeners) sink.message(target, epoch, seq, body);
    return accepted;
  }

  #history(target: Target, after: Position, bytes = pageBytes): HistoryPage {
    const log = this.#log(target);
    const { epoch, seq: end } = log;
    const isPresent = after.epoch === epoch;
    const { found, reached } = log.kept?.page(isPresent ? after.seq : 0, this.#now(), {
      count: messagesPerPage,
      bytes: Math.min(bytes, pageBytes),
    }) ?? { found: [], reached: end };
    return {
      head: positionOf(log),
      entries: found.map(({ seq, body }) => ({ epoch, seq, body })),
      next: reached < end ? { epoch, seq: reached } : undefined,
      complete: isPresent && after.seq <= end &&
        found.length === Math.min(reached, end) - after.seq,
    };
  }

  #position({ target, epoch, seq }: KnownPosition): Position {
    const log = this.#log(target);
    if (log.epoch === epoch && log.seq < seq) {
      Object.assign(log, { epoch: newEpoch(), seq: 0, kept: undefined });
    }
    return positionOf(log);
  }

  #log(target: Target): Log {
    this.#sweep();
    const log = this.#logs.getOrInsertComputed(target, () => ({
      limits: this.#historyOf(target),
      epoch: newEpoch(),
      seq: 0,
      kept: undefined,
      listeners: new CompactSet<BrokerSink>(),
      accepted: undefined,
      fullAt: 0,
      usedAt: 0,
    }));
    log.usedAt = this.#now();
    return log;
  }

  /** Removes targets that have been unused for as long as history is kept. */
  #sweep(): void {
    const now = this.#now();
    if (now - this.#sweptAt < sweepEveryMs) return;
    this.#sweptAt = now;
    for (const [target, log] of this.#logs) {
      if (log.listeners.size === 0 && now - log.usedAt > log.limits.ageMs) {
        this.#logs.delete(target);
        continue;
      }
      if (log.kept?.dropBefore(now) === 0) log.kept = undefined;
      for (const [key, { keptUntil }] of log.accepted ?? []) {
        if (keptUntil > now) break;
        log.accepted?.delete(key);
      }
    }
  }
}

function positionOf(log: Log): Position {
  return { epoch: log.epoch, seq: log.seq };
}
