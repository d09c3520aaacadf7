/** The broker of one process: every spear in it is given the same bus. */
import {
  type Accepted,
  type Broker,
  type BrokerSink,
  type History,
  type HistoryLimits,
  type KnownPosition,
  newEpoch,
  NotAcceptedError,
  type Publication,
} from "./broker.ts";
import { CompactSet } from "./compact.ts";
import { HistoryRing } from "./history_ring.ts";
import type { Position, Target } from "./wire.ts";

interface Log {
  epoch: string;
  seq: number;
  /** From the first message on. */
  kept: HistoryRing | undefined;
  readonly listeners: CompactSet<BrokerSink>;
  /** Sends by idempotency key, oldest first; from the first on. */
  accepted: Map<string, { readonly accepted: Accepted; readonly keptUntil: number }> | undefined;
  usedAt: number;
}

const sweepEveryMs = 10_000;

/** Holds the logs of all targets. */
export class MemoryBus {
  readonly #limits: HistoryLimits;
  readonly #now: () => number;
  readonly #logs = new Map<Target, Log>();
  #sweptAt: number;

  constructor(limits: HistoryLimits, now: () => number = Date.now) {
    this.#limits = limits;
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
      history: async (target, after, upTo) => this.#history(target, after, upTo),
      [Symbol.asyncDispose]: async () => {
        closed = true;
        listening.forEach(unlisten);
      },
    };
  }

  #publish({ target, id, body, idempotencyKey }: Publication): Accepted {
    const log = this.#log(target);
    const now = this.#now();
    const before = idempotencyKey === undefined ? undefined : log.accepted?.get(idempotencyKey);
    if (before !== undefined && before.keptUntil > now) return before.accepted;

    const seq = ++log.seq;
    const accepted = { id, epoch: log.epoch, seq };
    const keptUntil = now + this.#limits.ageMs;
    if (idempotencyKey !== undefined) {
      // Anew, also where an old one is overdue: they must stay in the order of their age.
      log.accepted ??= new Map();
      log.accepted.delete(idempotencyKey);
      log.accepted.set(idempotencyKey, { accepted, keptUntil });
    }
    if (this.#limits.size > 0) {
      (log.kept ??= new HistoryRing(this.#limits.size, seq)).add(seq, body, keptUntil);
    }
    for (const sink of log.listeners) sink.message(target, log.epoch, seq, body);
    return accepted;
  }

  #history(target: Target, after: Position, upTo = Infinity): History {
    const log = this.#log(target);
    const from = after.epoch === log.epoch ? after.seq : 0;
    const end = Math.min(upTo, log.seq);
    const entries = (log.kept?.between(from, end, this.#now()) ?? [])
      .map(({ seq, body }) => ({ epoch: log.epoch, seq, body }));
    return {
      head: positionOf(log),
      entries,
      complete: after.epoch === log.epoch && after.seq <= log.seq &&
        entries.length === Math.max(0, end - from),
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
      epoch: newEpoch(),
      seq: 0,
      kept: undefined,
      listeners: new CompactSet<BrokerSink>(),
      accepted: undefined,
      usedAt: 0,
    }));
    log.usedAt = this.#now();
    return log;
  }

  /** Lets go of targets that nobody has used for as long as history is kept. */
  #sweep(): void {
    const now = this.#now();
    if (now - this.#sweptAt < sweepEveryMs) return;
    this.#sweptAt = now;
    for (const [target, log] of this.#logs) {
      if (log.listeners.size === 0 && now - log.usedAt > this.#limits.ageMs) {
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
