/** Shared by the broker tests: a node with a hub, and members that record what they get. */
import assert from "node:assert/strict";
import { waitFor } from "@gru/shared/testing/harness";
import type {
  Accepted,
  Broker,
  BrokerSink,
  HistoryLimits,
  HistoryOf,
  Publication,
} from "./broker.ts";
import { Hub, type Member } from "../hub/hub.ts";
import type { Frame } from "../packets.ts";
import type { Position, Target } from "../wire.ts";

export interface BrokerOptions {
  readonly history: HistoryLimits;
  readonly historyOf?: HistoryOf;
  readonly publishMs: number;
}

/** The shared side of one engine: what all its nodes connect to. */
export interface BrokerCluster extends AsyncDisposable {
  /** Opens another node. */
  open(sink: BrokerSink, options: BrokerOptions): Promise<Broker>;
  /** Loses everything that is stored of all targets. */
  loseData?(): Promise<void>;
  /** Bytes received by the node since its start. */
  received?(broker: Broker): number;
}

export const defaults: BrokerOptions = {
  history: { size: 1000, bytes: 16_000_000, ageMs: 600_000 },
  publishMs: 15_000,
};

/** Records the messages that it gets. */
export class Collector implements Member {
  readonly frames: Frame[] = [];
  readonly lost: { readonly epoch: string; readonly from: number; readonly to: number }[] = [];

  send(frame: Frame): void {
    this.frames.push(frame);
  }

  missed(_target: Target, epoch: string, from: number, to: number): void {
    this.lost.push({ epoch, from, to });
  }

  get seqs(): number[] {
    return this.frames.map(({ seq }) => seq);
  }

  get ids(): string[] {
    return this.frames.map(({ text }) => JSON.parse(text.slice(2))[1].id);
  }
}

/** A broker with a hub on top, as in a spear. */
export class TestNode implements AsyncDisposable {
  readonly hub: Hub<Collector>;
  readonly broker: Broker;
  /** What the broker passed to the sink, before the hub restored the order. */
  readonly arrivals: { readonly target: Target; readonly epoch: string; readonly seq: number }[];
  readonly #counter: { disruptions: number };

  private constructor(
    hub: Hub<Collector>,
    broker: Broker,
    arrivals: TestNode["arrivals"],
    counter: { disruptions: number },
  ) {
    this.hub = hub;
    this.broker = broker;
    this.arrivals = arrivals;
    this.#counter = counter;
  }

  static async open(
    open: BrokerCluster["open"],
    options: Partial<BrokerOptions> = {},
  ): Promise<TestNode> {
    const hub = new Hub<Collector>({
      fanOut: (frame, members) => {
        for (const member of members) member.send(frame);
      },
      retryMs: 20,
    });
    const arrivals: TestNode["arrivals"] = [];
    const counter = { disruptions: 0 };
    const broker = await open({
      message: (target, epoch, seq, body) => {
        arrivals.push({ target, epoch, seq });
        hub.message(target, epoch, seq, body);
      },
      disrupted: () => {
        counter.disruptions++;
        hub.disrupted();
      },
      seen: () => hub.seen(),
    }, { ...defaults, ...options });
    hub.connect(broker);
    return new TestNode(hub, broker, arrivals, counter);
  }

  get disruptions(): number {
    return this.#counter.disruptions;
  }

  /** Adds a member of the target and resolves when it is live. */
  async member(target: Target, since?: Position): Promise<Collector> {
    const member = new Collector();
    const join = await this.hub.join(target, member, since);
    for (const frame of join.missed) member.send(frame);
    join.activate();
    return member;
  }

  publish(
    target: Target,
    id: string,
    idempotencyKey?: string,
    more: Partial<Publication> = {},
  ): Promise<Accepted> {
    const body = JSON.stringify({ id });
    return this.broker.publish({
      target,
      id,
      body,
      ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
      ...more,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.hub.close();
    await this.broker[Symbol.asyncDispose]();
  }
}

export function newTarget(): Target {
  return `g:${crypto.randomUUID()}`;
}

/** The numbers from `from` (default 1) to `to`. */
export function range(to: number, from = 1): number[] {
  return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
}

export async function gets(member: Collector, count: number): Promise<void> {
  await waitFor(() => member.frames.length >= count, {
    what: `${count} messages at a member that has some`,
  }).catch((error) => assert.fail(`${error.message}: it has ${member.frames.length}`));
}
