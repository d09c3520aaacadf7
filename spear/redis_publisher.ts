/**
 * Sends publications to Redis in the order of the calls, target by target, and settles each in bounded time with what
 * is known of it, whatever happens to the connections meanwhile.
 */
import { type Accepted, InDoubtError, NotAcceptedError, type Publication } from "./broker.ts";
import { failureOf } from "./redis_link.ts";
import type { RedisServer, RedisServers } from "./redis_servers.ts";
import type { Target } from "./wire.ts";

export interface RedisPublisherOptions {
  readonly servers: RedisServers;
  /** The script, once. `repeated`: this publication may have been done already. */
  readonly send: (
    server: RedisServer,
    publication: Publication,
    number: number,
    repeated: boolean,
  ) => Promise<Accepted>;
  readonly publishMs: number;
}

interface Pending {
  readonly publication: Publication;
  readonly number: number;
  /** On the clock of `performance.now()`. */
  readonly deadline: number;
  readonly resolve: (accepted: Accepted) => void;
  readonly reject: (error: Error) => void;
  underWay: boolean;
  /** It was under way when a connection broke. */
  inDoubt: boolean;
}

interface Lane {
  readonly target: Target;
  /** What is not settled, in the order of the calls. */
  readonly pending: Set<Pending>;
  /** Commands not answered, also of publications that are settled by now. */
  underWay: number;
  /** Nothing more is sent until all is answered and there is a server to start anew with. */
  held: boolean;
}

const retryMs = 50;

export class RedisPublisher implements Disposable {
  readonly #options: RedisPublisherOptions;
  readonly #lanes = new Map<Target, Lane>();
  readonly #held = new Set<Lane>();
  /** In the order of their deadlines. */
  readonly #unsettled = new Set<Pending>();
  #numbers = 0;
  #expiring: ReturnType<typeof setTimeout> | undefined;
  #retrying: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(options: RedisPublisherOptions) {
    this.#options = options;
  }

  /** @throws {NotAcceptedError} {@linkcode InDoubtError} */
  publish(publication: Publication): Promise<Accepted> {
    if (this.#closed) return Promise.reject(new NotAcceptedError("the broker is closed"));
    const { promise, resolve, reject } = Promise.withResolvers<Accepted>();
    const { publishMs } = this.#options;
    const pending: Pending = {
      publication,
      number: ++this.#numbers,
      deadline: performance.now() + publishMs,
      resolve,
      reject,
      underWay: false,
      inDoubt: false,
    };
    const lane = this.#lanes.getOrInsertComputed(publication.target, (target) => ({
      target,
      pending: new Set<Pending>(),
      underWay: 0,
      held: false,
    }));
    lane.pending.add(pending);
    this.#unsettled.add(pending);
    this.#expiring ??= setTimeout(() => this.#expire(), publishMs);
    if (!lane.held) this.#send(lane, pending);
    return promise;
  }

  /** There may be a server now for what had none. */
  resume(): void {
    for (const lane of [...this.#held]) this.#start(lane);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#expiring);
    clearTimeout(this.#retrying);
    for (const pending of [...this.#unsettled]) this.#giveUp(pending, "the broker is closed");
  }

  #send(lane: Lane, pending: Pending): void {
    const { servers, send } = this.#options;
    const server = servers.serverOf(lane.target);
    if (server === undefined || !server.commands.usable) return this.#hold(lane);
    pending.underWay = true;
    lane.underWay++;
    send(server, pending.publication, pending.number, pending.inDoubt).then(
      (accepted) => {
        if (this.#settled(lane, pending)) pending.resolve(accepted);
      },
      (error: Error) => this.#failed(lane, pending, server, error),
    ).finally(() => {
      lane.underWay--;
      pending.underWay = false;
      if (lane.underWay > 0) return;
      if (lane.pending.size === 0) this.#close(lane);
      // What was lost with its connection starts as soon as there is another; the rest after a while.
      else if (lane.held) this.#retrying ??= setTimeout(() => this.#retry(), retryMs);
    });
  }

  #failed(lane: Lane, pending: Pending, server: RedisServer, cause: Error): void {
    const { servers } = this.#options;
    switch (failureOf(cause)) {
      case "refused": {
        if (!this.#settled(lane, pending)) return;
        const doubtful = cause.message.startsWith("FORGOTTEN");
        const message = `Redis refused: ${cause.message}`;
        pending.reject(
          doubtful
            ? new InDoubtError(message, { cause })
            : new NotAcceptedError(message, { cause }),
        );
        return;
      }
      case "lost":
        pending.inDoubt = true;
        break;
      case "elsewhere":
        servers.lookAgain(server);
        break;
      case "unprepared":
        // Once for all that have failed alike.
        if (server.commands.usable) void server.commands.prepare();
    }
    this.#hold(lane);
  }

  #hold(lane: Lane): void {
    lane.held = true;
    this.#held.add(lane);
  }

  #start(lane: Lane): void {
    if (lane.underWay > 0) return;
    if (lane.pending.size === 0) return this.#close(lane);
    if (!this.#options.servers.serverOf(lane.target)?.commands.usable) return;
    this.#held.delete(lane);
    lane.held = false;
    for (const pending of lane.pending) {
      if (lane.held) return;
      this.#send(lane, pending);
    }
  }

  #retry(): void {
    this.#retrying = undefined;
    this.resume();
  }

  #close(lane: Lane): void {
    this.#held.delete(lane);
    this.#lanes.delete(lane.target);
  }

  /** @returns whether this is the moment: not where time was up before. */
  #settled(lane: Lane, pending: Pending): boolean {
    lane.pending.delete(pending);
    return this.#unsettled.delete(pending);
  }

  #expire(): void {
    this.#expiring = undefined;
    const now = performance.now();
    for (const pending of this.#unsettled) {
      if (pending.deadline > now) {
        this.#expiring = setTimeout(() => this.#expire(), pending.deadline - now);
        return;
      }
      this.#giveUp(pending, `Redis did not answer within ${this.#options.publishMs} ms`);
    }
  }

  #giveUp(pending: Pending, why: string): void {
    const lane = this.#lanes.get(pending.publication.target);
    this.#unsettled.delete(pending);
    lane?.pending.delete(pending);
    if (lane !== undefined && lane.pending.size === 0 && lane.underWay === 0) this.#close(lane);
    pending.reject(
      pending.underWay || pending.inDoubt ? new InDoubtError(why) : new NotAcceptedError(why),
    );
  }
}
