/**
 * How much work clients may make: each connection has a budget, and each user one for all its connections to this node. When all
 * together make more than the node can do, those who make little go first. A unit is what makes the node and the stores
 * together busy for some 50 to 100 µs: joining a group is one.
 */
import { pause } from "@gru/shared/pause";
import { Bucket, RateLimit } from "@gru/shared/rate_limit";
import { code, EventError, type EventName, isEventName, sizeOf } from "../wire.ts";

export interface WorkLimits {
  readonly workPerSecond: number;
  readonly workAtOnce: number;
  readonly userFactor: number;
  readonly nodeWorkPerSecond: number;
  readonly messagesPerSecond: number;
  readonly groupsPerConnection: number;
}

/** Whom work is charged to. All but the user is this file's: when the connection's buckets are full again. */
export interface Worker {
  readonly userId: string | undefined;
  workFullAtMs: number;
  refusalsFullAtMs: number;
  modestFullAtMs: number;
  /** From the first message on: most connections only receive. */
  messages: RateLimit | undefined;
}

/** Units for an event as such, whatever it holds. `msg` has a limit of its own. */
const unitsOf: Readonly<Record<EventName, number>> = {
  // A token is verified and used up, one is signed, and history is looked at.
  auth: 10,
  subscribe: 1,
  unsubscribe: 1,
  online: 1,
  msg: 0,
};

export const work = {
  ofEvent: (event: string): number => isEventName(event) ? unitsOf[event] : 1,
  /** Parsed and looked through: 2 KB are a unit. */
  ofArgument: (size: number): number => Math.min(size, maxSize) / 2048,
  /** Of a message beside its content: what clients are here for is limited by number. */
  ofSurplus: (size: number): number => size > freeSurplus ? work.ofArgument(size) : 0,
  /** Joined. */
  ofGroup: 1,
  /** Left. */
  ofGroupLeft: 0.5,
  /** Asked for at the same time as a group is joined: who is there. */
  ofPresence: 2,
  /** Read from history and sent: 16 KB are a unit. */
  ofRecovery: (bytes: number): number => bytes / 16_384,
  /** Names read from the stores. */
  ofReading: (names: number): number => names / 50,
  /** So that what may be answered at once is less than what may wait for a client: 512 bytes are a unit. */
  ofAnswer: (bytes: number): number => bytes / 512,
  /** An answer that only says no. */
  ofRefusal: 1,
  /** Anything before `auth` that is no event: such a client has little to say. */
  ofStranger: 20,
  /** A client acknowledges what it was sent; nobody waits for it. */
  ofAcknowledgement: 0.1,
} as const;

const freeSurplus = 2048;
/** A recovery that waits looks so often whether its client is still there. */
const maxPauseMs = 200;

/** What nests too deep has no size. */
const maxSize = 1_000_000;

/** Acknowledgements are not refused: a client ends that owes as much as it may do at once. */
const floodFactor = 2;

/** What a client may go on with while the node is overloaded: enough to come in, to talk, and to look around. */
const modest = { perSecond: 20, burst: 200 };
const modestBurstMs = 1000 * modest.burst / modest.perSecond;
/** The node's bucket holds what it may do in a second. */
const nodeBurstMs = 1000;

export class Work {
  /** Of all clients together. */
  readonly #node: Bucket;
  #nodeFullAtMs = 0;
  readonly #modest = new Bucket(modest);
  readonly #connection: Bucket;
  readonly #user: Bucket;
  readonly #messagesPerSecond: number;
  readonly #unitsOfMessage: number;
  readonly #atOnce: number;
  /** When a user's bucket is full again; who is not in here has a full one. */
  readonly #users = new Map<string, number>();
  readonly #now: () => number;
  #sweepAt = 1000;

  /** @param now milliseconds on a clock that never goes back */
  constructor(limits: WorkLimits, now: () => number = () => performance.now()) {
    const { workPerSecond: perSecond, userFactor, messagesPerSecond } = limits;
    // A client may always come in, join all its groups and leave them again.
    const burst = Math.max(limits.workAtOnce, 2 * limits.groupsPerConnection);
    this.#atOnce = burst;
    const { nodeWorkPerSecond } = limits;
    this.#node = new Bucket({ perSecond: nodeWorkPerSecond, burst: nodeWorkPerSecond });
    this.#connection = new Bucket({ perSecond, burst });
    this.#user = new Bucket({ perSecond: userFactor * perSecond, burst: userFactor * burst });
    this.#messagesPerSecond = messagesPerSecond;
    this.#unitsOfMessage = perSecond / messagesPerSecond;
    this.#now = now;
  }

  /**
   * For an event that has come, before it is parsed.
   * @param surplus size of what came beside the argument
   * @throws {EventError} and nothing is charged
   */
  chargeArrival(worker: Worker, event: string, raw: unknown, surplus: number): void {
    if (event !== "msg") {
      const units = work.ofEvent(event) + work.ofArgument(sizeOf(raw) + surplus);
      return this.charge(worker, event, units);
    }
    this.charge(worker, event, work.ofSurplus(surplus));
    this.#chargeMessage(worker);
  }

  /** @throws {EventError} when the connection or its user has no such budget now; then nothing is charged. */
  charge(worker: Worker, event: string, units: number): void {
    if (units === 0) return;
    const { userId, workFullAtMs } = worker;
    const waitMs = this.#connection.waitMs(workFullAtMs, this.#now(), units);
    const userWaitMs = userId === undefined ? 0 : this.#userWaitMs(userId, units);
    if (waitMs > 0 || userWaitMs > 0) throw tooMuch(event, Math.max(waitMs, userWaitMs));
    this.#requireOfNode(worker, event, units);
    this.spend(worker, units);
  }

