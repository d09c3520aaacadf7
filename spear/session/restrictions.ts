/**
 * What somebody may not do, until when, by the clock of stat's store. What is known here outlives a store that loses its data: of each
 * kind and id the latest version is right, whichever side has it.
 */
import type { FollowedClock } from "@gru/shared/clock";
import type { BanRecord, MuteRecord } from "../contract.ts";

type Known<R> = Omit<R, "version" | "keptUntil"> & { readonly version?: number | undefined };

export class Restrictions<R extends BanRecord | MuteRecord> {
  readonly #clock: FollowedClock;
  /** Under `user 5` or `group 10`, with the moment it was heard of (`performance.now()`). */
  readonly #known = new Map<string, { readonly record: R; readonly at: number }>();

  constructor(clock: FollowedClock) {
    this.#clock = clock;
  }

  /** As a command brought it; one without a version holds until the store's answers say otherwise. */
  add({ version = 0, ...restriction }: Known<R>): void {
    const key = keyOf(restriction as R);
    const known = this.#known.get(key)?.record;
    if (known !== undefined && version > 0 && known.version > version) return;
    const keptUntil = Math.max(restriction.until, known?.keptUntil ?? 0);
    const record = { ...restriction, version, keptUntil } as R;
    this.#known.set(key, { record, at: performance.now() });
  }

  /**
   * Takes in all that the store had when it was asked. What a command has brought since then it may not have had yet.
   * @returns what it has lost: what it does not have, or in an older version. One without a version may have been lifted.
   */
  merge(stored: readonly R[], askedAt: number): R[] {
    const versions = new Map<string, number>();
    for (const record of stored) {
      const key = keyOf(record);
      versions.set(key, record.version);
      const known = this.#known.get(key);
      const isNewer = record.version > (known?.record.version ?? -1);
      const mayBe = record.version === known?.record.version && known.at < askedAt;
      if (isNewer || mayBe) this.#known.set(key, { record, at: askedAt });
    }
    const now = this.#clock.now();
    const lost: R[] = [];
    for (const [key, { record, at }] of this.#known) {
      if (record.keptUntil <= now) this.#known.delete(key);
      else if (at >= askedAt) continue;
      else if (record.version > (versions.get(key) ?? 0)) lost.push(record);
      else if (!versions.has(key)) this.#known.delete(key);
    }
    return lost;
  }

  /** Those that hold now. */
  *holding(): Generator<R> {
    const now = this.#clock.now();
    for (const { record } of this.#known.values()) if (record.until > now) yield record;
  }

  /** Undefined where none holds now. */
  find(kind: R["kind"], id: string): R | undefined {
    if (this.#known.size === 0) return undefined;
    const record = this.#known.get(`${kind} ${id}`)?.record;
    return record !== undefined && record.until > this.#clock.now() ? record : undefined;
  }
}

/** For people: until when, and why. */
export function describe({ until, reason }: Pick<BanRecord, "until" | "reason">): string {
  return `until ${new Date(until).toISOString()}${reason === "" ? "" : `: ${reason}`}`;
}

function keyOf({ kind, id }: Pick<BanRecord | MuteRecord, "kind" | "id">): string {
  return `${kind} ${id}`;
}
