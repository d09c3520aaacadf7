/** Bans or mutes in this process. */
import type { BanRecord, MuteRecord } from "@gru/spear/contract";
import type { NewRestriction, Restrictions } from "./store.ts";

export class MemoryRestrictions<R extends BanRecord | MuteRecord> implements Restrictions<R> {
  readonly #records = new Map<string, R>();
  readonly #onSet: (record: R) => void;

  constructor(onSet: (record: R) => void = () => {}) {
    this.#onSet = onSet;
  }

  async set({ kind, id, reason, ms }: NewRestriction<R>): Promise<R> {
    const now = Date.now();
    const known = this.#records.get(keyOf({ kind, id }));
    const until = now + ms;
    const record = {
      ...{ kind, id, reason, until },
      version: Math.max(now, (known?.version ?? 0) + 1),
      keptUntil: Math.max(until, known?.keptUntil ?? 0),
    } as R;
    this.#records.set(keyOf(record), record);
    this.#onSet(record);
    return record;
  }

  async lift(kind: R["kind"], id: string): Promise<R | undefined> {
    const now = Date.now();
    const known = this.#records.get(keyOf({ kind, id }));
    if (known === undefined || known.until <= now) return undefined;
    const lifted = { ...known, until: 0, version: Math.max(now, known.version + 1) };
    this.#records.set(keyOf(lifted), lifted);
    return lifted;
  }

  async all(): Promise<{ records: R[]; now: number }> {
    const now = Date.now();
    for (const [key, { keptUntil }] of this.#records) {
      if (keptUntil <= now) this.#records.delete(key);
    }
    return { records: [...this.#records.values()].sort((a, b) => a.until - b.until), now };
  }

  async restore(records: readonly R[]): Promise<void> {
    const now = Date.now();
    for (const record of records) {
      if (record.keptUntil <= now) continue;
      const known = this.#records.get(keyOf(record));
      const latest = known !== undefined && known.version >= record.version ? known : record;
      const keptUntil = Math.max(record.keptUntil, known?.keptUntil ?? 0);
      this.#records.set(keyOf(record), { ...latest, keptUntil });
    }
  }
}

function keyOf({ kind, id }: Pick<BanRecord | MuteRecord, "kind" | "id">): string {
  return `${kind} ${id}`;
}
