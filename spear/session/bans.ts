/**
 * Who may not come in, and which groups nobody may join, until when; by the clock of stat's store. What is known here outlives
 * a store that loses its data: of a user or group the latest version is right, whichever side has it.
 */
import type { FollowedClock } from "@gru/shared/clock";
import type { Ban, BanRecord } from "../contract.ts";
import { disconnects } from "../disconnects.ts";
import { Kicks } from "./kicks.ts";
import { code, EventError } from "../wire.ts";

export class Bans {
  readonly kicks: Kicks;
  readonly #clock: FollowedClock;
  /** Under `user 5` or `group 10`, with the moment it was heard of (`performance.now()`). */
  readonly #known = new Map<string, { readonly record: BanRecord; readonly at: number }>();

  constructor(clock: FollowedClock) {
    this.#clock = clock;
    this.kicks = new Kicks(clock);
  }

  /** As a command brought it; one without a version holds until the store's answers say otherwise. */
  add({ version = 0, ...ban }: Ban & { readonly version?: number | undefined }): void {
    const key = keyOf(ban);
    const known = this.#known.get(key)?.record;
    if (known !== undefined && version > 0 && known.version > version) return;
    const keptUntil = Math.max(ban.until, known?.keptUntil ?? 0);
    this.#known.set(key, { record: { ...ban, version, keptUntil }, at: performance.now() });
  }

  /**
   * Takes in all that the store had when it was asked. What a command has brought since then it may not have had yet.
   * @returns what it has lost: what it does not have, or in an older version. One without a version may have been lifted.
   */
  merge(stored: readonly BanRecord[], askedAt: number): BanRecord[] {
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
    const lost: BanRecord[] = [];
    for (const [key, { record, at }] of this.#known) {
      if (record.keptUntil <= now) this.#known.delete(key);
      else if (at >= askedAt) continue;
      else if (record.version > (versions.get(key) ?? 0)) lost.push(record);
      else if (!versions.has(key)) this.#known.delete(key);
    }
    return lost;
  }

  /** Those that hold now. */
  *holding(): Generator<BanRecord> {
    const now = this.#clock.now();
    for (const { record } of this.#known.values()) if (record.until > now) yield record;
  }

  /** @throws {EventError} while the user is banned, or when what lets the user in is from before a kick. */
  checkUser(id: string, issuedAt?: number): void {
    this.kicks.check(id, issuedAt);
    const ban = this.#find("user", id);
    if (ban === undefined) return;
    throw new EventError(code.logicError, `auth: user ${id} is banned ${describe(ban)}`, {
      ends: disconnects.refused,
    });
  }

  /** @throws {EventError} while nobody may join the group. */
  checkGroup(id: string): void {
    const ban = this.#find("group", id);
    if (ban === undefined) return;
    throw new EventError(code.logicError, `subscribe: group ${id} is closed ${describe(ban)}`);
  }

  #find(kind: Ban["kind"], id: string): BanRecord | undefined {
    if (this.#known.size === 0) return undefined;
    const ban = this.#known.get(keyOf({ kind, id }))?.record;
    return ban !== undefined && ban.until > this.#clock.now() ? ban : undefined;
  }
}

function keyOf({ kind, id }: Pick<Ban, "kind" | "id">): string {
  return `${kind} ${id}`;
}

function describe({ until, reason }: Pick<Ban, "until" | "reason">): string {
  return `until ${new Date(until).toISOString()}${reason === "" ? "" : `: ${reason}`}`;
}
