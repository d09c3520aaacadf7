/**
 * Consistent hashing with bounded load: a user is sent to its own node, unless that node has more than its share or is
 * full. Pure.
 */
import { Ring, type RingNode } from "./ring.ts";

export interface BalancedNode extends RingNode {
  /** Connections, as the node last reported. */
  readonly load?: number;
  /** The most connections that the node accepts; undefined: no limit. */
  readonly capacity?: number;
}

export interface BalanceOptions {
  /** A node is above its share when it has more than this times the mean (by weight), e.g. 1.05. */
  readonly maxOverMean: number;
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs: () => number;
}

export interface Placement {
  /** The node for the user, then the backups, the best first. */
  readonly nodes: readonly [BalancedNode, ...BalancedNode[]];
  /** The nodes before the chosen one in the user's order, and why they were passed over. */
  readonly passedOver: readonly { readonly name: string; readonly why: PassedOver }[];
}

/** What the nodes have not reported yet. */
interface Arrivals {
  /** The number of users when all that were sent have arrived. */
  readonly total: number;
  /** The fraction of a node's reported users that stay there. */
  readonly staying: number;
}

export type PassedOver = "above its share" | "full";

/**
 * A node with fewer than this many connections above the mean is never passed over. For a node of mean weight; scaled
 * by the weight for the others: 50 more users are many for a node that should have five.
 */
const slack = 50;

/** After this time the user of a ticket has connected and the node has reported it, or the user never connects. */
const settledMs = 1000;

/** A node and the users sent to it. */
interface Place extends RingNode {
  node: BalancedNode;
  /** Users that the node may not have reported yet: in the present period, and in the one before. */
  sent: number;
  sentBefore: number;
}

export class Balancer {
  readonly #options: BalanceOptions;
  #ring = new Ring<Place>([]);
  #ringOf = "";
  #nodes: readonly BalancedNode[] = [];
  #places: readonly Place[] = [];
  #totalWeight = 0;
  #meanWeight = 0;
  #totalLoad = 0;
  /** True when the nodes report their loads. A list without loads does not show which users came or left. */
  #loadsReported = false;
  #totalSent = 0;
  /** The total at the start of the previous period and of the present one. */
  #totalBefore: [number, number] = [0, 0];
  #turnedAtMs = -Infinity;

  constructor(options: BalanceOptions) {
    this.#options = options;
  }

  /** Almost free when it is the same array as before. */
  update(nodes: readonly BalancedNode[]): void {
    if (nodes === this.#nodes) return;
    this.#nodes = nodes;
    const taking = nodes.filter(({ weight = 1 }) => weight > 0);
    this.#totalWeight = sum(taking, ({ weight = 1 }) => weight);
    this.#meanWeight = this.#totalWeight / taking.length;
    this.#totalLoad = sum(taking, ({ load = 0 }) => load);
    this.#loadsReported = taking.some(({ load }) => load !== undefined);
    const known = new Map(this.#places.map((place) => [place.name, place]));
    const ringOf = JSON.stringify(nodes.map(({ name, addr, weight }) => [name, addr, weight]));
    if (ringOf !== this.#ringOf) {
      this.#places = nodes.map((node) => {
        const { sent = 0, sentBefore = 0 } = known.get(node.name) ?? {};
        return { ...node, node, sent, sentBefore };
      });
      this.#ring = new Ring(this.#places, this.#ring);
      this.#ringOf = ringOf;
      this.#totalSent = sum(this.#places, ({ sent, sentBefore }) => sent + sentBefore);
      return;
    }
    for (const [i, node] of nodes.entries()) {
      const place = this.#places[i];
      if (place !== undefined) place.node = node;
    }
  }

  /**
   * undefined: no node accepts users, or all nodes are full. The backups are computed when they are read.
   * @param backups how many backups are needed
   */
  place(userId: string, backups = Infinity): Placement | undefined {
    this.#turn();
    const arrivals = this.#arrivals();
    const walk = this.#ring.walk(userId);
    const [good, crowded, full]: [Place[], Place[], Place[]] = [[], [], []];
    const passedOver: { name: string; why: PassedOver }[] = [];
    /** Walks the ring until there are enough usable nodes, or the ring ends. */
    const look = (enough: number) => {
      while (good.length < enough) {
        const { value: place } = walk.next();
        if (place === undefined) return;
        const why = this.#why(place, arrivals);
        (why === undefined ? good : why === "full" ? full : crowded).push(place);
        if (why !== undefined && good.length === 0) passedOver.push({ name: place.name, why });
      }
    };
    look(1);
    if (good.length === 0) {
      // In the last second more users have arrived than the nodes have reported.
      const filled = (place: Place) => has(place, arrivals) / (place.node.weight ?? 1);
      crowded.sort((a, b) => filled(a) - filled(b));
    }
    const first = good[0] ?? crowded[0];
    if (first === undefined) return undefined;
    first.sent++;
    this.#totalSent++;
    let nodes: Placement["nodes"] | undefined;
    return {
      passedOver,
      get nodes() {
        if (nodes !== undefined) return nodes;
        look(1 + backups);
        const [, ...others] = [...good, ...crowded, ...full].slice(0, 1 + backups);
        return nodes = [first.node, ...others.map(({ node }) => node)];
      },
    };
  }

  #why(place: Place, arrivals: Arrivals): PassedOver | undefined {
    const { weight = 1, capacity = Infinity } = place.node;
    const users = has(place, arrivals);
    if (users >= capacity) return "full";
    const mean = (arrivals.total + 1) * weight / this.#totalWeight;
    const bound = Math.max(
      this.#options.maxOverMean * mean,
      mean + slack * weight / this.#meanWeight,
    );
    return users >= Math.floor(bound) ? "above its share" : undefined;
  }

  /**
   * Many users that were sent only reconnect, and their old node still reports them. So all arrivals beyond the growth
   * just seen are taken as reconnects, and are subtracted from each node in proportion to its users.
   */
  #arrivals(): Arrivals {
    const sent = this.#totalSent;
    const growth = Math.max(0, this.#totalLoad - this.#totalBefore[0]);
    const leaving = this.#loadsReported ? Math.max(0, sent - growth) : 0;
    return {
      total: this.#totalLoad + sent - leaving,
      staying: this.#totalLoad === 0 ? 1 : 1 - leaving / this.#totalLoad,
    };
  }

  #turn(): void {
    const sinceMs = this.#options.nowMs() - this.#turnedAtMs;
    if (sinceMs < settledMs) return;
    for (const place of this.#places) {
      place.sentBefore = sinceMs < 2 * settledMs ? place.sent : 0;
      place.sent = 0;
    }
    this.#totalSent = sum(this.#places, ({ sentBefore }) => sentBefore);
    this.#totalBefore = [this.#totalBefore[1], this.#totalLoad];
    this.#turnedAtMs = this.#options.nowMs();
  }
}

function has({ node: { load = 0 }, sent, sentBefore }: Place, { staying }: Arrivals): number {
  return Math.max(load, load * staying + sent + sentBefore);
}

function sum<T>(values: Iterable<T>, of: (value: T) => number): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}
