/**
 * Which nodes listen to which targets, stored in Redis: a hash per target, `gru:{<target>}:nodes`, from a node's tag to
 * the time at which the entry expires unless renewed (Unix ms on Redis's clock). Writes this node's entries; publishing
 * reads them, in the same step in which a message is counted.
 */
import { NotAcceptedError } from "../broker/broker.ts";
import enterScript from "./lua/enter.lua" with { type: "text" };
import { nodesKeyOf, type RedisStore } from "../redis/store.ts";
import type { Target } from "../wire.ts";

export interface RocketmqInterestOptions {
  readonly store: RedisStore;
  /** This node's present tag. */
  readonly tag: () => string;
  /** Called after entries were missing or outdated and are there again: this node may have missed messages. */
  readonly missed: () => void;
  /** After it is aborted nothing is written and nothing is reported. */
  readonly closing: AbortSignal;
}

/** Where a target's entry of this node was written. */
interface Entry {
  readonly tag: string;
  readonly connection: object;
  /** On the clock of `performance.now()`. */
  readonly renewAt: number;
}

const entryMs = 900_000;
const renewMs = 300_000;
const targetsAtOnce = 500;

export class RocketmqInterest {
  readonly #options: RocketmqInterestOptions;
  /** The targets that this node listens to; undefined until the entry is written. */
  readonly #entries = new Map<Target, Entry | undefined>();
  /** Tags of nodes that have left, and until when (`performance.now()`) their entries may still be found. */
  readonly #removedTags = new Map<string, number>();
  #renewing: Promise<void> | undefined;

  constructor(options: RocketmqInterestOptions) {
    this.#options = options;
  }

  /** How many targets this node listens to. */
  get size(): number {
    return this.#entries.size;
  }

  /** True from the call of {@linkcode enter} to the call of {@linkcode leave}. */
  has(target: Target): boolean {
    return this.#entries.has(target);
  }

  /** After this resolves, every publishing node finds this node. @throws {NotAcceptedError} */
  async enter(target: Target): Promise<void> {
    this.#entries.set(target, undefined);
    await this.#options.store.persist(target, "commands", () => this.#write(target));
  }

  /** If Redis does not answer, the entry stays until it expires. */
  async leave(target: Target): Promise<void> {
    this.#entries.delete(target);
    await this.#erase(target, this.#options.tag()).catch(() => {});
  }

  /** Rejects when Redis does. */
  async leaveAll(): Promise<void> {
    const targets = [...this.#entries.keys()];
    this.#entries.clear();
    await inBatches(targets, (target) => this.#erase(target, this.#options.tag()));
  }

  /**
   * Writes the missing or outdated entries of this node: after a reconnect, under a new tag, and from time to time.
   * Call it when one of these may have happened, and several times a second, because failed writes are repeated then.
   */
  renew(): void {
    this.#renewing ??= this.#renewDue().finally(() => this.#renewing = undefined);
  }

  /** Which of these listening nodes are others, and still there; entries of those that are gone are erased. */
  others(target: Target, tags: readonly string[]): string[] {
    return tags.filter((tag) => {
      if (tag === this.#options.tag()) return false;
      if (!this.#removedTags.has(tag)) return true;
      this.#erase(target, tag).catch(() => {});
      return false;
    });
  }

  /** These nodes will never use these tags again: their entries no longer count. */
  removeNodes(tags: readonly string[]): void {
    const now = performance.now();
    for (const tag of tags) this.#removedTags.set(tag, now + entryMs);
    for (const [tag, until] of this.#removedTags) {
      if (until > now) break;
      this.#removedTags.delete(tag);
    }
  }

  async #renewDue(): Promise<void> {
    const { closing, missed } = this.#options;
    const now = performance.now();
    const due = [...this.#entries].filter(([target, entry]) =>
      entry !== undefined && !this.#isCurrent(target, entry, now)
    );
    let hadGap = false;
    await inBatches(due, async ([target, entry]) => {
      await this.#write(target);
      if (entry !== undefined && entry.renewAt > now) hadGap = true;
    }).catch(() => {});
    // Not after a mere renewal. Through an outdated entry nothing has arrived for a while.
    if (hadGap && !closing.aborted) missed();
  }

  #isCurrent(target: Target, { tag, connection, renewAt }: Entry, now: number): boolean {
    const link = this.#options.store.linkOf(target);
    // Without a connection nothing can be done now.
    if (link === undefined) return true;
    return tag === this.#options.tag() && connection === link.connection && renewAt > now;
  }

  async #write(target: Target): Promise<void> {
    const { store, tag, closing } = this.#options;
    if (closing.aborted) throw new NotAcceptedError("the broker is closed");
    const link = store.linkOf(target);
    const connection = link?.connection;
    if (link === undefined || connection === undefined) throw new Error("Redis cannot be reached");
    const entered = tag();
    const key = nodesKeyOf(target);
    const now = performance.now();
    await link.redis.eval(enterScript, 1, key, entered, entryMs);
    if (!this.#entries.has(target)) {
      // The target was left in the meantime, maybe on an older connection.
      await link.redis.hdel(key, entered);
      return;
    }
    // At random times, so that not all entries are renewed at once.
    const renewAt = now + renewMs * (0.5 + Math.random() / 2);
    this.#entries.set(target, { tag: entered, connection, renewAt });
  }

  async #erase(target: Target, tag: string): Promise<void> {
    await this.#options.store.linkOf(target)?.redis.hdel(nodesKeyOf(target), tag);
  }
}

async function inBatches<T>(
  list: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < list.length; at += targetsAtOnce) {
    await Promise.all(list.slice(at, at + targetsAtOnce).map(work));
  }
}
