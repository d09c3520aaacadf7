/**
 * The events of one client on their way in: the order in which they take effect, what they cost, and how much of them waits.
 * Events take effect in the order they came. Those behind an `auth`, `subscribe` or `unsubscribe` wait for it; those before the
 * first `auth` wait for that.
 */
import { RpcError } from "@gru/shared/rpc/contract";
import { InDoubtError, NotAcceptedError, OverRateError } from "../broker/broker.ts";
import { type Disconnect, disconnects } from "../disconnects.ts";
import { code, EventError, type EventName, isEventName, type Result, sizeOf } from "../wire.ts";
import type { Connection, SessionContext } from "./context.ts";
import type { Refusal } from "./intake.ts";
import { Kept } from "./kept.ts";
import { tooMuch, work, type Worker } from "./work.ts";

export interface Client extends Worker {
  readonly closed: boolean;
  readonly connection: Pick<Connection, "rest" | "about">;
  disconnect(why: Disconnect): void;
  /** Does what the event asks for and answers; resolves to, or rejects with, what is to be answered instead. */
  perform(
    event: EventName,
    raw: unknown,
    reply: (result: Result) => void,
  ): Promise<Refusal | void>;
}

/** Events of one connection that may be under way at once, for clients that do not wait for answers. */
const maxEventsUnderWay = 1000;
const underWayAgainMs = 100;

/** Events that those behind them depend on. */
const othersWaitFor: ReadonlySet<string> = new Set(["auth", "subscribe", "unsubscribe"]);

/** In UTF-16 units: what a client may send behind an event that later ones depend on. */
const mostWaitingSize = 65_536;
/** After a refusal: a client that goes on all the same must not take all of the node's time for being refused. */
const restMs = 100;

type Surroundings = Pick<SessionContext<never>, "work" | "keptRoom" | "counts" | "log">;

export class Arrivals {
  readonly #client: Client;
  readonly #node: Surroundings;
  /** Set while an event is under way that later ones depend on. */
  #barrier: Promise<void> | undefined;
  /** Of the events that wait for it. */
  #waitingSize = 0;
  #eventsUnderWay = 0;
  /** From the first event before `auth` on, until that is through. */
  #kept: Kept | undefined;
  /** Cut off for flooding: what still comes is dropped. */
  #cutOff = false;

  constructor(client: Client, node: Surroundings) {
    this.#client = client;
    this.#node = node;
  }

  get cutOff(): boolean {
    return this.#cutOff;
  }

