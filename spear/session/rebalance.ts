/**
 * Gives nodes that have too few clients their share again, for instance after a rolling restart. Each node decides for
 * itself which of its clients it asks to `move`, from the loads that all nodes announce.
 *
 * It follows ticket's placement, so that no ticket sends a client back: a client moves to a node that comes before this
 * one in its order on the ring. Other clients move only if this node has more than ticket would ever give it.
 */
import { pause } from "@gru/shared/pause";
import type { Logger } from "@gru/shared/log";
import type { Ring } from "@gru/ticket/contract";
import type { SpearNode } from "../contract.ts";
import type { Session } from "./session.ts";

type Movable = Pick<Session, "placeKey" | "closed" | "move">;

export interface RebalanceOptions {
  /** This node's name. */
  readonly node: string;
  readonly sessions: ReadonlySet<Movable>;
  /** All nodes that take clients with their loads, this one included, and their ring. Undefined: not known at present. */
  readonly nodes: () =>
    | { readonly all: readonly SpearNode[]; readonly ring: Ring<SpearNode> }
    | undefined;
  /** This node is stopping or drained: it moves its clients in another way. */
  readonly isDraining: () => boolean;
  /** Begin without a command. */
  readonly automatic: boolean;
  /** The most clients that all nodes together ask in a second. */
  readonly perSecond: number;
  readonly log: Logger;
  /** Milliseconds between two steps. Default 1000, as loads are announced. */
  readonly stepMs?: number;
}

export interface RebalanceStatus {
  readonly running: boolean;
  /** Clients asked to move, in this run or the last one. */
  readonly asked: number;
  /** Of these, those that are gone from here. */
  readonly moved: number;
}

/** The loads fit when no node has more than this times its share. */
const fits = 1.05;
/** A run begins by itself only beyond this: so it does not begin again right after its end. */
const beginsBeyond = 1.1;
/** As ticket's balance: a node within so many clients of its share is not crowded. */
const slack = 50;
/** How many steps a difference must last before a run begins by itself. */
const patientSteps = 10;
/** After this the node that a client was sent to has announced it. */
const settledMs = 3000;
/** A client that is still here so long after it was asked does not know `move`. */
const followsWithinMs = 15_000;
/** How long a moving client's token is valid. */
const tokenMs = 30_000;
const maxNodes = 3;

export class Rebalance implements Disposable {
  readonly #options: RebalanceOptions;
  readonly #closing = new AbortController();
  #perSecond: number;
  #running = false;
  /** When each client was asked in this run. One that does not follow is not asked again. */
  #asked = new Map<Movable, number>();
  /** Clients sent to each node that it may not have announced yet. */
  #sent: { readonly to: string; readonly atMs: number }[] = [];
  #unevenSteps = 0;

  constructor(options: RebalanceOptions) {
    this.#options = options;
    this.#perSecond = options.perSecond;
    void this.#run();
  }

  /** Begins, if it has not begun. Always with this rate from now on. */
  begin(perSecond = this.#options.perSecond): RebalanceStatus {
    this.#perSecond = perSecond;
    if (!this.#running && !this.#options.isDraining()) {
      this.#running = true;
      this.#asked = new Map();
    }
    return this.status();
  }