  /** @throws {EventError} when the user has no such budget now. */
  requireOfUser(userId: string, event: string, units: number): void {
    const waitMs = this.#userWaitMs(userId, units);
    if (waitMs > 0) throw tooMuch(event, waitMs);
  }

  /** For work that is done: what is more than there was is owed. */
  spend(worker: Worker, units: number): void {
    worker.workFullAtMs = this.#connection.after(worker.workFullAtMs, this.#now(), units);
    this.#spendOfNode(worker, units);
    if (worker.userId !== undefined) this.spendOfUser(worker.userId, units);
  }

  spendOfUser(userId: string, units: number): void {
    this.#users.set(userId, this.#user.after(this.#users.get(userId) ?? 0, this.#now(), units));
    if (this.#users.size > this.#sweepAt) this.#sweep();
  }

  /** Resolves when nothing is owed: a client that has missed more than its budget is given the rest as fast as that fills. */
  async outOfDebt(worker: Worker, hasEnded: () => boolean): Promise<void> {
    while (!hasEnded()) {
      const ofUser = worker.userId === undefined ? 0 : this.#userWaitMs(worker.userId, 0);
      const ofConnection = this.#connection.waitMs(worker.workFullAtMs, this.#now(), 0);
      const waitMs = Math.max(ofConnection, ofUser);
      if (waitMs === 0) return;
      await pause(Math.min(waitMs, maxPauseMs));
    }
  }

  isFlood({ workFullAtMs }: Worker): boolean {
    return this.#connection.used(workFullAtMs, this.#now()) > floodFactor;
  }

  /**
   * A refusal was answered, which costs, too. It is not taken from the budget: a client that waits as long as it was told to is let
   * through. `true`: there were more of them than there may be work at once, and the connection should end.
   */
  refused(worker: Worker, event: string, raw: unknown, surplus: number): boolean {
    const size = surplus + (event === "msg" ? sizeBesideContent(raw) : sizeOf(raw));
    const units = work.ofRefusal + argumentOf(worker, size);
    const now = this.#now();
    const isFlood = this.#connection.waitMs(worker.refusalsFullAtMs, now, units) > 0;
    worker.refusalsFullAtMs = this.#connection.after(worker.refusalsFullAtMs, now, units);
    // Its user gets no further by coming again and again.
    if (isFlood && worker.userId !== undefined) this.spendOfUser(worker.userId, this.#atOnce);
    return isFlood;
  }

  #chargeMessage(worker: Worker): void {
    const perSecond = this.#messagesPerSecond;
    worker.messages ??= new RateLimit({ perSecond, burst: perSecond });
    const rateWaitMs = worker.messages.take(this.#now());
    if (rateWaitMs > 0) {
      throw new EventError(
        code.logicError,
        `msg: not accepted: more than ${perSecond} messages a second`,
        { retryAfterMs: rateWaitMs },
      );
    }
    const { userId } = worker;
    if (userId === undefined) return;
    const units = this.#unitsOfMessage;
    this.requireOfUser(userId, "msg", units);
    this.#requireOfNode(worker, "msg", units);
    this.spendOfUser(userId, units);
    this.#spendOfNode(worker, units);
  }

  /** @throws {EventError} when the node has more to do than it can, and this client makes more than a modest part of it. */
  #requireOfNode({ modestFullAtMs }: Worker, event: string, units: number): void {
    const now = this.#now();
    const waitMs = this.#node.waitMs(this.#nodeFullAtMs, now, units);
    if (waitMs === 0) return;
    const modestWaitMs = this.#modest.waitMs(modestFullAtMs, now, units);
    if (modestWaitMs > 0) throw tooMuch(event, Math.max(waitMs, Math.min(modestWaitMs, 1000)));
  }

  #spendOfNode(worker: Worker, units: number): void {
    const now = this.#now();
    this.#nodeFullAtMs = this.#node.after(this.#nodeFullAtMs, now, units);
    // What is done beyond the node's means is not held against those who come later.
    this.#nodeFullAtMs = Math.min(this.#nodeFullAtMs, now + 2 * nodeBurstMs);
    const modestFullAtMs = this.#modest.after(worker.modestFullAtMs, now, units);
    // Forgiven after some seconds of quiet, whatever it was.
    worker.modestFullAtMs = Math.min(modestFullAtMs, now + 2 * modestBurstMs);
  }

  #userWaitMs(userId: string, units: number): number {
    return this.#user.waitMs(this.#users.get(userId) ?? 0, this.#now(), units);
  }

  /** Only full buckets are forgotten: nobody gets more by being one of many. */
  #sweep(): void {
    const now = this.#now();
    for (const [userId, fullAtMs] of this.#users) {
      if (fullAtMs <= now) this.#users.delete(userId);
    }
    this.#sweepAt = Math.max(1000, 2 * this.#users.size);
  }
}

/** Before `auth` a client has little to say. */
function argumentOf({ userId }: Worker, size: number): number {
  return (userId === undefined ? 10 : 1) * work.ofArgument(size);
}

export function tooMuch(event: string, retryAfterMs: number): EventError {
  const seconds = Math.ceil(retryAfterMs / 100) / 10;
  return new EventError(
    code.logicError,
    `${event}: not accepted: this connection, its user or the node has no budget left; try again in ${seconds} s`,
    { retryAfterMs },
  );
}

/** Text is parsed later, if at all. */
function sizeBesideContent(raw: unknown): number {
  if (typeof raw === "string") return raw.length / 8;
  const content = typeof raw === "object" && raw !== null ? Reflect.get(raw, "content") : undefined;
  return sizeOf(raw) - (typeof content === "string" ? content.length : 0);
}