  /**
   * Works on one event and calls `answer` at most once: not at all when the connection has ended or the outcome is not known.
   * @param surplus size of what came beside the argument
   */
  async take(
    event: string,
    raw: unknown,
    answer: (result: Result) => void,
    surplus: number,
  ): Promise<void> {
    if (this.#cutOff) return;
    const reply = (result: Result) => {
      this.#node.counts.event(event, result.errorCode, this.#nameOfClient);
      answer(result);
    };
    this.#eventsUnderWay++;
    let release = () => {};
    try {
      if (event !== "auth" && this.#client.userId === undefined) {
        this.#kept ??= new Kept(this.#node.keptRoom);
        // Awaited here, as the barrier is: nothing that came later may overtake it.
        if (!await this.#kept.keep(event, raw, surplus, reply)) return;
      }
      this.#charge(event, raw, surplus);
      const size = this.#barrier === undefined ? 0 : this.#waitingRoomFor(event, raw, surplus);
      this.#waitingSize += size;
      while (this.#barrier !== undefined) await this.#barrier;
      this.#waitingSize -= size;
      if (this.#client.closed) return;
      // An auth that had let it pass may have failed while it read what its user missed.
      if (event !== "auth" && this.#client.userId === undefined) {
        throw new EventError(code.logicError, `${event.slice(0, 64)}: not authenticated`);
      }
      if (!isEventName(event)) throw new EventError(code.logicError, `${event}: unknown event`);
      if (othersWaitFor.has(event)) release = this.#raiseBarrier();
      const refusal = await this.#client.perform(event, raw, reply);
      if (refusal !== undefined && !this.#client.closed && !this.#cutOff) {
        if (event === "msg") this.#node.counts.refused();
        reply(refusal.result);
        this.#rest(event, raw, surplus);
      }
    } catch (error) {
      if (this.#client.closed || this.#cutOff) return;
      if (error instanceof InDoubtError) return this.#endInDoubt(event, error);
      if (event === "msg" && error instanceof EventError) this.#node.counts.refused();
      const refusal = this.#toEventError(event, error);
      reply(refusal.result());
      if (refusal.ends !== undefined) this.#client.disconnect(refusal.ends);
      // Other errors have been paid for.
      else if (refusal.retryAfterMs !== undefined) this.#rest(event, raw, surplus);
    } finally {
      // After the answer: what waits may be refused because of what it says.
      if (event === "auth" && this.#client.userId !== undefined) {
        this.#kept?.admit();
        this.#kept = undefined;
      }
      release();
      this.#eventsUnderWay--;
    }
  }

  /** After a refusal that was to be waited for. */
  #rest(event: string, raw: unknown, surplus: number): void {
    if (this.#node.work.refused(this.#client, event, raw, surplus)) this.#endFlood();
    else this.#client.connection.rest(restMs);
  }

  /** Does something that the client did not ask for, between its events, as if it had come now. */
  async between<T>(act: () => Promise<T>): Promise<T> {
    for (let before = this.#barrier; before !== undefined; before = this.#barrier) await before;
    const release = this.#raiseBarrier();
    try {
      return await act();
    } finally {
      release();
    }
  }

  /** Charges for what is no event, so that nobody is answered about it. */
  owe(units: number): void {
    if (this.#cutOff || this.#client.closed) return;
    const { work: budgets } = this.#node;
    const isStranger = this.#client.userId === undefined;
    budgets.spend(this.#client, isStranger ? Math.max(units, work.ofStranger) : units);
    if (budgets.isFlood(this.#client)) this.#endFlood();
  }

  /** Answers what waits for an `auth` that does not come. */
  refuseKept(): void {
    this.#kept?.refuse();
  }

  /** The connection is gone. */
  close(): void {
    this.#kept?.drop();
  }

  #raiseBarrier(): () => void {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#barrier = promise;
    return () => {
      this.#barrier = undefined;
      resolve();
    };
  }

  /** @throws {EventError} before anything is done: parsing and waiting cost, too. */
  #charge(event: string, raw: unknown, surplus: number): void {
    if (this.#eventsUnderWay > maxEventsUnderWay) {
      throw new EventError(
        code.logicError,
        `${event}: not accepted: ${maxEventsUnderWay} events are under way on this connection`,
        { retryAfterMs: underWayAgainMs },
      );
    }
    this.#node.work.chargeArrival(this.#client, event, raw, surplus);
  }

  /** @throws {EventError} when much waits already: a parsed event takes several times what it took on its way. */
  #waitingRoomFor(event: string, raw: unknown, surplus: number): number {
    if (this.#waitingSize > mostWaitingSize) throw tooMuch(event, restMs);
    return Math.min(sizeOf(raw) + surplus, mostWaitingSize);
  }

  #endInDoubt(event: string, error: InDoubtError): void {
    this.#node.counts.event(event, "in_doubt", this.#nameOfClient);
    this.#node.log.debug("a client of user {userId} gets no answer: {error}", {
      userId: this.#client.userId,
      error,
    });
    this.#client.disconnect(disconnects.inDoubt);
  }

  readonly #nameOfClient = (): string => {
    const { userId, connection } = this.#client;
    return userId === undefined
      ? connection.about.address ?? "an unknown address"
      : `user ${userId}`;
  };

  #endFlood(): void {
    this.#cutOff = true;
    this.#client.disconnect(disconnects.overBudget);
  }

  #toEventError(event: string, error: unknown): EventError {
    if (error instanceof EventError) return error;
    if (error instanceof OverRateError) {
      const { message, retryAfterMs } = error;
      return new EventError(code.logicError, `${event}: not accepted: ${message}`, {
        retryAfterMs,
      });
    }
    if (error instanceof NotAcceptedError || error instanceof RpcError) {
      return new EventError(code.systemError, `${event}: not accepted: ${error.message}`);
    }
    this.#node.log.error("{event} failed: {error}", { event, error });
    return new EventError(code.systemError, `${event}: system error`);
  }
}