  status(): RebalanceStatus {
    const gone = [...this.#asked.keys()].filter(({ closed }) => closed).length;
    return { running: this.#running, asked: this.#asked.size, moved: gone };
  }

  async #run(): Promise<void> {
    const { stepMs = 1000, log } = this.#options;
    while (!this.#closing.signal.aborted) {
      await pause(stepMs, this.#closing.signal);
      try {
        await this.#step(stepMs);
      } catch (error) {
        log.warn("could not move clients to other nodes, will try again: {error}", { error });
      }
    }
  }

  async #step(stepMs: number): Promise<void> {
    const { automatic, isDraining, log } = this.#options;
    if (isDraining()) {
      this.#running = false;
      return;
    }
    const nodes = this.#options.nodes();
    if (nodes === undefined) return;
    const shares = this.#shares(nodes.all);
    if (!this.#running) {
      if (!automatic) return;
      this.#unevenSteps = shares.own.load > shares.own.share * beginsBeyond + 1 && shares.room > 0
        ? this.#unevenSteps + 1
        : 0;
      if (this.#unevenSteps < patientSteps) return;
      this.#unevenSteps = 0;
      this.begin();
    }
    const rate = this.#rate(shares, stepMs);
    // A fraction of a client is asked now and then: so many nodes together keep to a low rate, too.
    const count = Math.floor(rate) + (Math.random() < rate % 1 ? 1 : 0);
    const chosen = this.#choose(shares, nodes.ring, count);
    const delayMs = stepMs / Math.max(1, chosen.length);
    for (const [i, { session, places }] of chosen.entries()) {
      const [place] = places;
      if (place === undefined) continue;
      this.#asked.set(session, performance.now());
      this.#sent.push({ to: place.name, atMs: performance.now() });
      await session.move(
        { delayMs: Math.round(i * delayMs), name: place.name, addr: place.addr },
        places.slice(0, maxNodes).map(({ name }) => name),
        tokenMs,
      );
    }
    // While clients are on their way, it is not known yet whether more must move.
    if (this.#sent.length > 0 || this.#underWay > 0) return;
    const nobodyFits = count > 0 && chosen.length === 0;
    if (rate > 0 && !nobodyFits) return;
    this.#running = false;
    log.info("rebalanced: {moved} of {asked} clients that were asked have moved", {
      ...this.status(),
    });
  }

  /** Clients that were asked and may still go. */
  get #underWay(): number {
    const since = performance.now() - followsWithinMs;
    let count = 0;
    for (const [session, atMs] of this.#asked) if (!session.closed && atMs > since) count++;
    return count;
  }

  #shares(all: readonly SpearNode[]): Shares {
    const now = performance.now();
    this.#sent = this.#sent.filter(({ atMs }) => atMs > now - settledMs);
    const takers = all.filter(({ weight = 1 }) => weight > 0);
    const weights = takers.reduce((sum, { weight = 1 }) => sum + weight, 0);
    const own = this.#options.sessions.size;
    const total = all.reduce(
      (sum, { name, load = 0 }) => sum + (name === this.#options.node ? own : load),
      0,
    );
    const places = new Map<string, Place>();
    for (const node of all) {
      const { name, weight = 1, capacity = Infinity, load = 0 } = node;
      const isOwn = name === this.#options.node;
      const sent = this.#sent.filter(({ to }) => to === name).length;
      const share = weights === 0 ? 0 : total * weight / weights;
      places.set(name, {
        load: isOwn ? own - this.#underWay : load + sent,
        share,
        most: Math.min(capacity, isOwn ? Infinity : share),
        crowded: Math.max(fits * share, share + slack * weight * takers.length / weights),
      });
    }
    const mine = places.get(this.#options.node) ?? { load: 0, share: 0, most: 0, crowded: 0 };
    const room = [...places].reduce(
      (sum, [name, { load, most }]) =>
        name === this.#options.node ? sum : sum + Math.max(0, Math.floor(most - load)),
      0,
    );
    const surplus = [...places.values()].reduce(
      (sum, { load, share }) => sum + Math.max(0, load - share),
      0,
    );
    return { places, own: mine, room, surplus };
  }

  /** How many clients this node may ask in this step: its part of what all may. 0: the loads fit. */
  #rate({ own, room, surplus }: Shares, stepMs: number): number {
    const excess = own.load - own.share;
    if (own.load <= own.share * fits || excess < 1 || surplus === 0) return 0;
    const part = excess / surplus;
    const rate = this.#perSecond * stepMs / 1000 * part;
    return Math.min(rate, Math.ceil(room * part), Math.floor(excess));
  }

  #choose({ places, own }: Shares, ring: Ring<SpearNode>, count: number) {
    const chosen: { session: Movable; places: readonly SpearNode[] }[] = [];
    if (count === 0) return chosen;
    const taken = new Map<string, number>();
    const picked = new Set<Movable>();
    const hasRoom = ({ name }: SpearNode) => {
      const { load = Infinity, most = 0 } = places.get(name) ?? {};
      return load + (taken.get(name) ?? 0) + 1 <= most;
    };
    for (const isHome of [true, false]) {
      if (!isHome && own.load - chosen.length <= own.crowded) break;
      for (const session of this.#options.sessions) {
        if (chosen.length >= count) break;
        if (session.placeKey === undefined || session.closed || this.#asked.has(session)) continue;
        if (picked.has(session)) continue;
        const order = ring.order(session.placeKey);
        const here = order.findIndex(({ name }) => name === this.#options.node);
        const place = (isHome && here >= 0 ? order.slice(0, here) : order)
          .find((node) => node.name !== this.#options.node && hasRoom(node));
        if (place === undefined) continue;
        taken.set(place.name, (taken.get(place.name) ?? 0) + 1);
        const others = order.filter(({ name }) => name !== place.name);
        picked.add(session);
        chosen.push({ session, places: [place, ...others] });
      }
    }
    return chosen;
  }

  [Symbol.dispose](): void {
    this.#closing.abort();
  }
}

interface Place {
  readonly load: number;
  readonly share: number;
  /** It gets clients up to this many. */
  readonly most: number;
  /** Beyond this, ticket passes it over. */
  readonly crowded: number;
}

interface Shares {
  readonly places: ReadonlyMap<string, Place>;
  readonly own: Place;
  /** How many clients the other nodes can take. */
  readonly room: number;
  /** How many clients all nodes together have beyond their shares. */
  readonly surplus: number;
}
