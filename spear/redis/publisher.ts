/**
 * Sends publications to Redis in the order of the calls, target by target, and settles each in bounded time with what
 * is known of it, whatever happens to the connections meanwhile.
 */
import {
  type Accepted,
  InDoubtError,
  NotAcceptedError,
  type Publication,
} from "../broker/broker.ts";
import { failureOf } from "@gru/shared/redis/link";
import type { RedisServer, RedisTopology } from "@gru/shared/redis/topology";
import type { Target } from "../wire.ts";

/** What became of a publication. */
export interface Stored extends Accepted {
  /** The tags of nodes in mode `rocketmq` that listen and that nothing was sent to. */
  readonly toCarry: readonly string[];
  /** Nodes in mode `rocketmq` listen, and have been sent the message over their channel. */
  readonly overRedis: boolean;
  /** It is above its target's rate: nothing was done. */
  readonly retryAfterMs?: number | undefined;
}

export interface RedisPublisherOptions {
  readonly servers: RedisTopology;
  /** The script, once. `repeated`: this publication may have been done already. */
  readonly send: (
    server: RedisServer,
    publication: Publication,
    number: number,
    repeated: boolean,
  ) => Promise<Stored>;
  readonly publishMs: number;
}

interface Pending {
  readonly publication: Publication;
  readonly number: number;
  /** On the clock of `performance.now()`. */
  readonly deadline: number;
  readonly resolve: (accepted: Stored) => void;
  readonly reject: (error: Error) => void;
  underWay: boolean;
  /** It was under way when a connection broke. */
  inDoubt: boolean;
}

interface TargetQueue {
  readonly target: Target;
  /** What is not settled, in the order of the calls. */
  readonly pending: Set<Pending>;
  /** Commands not answered, also of publications that are settled by now. */
  underWay: number;
  /** Where these were sent to. */
  server: RedisServer | undefined;
  /** Nothing more is sent until all is answered and there is a server to start anew with. */
  held: boolean;
}

const retryMs = 50;

export class RedisPublisher implements Disposable {
  readonly #options: RedisPublisherOptions;
  readonly #queues = new Map<Target, TargetQueue>();
  readonly #held = new Set<TargetQueue>();
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
  publish(publication: Publication): Promise<Stored> {
    if (this.#closed) return Promise.reject(new NotAcceptedError("the broker is closed"));
    const { promise, resolve, reject } = Promise.withResolvers<Stored>();
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
    const queue = this.#queues.getOrInsertComputed(publication.target, (target) => ({
      target,
      pending: new Set<Pending>(),
      underWay: 0,
      server: undefined,
      held: false,
    }));
    queue.pending.add(pending);
    this.#unsettled.add(pending);
    this.#expiring ??= setTimeout(() => this.#expire(), publishMs);
    if (!queue.held) this.#send(queue, pending);
    return promise;
  }

  /** There may be a server now for what had none. */
  resume(): void {
    for (const queue of [...this.#held]) this.#start(queue);
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    clearTimeout(this.#expiring);
    clearTimeout(this.#retrying);
    for (const pending of [...this.#unsettled]) this.#giveUp(pending, "the broker is closed");
  }

  #send(queue: TargetQueue, pending: Pending): void {
    const { servers, send } = this.#options;
    const server = servers.serverOf(queue.target);
    if (server === undefined || !server.commands.usable) return this.#hold(queue);
    // A target has moved while its last server still has some: what goes to the new one would overtake them.
    if (queue.underWay > 0 && queue.server !== server) return this.#hold(queue);
    queue.server = server;
    pending.underWay = true;
    queue.underWay++;
    send(server, pending.publication, pending.number, pending.inDoubt).then(
      (accepted) => {
        if (this.#settled(queue, pending)) pending.resolve(accepted);
      },
      (error: Error) => this.#failed(queue, pending, server, error),
    ).finally(() => {
      queue.underWay--;
      pending.underWay = false;
      if (queue.underWay > 0) return;
      if (queue.pending.size === 0) this.#close(queue);
      // What was lost with its connection starts as soon as there is another; the rest after a while.
      else if (queue.held) this.#retrying ??= setTimeout(() => this.#retry(), retryMs);
    });
  }

  #failed(queue: TargetQueue, pending: Pending, server: RedisServer, cause: Error): void {
    const { servers } = this.#options;
    switch (failureOf(cause)) {
      case "refused": {
        if (!this.#settled(queue, pending)) return;
        // Of one that was sent before, a refusal says nothing about the first time.
        const doubtful = pending.inDoubt || cause.message.startsWith("FORGOTTEN");
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
        servers.refresh(server);
        break;
      case "unprepared":
        // Once for all that have failed alike.
        if (server.commands.usable) void server.commands.prepare();
    }
    this.#hold(queue);
  }

  #hold(queue: TargetQueue): void {
    queue.held = true;
    this.#held.add(queue);
  }

  #start(queue: TargetQueue): void {
    if (queue.underWay > 0) return;
    if (queue.pending.size === 0) return this.#close(queue);
    if (!this.#options.servers.serverOf(queue.target)?.commands.usable) return;
    this.#held.delete(queue);
    queue.held = false;
    for (const pending of queue.pending) {
      if (queue.held) return;
      this.#send(queue, pending);
    }
  }

  #retry(): void {
    this.#retrying = undefined;
    this.resume();
  }

  #close(queue: TargetQueue): void {
    this.#held.delete(queue);
    this.#queues.delete(queue.target);
  }

  /** @returns whether this is the moment: not where time was up before. */
  #settled(queue: TargetQueue, pending: Pending): boolean {
    queue.pending.delete(pending);
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
    const queue = this.#queues.get(pending.publication.target);
    this.#unsettled.delete(pending);
    queue?.pending.delete(pending);
    if (queue !== undefined && queue.pending.size === 0 && queue.underWay === 0) this.#close(queue);
    pending.reject(
      pending.underWay || pending.inDoubt ? new InDoubtError(why) : new NotAcceptedError(why),
    );
  }
}
