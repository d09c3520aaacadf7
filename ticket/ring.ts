/** The order of nodes for each user: consistent hashing by weight. */
// @ts-types="npm:@types/hashring@3.2.5"
import HashRing from "hashring";

export interface RingNode {
  /** Unique, e.g. `spear1`; what is hashed. */
  readonly name: string;
  /** `http://host:port`, the address for clients. */
  readonly addr: string;
  /** Its share relative to the other nodes'; 0: no new users. Default 1. */
  readonly weight?: number;
}

/** For a node of weight 1. hashring makes four points for each. More points make the shares more even. */
const virtualNodes = 160;

/**
 * The minimum for a lighter node: with fewer its share would be random. Its points then accept only a fraction of the
 * users that reach them, so that the share matches the weight.
 */
const fewestVirtualNodes = 40;

/**
 * The maximum of the whole ring. When the weights ask for more, all nodes get half as many points, or a quarter, and so
 * on.
 */
const maxPoints = 2 ** 20;

/** Methods of hashring that its types do not declare. */
interface Hashing {
  hashValue(key: string): number;
  points(names: string[]): Record<string, number[]>;
}

const hashing = new HashRing([]) as unknown as Hashing;

/** One node's part of the ring. */
interface Part {
  /** Its points on the ring, ascending, 32 bits each. */
  readonly points: Uint32Array;
  /** Each point accepts this many of 2^32 users; the others continue to the next point. */
  readonly takes: number;
}

/**
 * A node's points depend on its own name and weight only. So when a node joins, leaves or changes its weight, only
 * users that it wins or loses move.
 */
export class Ring<N extends RingNode = RingNode> {
  /** Sorted by name, so that the order given does not matter when two nodes share a point. */
  readonly #nodes: readonly N[];
  readonly #parts: readonly Part[];
  readonly #points: Uint32Array;
  /** For each point, the index of its node. */
  readonly #owners: Uint16Array;

  /** @param before a ring of about the same nodes; their points are reused */
  constructor(nodes: readonly N[], before?: Ring<N>) {
    this.#nodes = nodes.filter(({ weight = 1 }) => weight > 0)
      .toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
    const known = new Map(before === undefined ? [] : before.#named());
    const scale = scaleFor(this.#nodes);
    this.#parts = this.#nodes.map(({ name, weight = 1 }) =>
      partOf(name, weight * scale, known.get(name)?.points)
    );
    const keys = new Float64Array(this.#parts.reduce((sum, { points }) => sum + points.length, 0));
    let end = 0;
    for (const [owner, { points }] of this.#parts.entries()) {
      for (const point of points) keys[end++] = point * 0x10000 + owner;
    }
    keys.sort();
    this.#points = Uint32Array.from(keys, (key) => Math.floor(key / 0x10000));
    this.#owners = Uint16Array.from(keys, (key) => key % 0x10000);
  }

  /**
   * All nodes that accept users, in the ring's order for this user: the first is the user's own node, the others are
   * its backups. When a node leaves, only its own users move, each to its first backup. Computed only as far as it is
   * read.
   */
  *walk(userId: string): Generator<N, void> {
    const hash = hashing.hashValue(userId);
    const [points, owners, parts] = [this.#points, this.#owners, this.#parts];
    const seen = new Uint8Array(parts.length);
    let at = firstFrom(points, hash);
    // Most nodes are found near the start. For the last ones, searching each node's own points is faster.
    const steps = Math.min(points.length, 2 * parts.length);
    let left = parts.length;
    for (let step = 0; step < steps && left > 0; step++, at++) {
      if (at === points.length) at = 0;
      const owner = owners[at] ?? 0;
      if (seen[owner] === 1 || !takes(parts[owner] as Part, points[at] ?? 0, hash)) continue;
      seen[owner] = 1;
      left--;
      yield this.#nodes[owner] as N;
    }
    const rest = new Float64Array(parts.length);
    let end = 0;
    for (const [owner, part] of parts.entries()) {
      if (seen[owner] === 0) rest[end++] = distanceTo(part, hash) * 0x10000 + owner;
    }
    for (const key of rest.subarray(0, end).sort()) yield this.#nodes[key % 0x10000] as N;
  }

  #named(): (readonly [string, Part | undefined])[] {
    return this.#nodes.map(({ name }, i) => [name, this.#parts[i]] as const);
  }

  /** All nodes of {@linkcode walk}. */
  order(userId: string): N[] {
    return [...this.walk(userId)];
  }
}

/** 1, or a power of 2 below it. Coarse on purpose, because all users move when it changes. */
function scaleFor(nodes: readonly RingNode[]): number {
  const total = nodes.reduce((sum, { weight = 1 }) => sum + weight, 0);
  const wanted = total * virtualNodes * 4;
  return Math.min(1, 2 ** Math.floor(Math.log2(maxPoints / wanted)));
}

function partOf(name: string, weight: number, known: Uint32Array | undefined): Part {
  const count = Math.max(fewestVirtualNodes, Math.round(virtualNodes * weight));
  const share = Math.min(1, virtualNodes * weight / fewestVirtualNodes);
  const points = known?.length === 4 * count ? known : pointsOf(name, count);
  return { points, takes: share * 2 ** 32 };
}

function pointsOf(name: string, vnodes: number): Uint32Array {
  // A ring of this node alone: in a ring of several nodes, the points that hashring makes depend on the number of
  // nodes.
  const ring = new HashRing({ [name]: { vnodes } }) as unknown as Hashing;
  return Uint32Array.from(ring.points([name])[name] ?? []);
}

/** The index of the first point at or after the hash; the number of points when there is none. */
function firstFrom(points: Uint32Array, hash: number): number {
  let [low, high] = [0, points.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((points[middle] ?? 0) < hash) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Always the same for a user and a point; random over users and points. */
function takes(part: Part, point: number, hash: number): boolean {
  if (part.takes >= 2 ** 32) return true;
  let mixed = Math.imul(hash, 0x9e3779b1) ^ point;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return ((mixed ^ (mixed >>> 16)) >>> 0) < part.takes;
}

/**
 * The distance to the node's first point that accepts the user. If none does, the node comes after all nodes that have
 * one.
 */
function distanceTo(part: Part, hash: number): number {
  const { points } = part;
  const first = firstFrom(points, hash);
  for (let i = 0; i < points.length; i++) {
    const point = points[(first + i) % points.length] ?? 0;
    if (takes(part, point, hash)) return (point - hash) >>> 0;
  }
  return 2 ** 32 + (((points[first % points.length] ?? 0) - hash) >>> 0);
}
