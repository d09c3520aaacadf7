/**
 * How much a node takes on that cannot keep up. While what it has accepted is late, it takes as much a second as it gets done, and
 * less by what must be made up for; when it is late no more, it takes a little more each time until it is. It refuses the rest, and
 * says when to try again. What it takes is shared out evenly (max-min fairness): each target may have as much as any other, so
 * those that ask for little get all of it. The price of a message is what it causes, so a large group takes nothing from small ones.
 */
import type { Priority } from "../broker/broker.ts";

/** In deliveries: what it takes to give one message to one more member. */
export const price = {
  /** To be read, published and answered is as much as some deliveries. */
  ofMessage: (members: number): number => 20 + members,
  /** A list of users is one text: most of it is made of what is known. */
  ofReading: (members: number): number => 20 + members / 20,
} as const;

/** How late the node is, in parts of how late it may be: above 1 it is overloaded. */
export type Lateness = number;

/** How often {@linkcode Overload.look} should be called while something is asked for, milliseconds. */
export const periodMs = 100;

/**
 * Deliveries a second that are never refused, some twentieth of a core: a node may be late because of something else, as of many
 * clients that come at once, and then refusing all messages would not help.
 */
const leastRate = 20_000;
/** So many periods in which it is late are an overload, not a long turn of the thread or one message to very many. */
const lasts = 3;
/** So many periods ahead what will be late is known from how fast that grows. */
const foresight = 2;
/** What is done a second is looked at over so long. */
const doneMs = 400;
/** And remembered for once or twice so long. */
const mostMs = 4000;
/** What was asked for is remembered for about so long. */
const memoryMs = 1000;
/** By how much less is taken than can be done, as long as it is too late. */
const [drainGain, mostDrain] = [0.6, 0.4];
/** By how much more is taken each period when nothing is late. */
const upGain = 0.15;
/** The rate is free again when so much more could be done than is asked for. */
const spare = 2;

/** In the same overload, what one target gets of each kind of messages in relation to others. */
const weights: Readonly<Record<Priority, number>> = { low: 0.5, normal: 1, system: 4 };
const firstSlots: Readonly<Record<Priority, number>> = { low: 0, normal: 1024, system: 2048 };
/** Targets are counted in so many places, of each kind: two that share one share what it gets. */
const slots = 1024;

const retryAfter = { leastMs: 500, mostMs: 5000 };

export class Overload {
  readonly #random: () => number;
  /** Deliveries a second; Infinity: nothing is refused. */
  #rate = Infinity;
  /** What one target may take a second. */
  #share = Infinity;
  /** By slot, what is asked for a second. */
  readonly #demands = new Float64Array(3 * slots);
  /** Deliveries a second, a little while ago to now. */
  #done = 0;
  /** The most of that, in this window and in the one before; 0: not known yet. */
  #most = 0;
  #mostBefore = 0;
  #windowLeftMs = mostMs;
  /** The last ones, newest first. */
  #lates: readonly Lateness[] = [0];
  #late: Lateness = 0;

  /** @param random from 0 to 1 */
  constructor(random: () => number = Math.random) {
    this.#random = random;
  }

  /** It may refuse something. */
  get limits(): boolean {
    return this.#rate < Infinity;
  }

  /**
   * @param key whom it is for: what has the same key shares
   * @returns 0: it is to be done. Else it is not; milliseconds until it may be worth to ask again
   */
  take(key: string, cost: number, priority: Priority): number {
    const slot = firstSlots[priority] + hashOf(key) % slots;
    const demand = (this.#demands[slot] ?? 0) + cost * 1000 / memoryMs;
    this.#demands[slot] = demand;
    const share = weights[priority] * this.#share;
    const refused = demand > share && this.#random() * demand > share;
    return refused ? this.#retryAfterMs(demand / share) : 0;
  }

  /**
   * @param late now, however it was measured
   * @param donePerSecond how much of what was taken is done a second; undefined: not known just now
   * @param elapsedMs since the last call
   */
  look(late: Lateness, donePerSecond: number | undefined, elapsedMs: number): void {
    // A thread that does not come to look in time has been late for all that time.
    const lasting = elapsedMs < lasts * periodMs ? Math.min(late, ...this.#lates) : late;
    const soon = lasting + foresight * (lasting - this.#late);
    this.#lates = [late, ...this.#lates].slice(0, lasts - 1);
    this.#late = lasting;
    this.#learn(donePerSecond, elapsedMs);
    const most = Math.max(this.#most, this.#mostBefore);
    if (soon > 1 && most > 0) {
      this.#rate = most * (1 - Math.min((soon - 1) * drainGain, mostDrain));
    } else this.#rate *= 1 + upGain * Math.min(1 - soon, 1);
    this.#rate = Math.max(this.#rate, leastRate);
    this.#shareOut(Math.exp(-elapsedMs / memoryMs));
  }

  /**
   * What can be done is the most that was done lately. What is done just now is less where it takes less, and where it is late for
   * another reason: that must not make it take ever less.
   */
  #learn(perSecond: number | undefined, elapsedMs: number): void {
    if (perSecond !== undefined) {
      const part = 1 - Math.exp(-elapsedMs / doneMs);
      const average = this.#done + (perSecond - this.#done) * part;
      this.#done = this.limits ? average : Math.max(average, perSecond);
    }
    this.#most = Math.max(this.#most, this.#done);
    this.#windowLeftMs -= elapsedMs;
    if (this.#windowLeftMs > 0) return;
    this.#windowLeftMs = mostMs;
    this.#mostBefore = this.#most;
    this.#most = this.#done;
  }

  /** Finds the largest share with which all together get no more than the rate, and forgets a part of what was asked for. */
  #shareOut(kept: number): void {
    let asked = 0;
    for (const [slot, demand] of this.#demands.entries()) {
      // Less than a thousandth of a delivery is nothing.
      asked += this.#demands[slot] = demand < 1e-3 ? 0 : demand * kept;
    }
    if (this.#late <= 1 && this.#rate > spare * asked) this.#rate = Infinity;
    this.#share = asked > this.#rate ? this.#shareOf(this.#rate) : Infinity;
  }

  #shareOf(rate: number): number {
    for (let share = 0;;) {
      // Those that get all they ask for, and the weight of the others.
      let [given, weight] = [0, 0];
      for (const [priority, first] of Object.entries(firstSlots) as [Priority, number][]) {
        for (let slot = first; slot < first + slots; slot++) {
          const demand = this.#demands[slot] ?? 0;
          if (demand <= weights[priority] * share) given += demand;
          else weight += weights[priority];
        }
      }
      const next = (rate - given) / weight;
      if (!(next > share * 1.001)) return share;
      share = next;
    }
  }

  /** Longer where much is refused, and not the same for all. */
  #retryAfterMs(factor: number): number {
    const ms = Math.min(retryAfter.leastMs * factor, retryAfter.mostMs);
    return ms * (0.75 + this.#random() / 2);
  }
}

/** FNV-1a. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}
