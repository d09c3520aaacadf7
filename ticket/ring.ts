/** The order of nodes for each user: consistent hashing. */
// @ts-types="npm:@types/hashring@3.2.5"
import HashRing from "hashring";

export interface RingNode {
  /** Unique, e.g. `spear1`; what is hashed. */
  readonly name: string;
  /** `http://host:port` as clients reach it. */
  readonly addr: string;
  /** Its share beside the others'; 0: no new users. Default 1. */
  readonly weight?: number;
}

/** More make the shares more even: at 160, the fullest of five nodes is 2.4 % above the mean. */
const virtualNodes = 160;

export class Ring<N extends RingNode = RingNode> {
  readonly #nodes: ReadonlyMap<string, N>;
  readonly #ring: HashRing;

  constructor(nodes: readonly N[]) {
    const taking = nodes.filter(({ weight = 1 }) => weight > 0);
    this.#nodes = new Map(taking.map((node) => [node.name, node]));
    // Said for each node and not as the ring's default: from a default hashring computes a share that rounding makes
    // depend on the number of nodes, and a node that goes would then move users of others.
    this.#ring = new HashRing(
      Object.fromEntries(
        taking.map(({ name, weight = 1 }) => [
          name,
          { vnodes: Math.max(1, Math.round(virtualNodes * weight)) },
        ]),
      ),
    );
  }

  /**
   * All nodes that take users in the ring's order for this user: the first is the user's own, the others are its backups.
   * A node that goes moves only its own users, each to its first backup.
   */
  order(userId: string): N[] {
    if (this.#nodes.size === 0) return [];
    return this.#ring.range(userId, this.#nodes.size)
      .flatMap((name) => this.#nodes.get(name) ?? []);
  }
}
