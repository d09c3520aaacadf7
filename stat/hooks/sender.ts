/** The stat that holds the lease makes the events and sends them; the others wait to take over. */
import type { Logger } from "@gru/shared/log";
import { repeat } from "@gru/shared/repeat";
import type { Post } from "@gru/shared/webhooks/post";
import { Delivery } from "./delivery.ts";
import type { HooksConfig } from "./config.ts";
import { comparePositions, type EventData, type HookEvent } from "./event.ts";
import { beginning, type EndpointState, type Outbox } from "./outbox.ts";

export interface SenderOptions {
  readonly hooks: HooksConfig;
  /** By the endpoints' names. */
  readonly secrets: ReadonlyMap<string, string>;
  readonly outbox: Outbox;
  /** Makes events: see `teller.ts`. */
  readonly teller: {
    step(token: string): Promise<{ readonly holds: boolean; readonly nextMs: number }>;
    saw(events: readonly HookEvent[]): void;
  };
  /** Tells of nodes that came and went. */
  readonly tellNodes: (token: string) => Promise<void>;
  readonly post: Post;
  readonly log: Logger;
  readonly onSent?: (endpoint: string, events: number, isDelivered: boolean) => void;
  /** Told of events that are not kept for the endpoint any longer. */
  readonly onGivenUp?: (endpoint: string, events: number) => void;
}

/** Another stat takes over when the holder has not been heard of for so long. */
const leaseMs = 5000;
const keepEveryMs = 1000;
const trimEveryMs = 5000;
const standbyMs = 1000;
const perRead = 1000;

const fresh: EndpointState = {
  ...{ position: beginning, state: "delivering", delivered: 0, failed: 0, waiting: 0, lagMs: 0 },
};

export class Sender implements AsyncDisposable {
  readonly #options: SenderOptions;
  readonly #deliveries = new Map<string, Delivery>();
  readonly #running: AsyncDisposable;
  #token: string | undefined;
  #leasedAt = -Infinity;
  #keptAt = -Infinity;
  #trimmedAt = -Infinity;
  /** Everything up to here has been seen by the teller, and may be sent. */
  #head = beginning;
  #trouble = "";
  #hasBegun = false;
  /** All that there was when this stat began has been read: what it says of the past is counted already. */
  #hasRead = false;

  constructor(options: SenderOptions) {
    this.#options = options;
    this.#running = repeat(() => this.#turn());
  }

  /** This stat sends. */
  get isHolder(): boolean {
    return this.#token !== undefined;
  }

  /** Age of the oldest event that an endpoint does not have yet. */
  get lagMs(): number {
    return Math.max(0, ...this.states().map(([, { lagMs }]) => lagMs));
  }

