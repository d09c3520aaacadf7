/** Bans or mutes in Redis: one hash, whom → the record. */
import type { BanRecord, MuteRecord } from "@gru/spear/contract";
import type { RedisCalls } from "./redis_calls.ts";
import type { NewRestriction, Restrictions } from "./store.ts";

export interface RedisRestrictionsOptions {
  readonly calls: RedisCalls;
  /** The hash. */
  readonly key: string;
  /** For messages: `ban`, `mute`. */
  readonly name: string;
  /** Each new one becomes the event `user.banned` of hooks. */
  readonly told: boolean;
  /** How many are brought back in one call. */
  readonly pieceSize: number;
}

export class RedisRestrictions<R extends BanRecord | MuteRecord> implements Restrictions<R> {
  readonly #options: RedisRestrictionsOptions;

  constructor(options: RedisRestrictionsOptions) {
    this.#options = options;
  }

  async set({ kind, id, reason, ms }: NewRestriction<R>): Promise<R> {
    const { calls, key, name, told } = this.#options;
    const args = [whom({ kind, id }), kind, id, reason, ms, told ? 1 : 0];
    return recordOf(await calls.call<string>(`keep a ${name}`, "ban", [key], args));
  }

  async lift(kind: R["kind"], id: string): Promise<R | undefined> {
    const { calls, key, name } = this.#options;
    const args = [whom({ kind, id }), kind, id, "", "", 0];
    const text = await calls.call<string | null>(`lift a ${name}`, "ban", [key], args);
    return text === null ? undefined : recordOf(text);
  }

  async all(): Promise<{ records: R[]; now: number }> {
    const { calls, key, name } = this.#options;
    const [now, found] = await calls.call<[number, string[]]>(`read ${name}s`, "bans", [key], []);
    const records = found.map((text) => recordOf<R>(text));
    return { records: records.sort((a, b) => a.until - b.until), now };
  }

  async restore(records: readonly R[]): Promise<void> {
    const { calls, key, name, pieceSize } = this.#options;
    for (let at = 0; at < records.length; at += pieceSize) {
      const piece = records.slice(at, at + pieceSize);
      const args = piece.flatMap((record) => [whom(record), JSON.stringify(record)]);
      await calls.call(`bring ${name}s back`, "restoreBans", [key], args);
    }
  }
}

/** As the hash has it. */
function whom({ kind, id }: Pick<BanRecord | MuteRecord, "kind" | "id">): string {
  return `${kind} ${id}`;
}

/** One that a stat of before there were versions has set has none. */
function recordOf<R>(text: string): R {
  const record = JSON.parse(text);
  return { version: 0, keptUntil: record.until, ...record };
}
