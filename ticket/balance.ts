/** Consistent hashing with bounded load: a user's own node, unless it has more than its share or is full. Pure. */
import { Ring, type RingNode } from "./ring.ts";

export interface BalancedNode extends RingNode {
  /** Connections, as the node told last. */
  readonly load?: number;
  /** Connections that it takes; undefined: any number. */
  readonly capacity?: number;
}

export interface BalanceOptions {
  /** A node is above its share when it has more than this times the mean (by weight), e.g. 1.05. */
  readonly maxOverMean: number;
  /** On a clock that never goes back. */
  readonly nowMs: () => number;
}

export interface Placement {
  /** Where the user goes, then those that stand in, the best first. */
  readonly nodes: readonly [BalancedNode, ...BalancedNode[]];
  /** The nodes before the chosen one in the user's order, and why they were passed over. */
  readonly passedOver: readonly { readonly name: string; readonly why: Why }[];
}

/** What the nodes have not told of yet. */
interface Arrivals {
  /** Users when all who have been sent are there. */
  readonly total: number;
  /** The part that stays of those whom a node has told of. */
  readonly staying: number;
}

type Why = "above its share" | "full";

/** So many connections above the mean are no reason to send users away, be it 5 % or not. */
const slack = 50;

/** By then a ticket has been used and the node has told that it has more connections, or it never will. */
const settledMs = 1000;

export class Balancer {
  readonly #options: BalanceOptions;
  #ring = new Ring<BalancedNode>([]);
  #ringOf = "";
  #nodes: readonly BalancedNode[] = [];
  #byName = new Map<string, BalancedNode>();
  #totalWeight = 0;
  #totalLoad = 0;
  /** Users sent to a node of whom it may not have told yet. */
  #sent = new Map<string, number>();
  #sentBefore = new Map<string, number>();
  /** At the last turn but one, and at the last one. */
  #totalBefore: [number, number] = [0, 0];
  #turnedAtMs = -Infinity;

  constructor(options: BalanceOptions) {
    this.#options = options;
  }

  /** Costs next to nothing when it is the same array as before. */
  update(nodes: readonly BalancedNode[]): void {
    if (nodes === this.#nodes) return;
    this.#nodes = nodes;
    const taking = nodes.filter(({ weight = 1 }) => weight > 0);
    this.#totalWeight = sum(taking, ({ weight = 1 }) => weight);
    this.#totalLoad = sum(taking, ({ load = 0 }) => load);
    const ringOf = JSON.stringify(nodes.map(({ name, addr, weight }) => [name, addr, weight]));
    if (ringOf !== this.#ringOf) {
      this.#ring = new Ring(nodes);
      this.#ringOf = ringOf;
    }
    this.#byName = new Map(nodes.map((node) => [node.name, node]));
  }

  /** undefined: nobody takes users, or all who do are full. */
  place(userId: string): Placement | undefined {
    this.#turn();
    const arrivals = this.#arrivals();
    const good: BalancedNode[] = [];
    const crowded: BalancedNode[] = [];
    const full: BalancedNode[] = [];
    const passedOver: { name: string; why: Why }[] = [];
    for (const { name } of this.#ring.order(userId)) {
      const node = this.#byName.get(name);
      if (node === undefined) continue;
      const why = this.#why(node, arrivals);
      (why === undefined ? good : why === "full" ? full : crowded).push(node);
      if (why !== undefined && good.length === 0) passedOver.push({ name, why });
    }
    if (good.length === 0) {
      // More have come in the last second than the nodes have told of.
      const filled = (node: BalancedNode) => this.#has(node, arrivals) / (node.weight ?? 1);
      crowded.sort((a, b) => filled(a) - filled(b));
    }
    const [first, ...others] = [...good, ...crowded];
    if (first === undefined) return undefined;
    this.#sent.set(first.name, (this.#sent.get(first.name) ?? 0) + 1);
    return { nodes: [first, ...others, ...full], passedOver };
  }

  #why(node: BalancedNode, arrivals: Arrivals): Why | undefined {
    const { weight = 1, capacity = Infinity } = node;
    const has = this.#has(node, arrivals);
    if (has >= capacity) return "full";
    const mean = (arrivals.total + 1) * weight / this.#totalWeight;
    const bound = Math.max(this.#options.maxOverMean * mean, mean + slack);
    return has >= Math.floor(bound) ? "above its share" : undefined;
  }

  /**
   * Of those who have been sent many only come again, and are told of still where they were: all beyond the growth that
   * there has just been are taken to leave, from each node as many as it has its share of all.
   */
  #arrivals(): Arrivals {
    const sent = sum(this.#sent.values(), (n) => n) + sum(this.#sentBefore.values(), (n) => n);
    const growth = Math.max(0, this.#totalLoad - this.#totalBefore[0]);
    const leaving = Math.max(0, sent - growth);
    return {
      total: this.#totalLoad + sent - leaving,
      staying: this.#totalLoad === 0 ? 1 : 1 - leaving / this.#totalLoad,
    };
  }

  #has({ name, load = 0 }: BalancedNode, { staying }: Arrivals): number {
    const sent = (this.#sent.get(name) ?? 0) + (this.#sentBefore.get(name) ?? 0);
    return Math.max(load, load * staying + sent);
  }

  #turn(): void {
    const sinceMs = this.#options.nowMs() - this.#turnedAtMs;
    if (sinceMs < settledMs) return;
    this.#sentBefore = sinceMs < 2 * settledMs ? this.#sent : new Map();
    this.#sent = new Map();
    this.#totalBefore = [this.#totalBefore[1], this.#totalLoad];
    this.#turnedAtMs = this.#options.nowMs();
  }
}

function sum<T>(values: Iterable<T>, of: (value: T) => number): number {
  let total = 0;
  for (const value of values) total += of(value);
  return total;
}