  /** Of the endpoints, by name; none on a stat that does not send. */
  states(): (readonly [endpoint: string, state: EndpointState])[] {
    const now = Date.now();
    return [...this.#deliveries].map(([name, delivery]) => [name, delivery.state(now)] as const);
  }

  async #turn(): Promise<number> {
    const { log } = this.#options;
    try {
      const nextMs = await this.#step();
      this.#trouble = "";
      return nextMs;
    } catch (error) {
      const trouble = error instanceof Error ? error.message : String(error);
      if (trouble !== this.#trouble) log.warn("hooks wait: {trouble}", { trouble });
      this.#trouble = trouble;
      // Somebody else may send by now.
      if (performance.now() - this.#leasedAt > leaseMs) await this.#stop();
      return standbyMs;
    }
  }

  async #step(): Promise<number> {
    const { outbox, teller, tellNodes, log } = this.#options;
    const now = performance.now();
    if (this.#token === undefined || now - this.#leasedAt > leaseMs / 4) {
      const token = await outbox.lease(this.#token, leaseMs);
      if (token === undefined) {
        await this.#stop();
        return standbyMs;
      }
      this.#leasedAt = now;
      if (token !== this.#token) {
        await this.#stop();
        this.#token = token;
        log.info("this stat sends the events of hooks");
      }
    }
    const token = this.#token as string;
    const { holds, nextMs } = await teller.step(token);
    if (!holds) return await this.#lost();
    if (!this.#hasBegun) await this.#begin();
    const isMore = await this.#readOn();
    for (const delivery of this.#deliveries.values()) await delivery.fill(this.#head);
    if (now - this.#keptAt > keepEveryMs) {
      this.#keptAt = now;
      await tellNodes(token);
      if (!await this.#keep(token)) return await this.#lost();
      // Behind the states: what an endpoint has is not given up for it.
      if (now - this.#trimmedAt > trimEveryMs) {
        this.#trimmedAt = now;
        if (!await this.#trim(token)) return await this.#lost();
      }
    }
    return isMore ? 0 : nextMs;
  }

  /** The teller sees each event before anybody gets it. */
  async #readOn(): Promise<boolean> {
    const { events, last, removed } = await this.#options.outbox.read(this.#head, perRead);
    for (const delivery of this.#deliveries.values()) delivery.giveUp(removed);
    this.#options.teller.saw(events);
    if (this.#hasRead) this.#countGivenUp(events);
    this.#hasRead ||= events.length < perRead;
    // A server that lost its newest events has fewer now; the teller has added them again.
    if (comparePositions(last, this.#head) > 0) this.#head = last;
    return events.length === perRead;
  }

  #countGivenUp(events: readonly HookEvent[]): void {
    for (const { kind, data } of events) {
      if (kind !== "hooks.gap") continue;
      const { endpoint, count = 0 } = data as EventData<"hooks.gap">;
      if (endpoint !== undefined) this.#options.onGivenUp?.(endpoint, count);
    }
  }

  async #begin(): Promise<void> {
    const { states } = await this.#options.outbox.states();
    for (const { name } of this.#options.hooks.endpoints) {
      this.#open(name, states.get(name) ?? fresh);
    }
    this.#hasBegun = true;
  }

  #open(name: string, state: EndpointState): void {
    const { hooks, secrets, outbox, post, onSent } = this.#options;
    const endpoint = hooks.endpoints.find((one) => one.name === name);
    const secret = secrets.get(name);
    if (endpoint === undefined || secret === undefined) return;
    this.#deliveries.set(
      name,
      new Delivery({
        ...{ endpoint, secret, source: hooks.source, outbox, post, state },
        onSent: (events, isDelivered) => onSent?.(name, events, isDelivered),
      }),
    );
  }

  async #keep(token: string): Promise<boolean> {
    const states = new Map(
      [...this.#deliveries].map(([name, delivery]) => [name, delivery.state(Date.now())]),
    );
    const replays = await this.#options.outbox.keep(token, states);
    if (replays === undefined) return false;
    for (const [name, position] of replays) {
      await this.#deliveries.get(name)?.[Symbol.asyncDispose]();
      this.#options.log.info("sends again to {name}: what comes after {position}", {
        ...{ name, position },
      });
      this.#open(name, { ...states.get(name) ?? fresh, position });
    }
    return true;
  }

  async #trim(token: string): Promise<boolean> {
    const { outbox, hooks: { keepMs, maxBytes, endpoints } } = this.#options;
    const wanted = new Map(endpoints.map(({ name, events, match }) => [name, { events, match }]));
    for (;;) {
      const trimmed = await outbox.trim(token, { keepMs, maxBytes, endpoints: wanted });
      if (trimmed === undefined) return false;
      if (!trimmed.more) return true;
    }
  }

  async #lost(): Promise<number> {
    this.#options.log.info("another stat sends the events of hooks");
    await this.#stop();
    return standbyMs;
  }

  async #stop(): Promise<void> {
    this.#token = undefined;
    this.#hasBegun = false;
    const deliveries = [...this.#deliveries.values()];
    this.#deliveries.clear();
    await Promise.all(deliveries.map((delivery) => delivery[Symbol.asyncDispose]()));
  }

  /** Another stat takes over at once. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running[Symbol.asyncDispose]();
    const token = this.#token;
    try {
      if (token !== undefined) {
        await this.#keep(token);
        await this.#options.outbox.release(token);
      }
    } catch {
      // The lease ends by itself.
    }
    await this.#stop();
  }
}
