/**
 * Which nodes listen to which targets, kept in Redis: a hash per target, `gru:{<target>}:nodes`, tag of a node → Unix ms
 * until which that holds if it is not renewed. This node's entries, and the other nodes' tags for whoever publishes.
 */
import { NotAcceptedError } from "./broker.ts";
import type { RedisStore } from "./redis_store.ts";
import type { Target } from "./wire.ts";

export interface RocketmqInterestOptions {
  readonly store: RedisStore;
  /** What this node is called at present. */
  readonly tag: () => string;
  /** Entries were gone or of no use, and are there again: messages may have gone past this node. */
  readonly missed: () => void;
  /** From when it is aborted nothing is entered and nothing told. */
  readonly closing: AbortSignal;
}

/** Where a target's entry for this node stands. */
interface Entry {
  readonly tag: string;
  readonly connection: object;
  /** Unix ms */
  readonly renewAt: number;
}

/** Far more than clocks differ. */
const entryMs = 900_000;
const renewMs = 300_000;
const targetsAtOnce = 500;

export class RocketmqInterest {
  readonly #options: RocketmqInterestOptions;
  /** What this node listens to; undefined until it is entered. */
  readonly #entries = new Map<Target, Entry | undefined>();
  /** Tags of nodes that have gone, and until when (Unix ms) entries of theirs may be found. */
  readonly #buried = new Map<string, number>();
  #renewing: Promise<void> | undefined;

  constructor(options: RocketmqInterestOptions) {
    this.#options = options;
  }

  /** How many targets this node listens to. */
  get size(): number {
    return this.#entries.size;
  }

  /** From the call of {@linkcode enter} to that of {@linkcode leave}. */
  has(target: Target): boolean {
    return this.#entries.has(target);
  }

  /** When it resolves, whoever publishes finds this node, and from then on. @throws {NotAcceptedError} */
  async enter(target: Target): Promise<void> {
    this.#entries.set(target, undefined);
    await this.#options.store.persist(target, "commands", () => this.#write(target));
  }

  /** Where Redis does not answer, the entry stays until it expires. */
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
   * Enters this node wherever it listens and is not entered: anew after a reconnect, under a new tag, and from time to
   * time. To be called when any of that may have happened, and several times a second: what fails is tried again then.
   */
  renew(): void {
    this.#renewing ??= this.#renewDue().finally(() => this.#renewing = undefined);
  }

  /** The tags of the other nodes that listen. Rejects when they cannot be found out now. */
  async others(target: Target): Promise<string[]> {
    const { redis } = this.#options.store.linkOf(target) ?? {};
    if (redis === undefined) throw new Error("Redis is out of reach");
    const nodes = await redis.hgetall(nodesKey(target));
    const now = Date.now();
    const tags = [];
    for (const [tag, until] of Object.entries(nodes)) {
      if (tag === this.#options.tag()) continue;
      if (this.#buried.has(tag) || Number(until) < now) this.#erase(target, tag).catch(() => {});
      else tags.push(tag);
    }
    return tags;
  }

  /** These nodes will not come back under these tags: their entries count no more. */
  bury(tags: readonly string[]): void {
    const now = Date.now();
    for (const tag of tags) this.#buried.set(tag, now + entryMs);
    for (const [tag, until] of this.#buried) {
      if (until > now) break;
      this.#buried.delete(tag);
    }
  }

  async #renewDue(): Promise<void> {
    const { closing, missed } = this.#options;
    const now = Date.now();
    const due = [...this.#entries].filter(([target, entry]) =>
      entry !== undefined && !this.#isCurrent(target, entry, now)
    );
    let hadGap = false;
    await inBatches(due, async ([target, entry]) => {
      await this.#write(target);
      if (entry !== undefined && entry.renewAt > now) hadGap = true;
    }).catch(() => {});
    // Not where all was merely renewed: through an entry that was no good nothing has come for a while.
    if (hadGap && !closing.aborted) missed();
  }

  #isCurrent(target: Target, { tag, connection, renewAt }: Entry, now: number): boolean {
    const link = this.#options.store.linkOf(target);
    // Without a connection there is nothing to do now.
    if (link === undefined) return true;
    return tag === this.#options.tag() && connection === link.connection && renewAt > now;
  }

  async #write(target: Target): Promise<void> {
    const { store, tag, closing } = this.#options;
    if (closing.aborted) throw new NotAcceptedError("the broker is closed");
    const link = store.linkOf(target);
    const connection = link?.connection;
    if (link === undefined || connection === undefined) throw new Error("Redis is out of reach");
    const entered = tag();
    const key = nodesKey(target);
    const now = Date.now();
    await Promise.all([
      link.redis.hset(key, entered, now + entryMs),
      link.redis.pexpire(key, entryMs),
    ]);
    if (!this.#entries.has(target)) {
      // Left meanwhile, maybe on an older connection.
      await link.redis.hdel(key, entered);
      return;
    }
    // At different times, so that not all are renewed at once.
    const renewAt = now + renewMs * (0.5 + Math.random() / 2);
    this.#entries.set(target, { tag: entered, connection, renewAt });
  }

  async #erase(target: Target, tag: string): Promise<void> {
    await this.#options.store.linkOf(target)?.redis.hdel(nodesKey(target), tag);
  }
}

function nodesKey(target: Target): string {
  return `gru:{${target}}:nodes`;
}

async function inBatches<T>(
  list: readonly T[],
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < list.length; at += targetsAtOnce) {
    await Promise.all(list.slice(at, at + targetsAtOnce).map(work));
  }
}
