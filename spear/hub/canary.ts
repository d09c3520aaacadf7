/**
 * Each node sends a small message to all nodes every few seconds, the way messages of clients go, and notes which ones of
 * the others it gets, how late, and which are lost. So a node that lives and does not hear the others is seen within
 * seconds.
 *
 * One message serves all pairs: it also says what its node has last heard of each other one, and how long ago. The time
 * there and back, without what lies between, needs no common clock.
 */
import type { Logger } from "@gru/shared/log";
import { repeat } from "@gru/shared/repeat";
import { z } from "zod";
import type { Broker } from "../broker/broker.ts";
import type { Frame } from "../packets.ts";
import { groupTarget } from "../wire.ts";
import type { Hub, Member } from "./hub.ts";

/** No client can name it: it is no group id. */
export const canaryTarget = groupTarget("!canary");

const bodySchema = z.object({
  node: z.string(),
  /** New at each start of the node. */
  run: z.string(),
  /** Counts this run's messages, from 1. */
  n: z.number(),
  /** The last ones that its node heard: node, run, n, and the milliseconds since then. */
  heard: z.array(z.tuple([z.string(), z.string(), z.number(), z.number()])),
});

export interface HeardNode {
  readonly node: string;
  /** One way, milliseconds: half of the time there and back. Null: not known yet. */
  readonly latencyMs: number | null;
  /** Since this node, or the other one, started. */
  readonly received: number;
  readonly lost: number;
  /** Milliseconds since the last one came. */
  readonly silentMs: number;
}

interface Peer {
  run: string;
  n: number;
  heardAt: number;
  latencyMs: number | null;
  received: number;
  lost: number;
  isSilent: boolean;
}

export interface CanaryOptions<M extends Member> {
  readonly node: string;
  readonly hub: Pick<Hub<M>, "watch">;
  readonly broker: Pick<Broker, "publish">;
  readonly periodMs: number;
  /** The names of the live nodes: others are forgotten. */
  readonly live: () => ReadonlySet<string>;
  readonly log: Logger;
}

/** After so many periods without a message a node counts as silent. */
const silentPeriods = 3;
/** Messages whose answers may still come. */
const sentKept = 20;
/** One message says of so many nodes what it has heard of them; with more nodes they take turns. */
const heardAtOnce = 50;

export class Canary<M extends Member> implements AsyncDisposable {
  readonly #options: CanaryOptions<M>;
  readonly #run = crypto.randomUUID().slice(0, 8);
  readonly #peers = new Map<string, Peer>();
  readonly #sentAt = new Map<number, number>();
  readonly #sending: AsyncDisposable;
  #watch: Disposable | undefined;
  #n = 0;
  #turn = 0;

  constructor(options: CanaryOptions<M>) {
    this.#options = options;
    this.#sending = repeat(async () => {
      await this.#send();
      this.#lookForSilence();
      return options.periodMs;
    });
  }

  /** What this node hears of each, itself included, by name. */
  heard(): HeardNode[] {
    const now = performance.now();
    return [...this.#peers].map(([node, { latencyMs, received, lost, heardAt }]) => (
      { node, latencyMs, received, lost, silentMs: Math.round(now - heardAt) }
    )).sort((a, b) => a.node < b.node ? -1 : 1);
  }

  get lost(): number {
    return this.#sum(({ lost }) => lost);
  }

  /** How many nodes were heard once, are alive, and are not heard any more. */
  get silent(): number {
    return this.#sum(({ isSilent }) => isSilent ? 1 : 0);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#sending[Symbol.asyncDispose]();
    this.#watch?.[Symbol.dispose]();
  }

  #sum(of: (peer: Peer) => number): number {
    return this.#peers.values().reduce((sum, peer) => sum + of(peer), 0);
  }

  async #send(): Promise<void> {
    const { node, hub, broker, log } = this.#options;
    // One that was not accepted, or may not have been, gives its number to the next.
    const n = this.#n + 1;
    try {
      this.#watch ??= await hub.watch(canaryTarget, (frame) => this.#receive(frame));
      this.#sentAt.set(n, performance.now());
      this.#sentAt.delete(n - sentKept);
      const body: z.output<typeof bodySchema> = { node, run: this.#run, n, heard: this.#lately() };
      const id = `canary-${node}-${this.#run}-${n}`;
      await broker.publish({ target: canaryTarget, id, body: JSON.stringify(body) });
      this.#n = n;
    } catch (error) {
      // The broker reports when it is out of reach.
      log.debug("the canary could not be sent: {error}", { error });
    }
  }

  #lately(): [node: string, run: string, n: number, ms: number][] {
    const now = performance.now();
    const all = [...this.#peers].filter(([node]) => node !== this.#options.node);
    const from = all.length <= heardAtOnce ? 0 : this.#turn % all.length;
    this.#turn = from + heardAtOnce;
    return [...all.slice(from), ...all.slice(0, from)].slice(0, heardAtOnce)
      .map(([node, { run, n, heardAt }]) => [node, run, n, Math.round(10 * (now - heardAt)) / 10]);
  }

  #receive({ text }: Frame): void {
    const parsed = bodySchema.safeParse(JSON.parse(text.slice(text.indexOf("[")))[1]);
    if (!parsed.success) return;
    const { node, run, n, heard } = parsed.data;
    const peer = this.#peers.getOrInsertComputed(node, () => newPeer(run, n));
    const now = performance.now();
    if (peer.run !== run) Object.assign(peer, newPeer(run, n));
    else if (n > peer.n) {
      peer.lost += n - peer.n - 1;
      peer.n = n;
    }
    peer.received++;
    peer.heardAt = now;
    if (peer.isSilent) {
      peer.isSilent = false;
      this.#options.log.info("the canary of {node} is heard again", { node });
    }
    const own = node === this.#options.node;
    const answer = own
      ? { n, heldMs: 0, ways: 1 }
      : heard.flatMap(([name, itsRun, n, heldMs]) =>
        name === this.#options.node && itsRun === this.#run ? [{ n, heldMs, ways: 2 }] : []
      )[0];
    const sentAt = answer && this.#sentAt.get(answer.n);
    if (answer === undefined || sentAt === undefined) return;
    peer.latencyMs = Math.round(10 * (now - sentAt - answer.heldMs) / answer.ways) / 10;
  }

  #lookForSilence(): void {
    const { live, periodMs, log } = this.#options;
    const names = live();
    for (const [node, peer] of this.#peers) {
      if (!names.has(node)) this.#peers.delete(node);
      else if (!peer.isSilent && performance.now() - peer.heardAt > silentPeriods * periodMs) {
        peer.isSilent = true;
        log.warn(
          "the canary of {node} has not come for {seconds} s: messages of its clients may be late here",
          {
            ...{ node, seconds: Math.round((performance.now() - peer.heardAt) / 1000) },
          },
        );
      }
    }
  }
}

function newPeer(run: string, n: number): Peer {
  return { run, n, heardAt: 0, latencyMs: null, received: 0, lost: 0, isSilent: false };
}
