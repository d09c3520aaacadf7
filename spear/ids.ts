/** Where a spear's message ids come from. */
import type { RpcClient } from "@gru/shared/rpc/client";
import { type IdgenContract, maxIdsPerCall, Snowflake } from "@gru/idgen/contract";

export interface IdSource {
  /** A snowflake id as a decimal string; calls are answered in their order. */
  next(): Promise<string>;
  /** Asks the source something that uses no id. */
  prove(options: { readonly signal: AbortSignal }): Promise<unknown>;
}

/** For a node that is alone: made here, without asking anybody. */
export function localIds(): IdSource {
  const snowflake = new Snowflake(0);
  return {
    next: async () => {
      const [id] = snowflake.next(1, Date.now());
      if (id === undefined) throw new Error("the clock is beyond what an id can hold");
      return id;
    },
    prove: () => Promise.resolve(),
  };
}

interface Waiting {
  readonly resolve: (id: string) => void;
  readonly reject: (error: unknown) => void;
}

/** Ids of order `unique` are used at most so long after they were asked for, milliseconds; then newer ones are. */
const keepMs = 500;
/** Fetched ahead, at least and at most. */
const [leastAhead, mostAhead] = [16, 2000];

/**
 * Gathers what is asked for while a call is under way into the next call. Where idgen says that its ids are only unique, some are
 * kept ahead while ids are asked for; in order `strict` an id must be later than all that were given before it was asked for.
 */
export function idgenIds(
  idgen: RpcClient<IdgenContract>,
  nowMs: () => number = () => performance.now(),
): IdSource {
  let waiting: Waiting[] = [];
  let running = false;
  /** Fetched ahead, the next one last. */
  let kept: string[] = [];
  let keptSince = -Infinity;
  let isUnique = false;
  /** Since ids were fetched the last time. */
  let taken = 0;

  async function run(): Promise<void> {
    running = true;
    do {
      const batch = waiting.slice(0, maxIdsPerCall);
      waiting = waiting.slice(maxIdsPerCall);
      await fetch(batch);
      // What has its ids leaves before the next are asked for, and what has come meanwhile is asked for together.
      if (waiting.length > 0) await new Promise((resolve) => setImmediate(resolve));
    } while (waiting.length > 0);
    running = false;
  }

  async function fetch(batch: readonly Waiting[]): Promise<void> {
    const wanted = isUnique ? Math.min(Math.max(4 * taken, leastAhead), mostAhead) : 0;
    const ahead = Math.min(wanted, maxIdsPerCall - batch.length);
    const askedAt = nowMs();
    taken = 0;
    try {
      const { ids, order } = await idgen.any.next({ count: batch.length + ahead });
      isUnique = order === "unique";
      batch.forEach(({ resolve, reject }, i) => {
        const id = ids[i];
        if (id === undefined) {
          reject(new Error(`idgen gave ${ids.length} ids for ${batch.length}`));
        } else resolve(id);
      });
      kept = isUnique ? ids.slice(batch.length).reverse() : [];
      keptSince = askedAt;
      if (nowMs() - askedAt > keepMs) kept = [];
      for (const { resolve } of waiting.splice(0, kept.length)) resolve(kept.pop() ?? "");
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  /** undefined: there is none, or it is too old. */
  function fromKept(): string | undefined {
    const ageMs = nowMs() - keptSince;
    if (ageMs > keepMs) return undefined;
    const id = kept.pop();
    // More before these are used up or too old.
    if (!running && (ageMs > keepMs / 2 || kept.length < taken)) void run();
    return id;
  }

  return {
    next: () => {
      taken++;
      // Nobody passes those who wait.
      const id = kept.length === 0 || waiting.length > 0 ? undefined : fromKept();
      if (id !== undefined) return Promise.resolve(id);
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      waiting.push({ resolve, reject });
      if (!running) void run();
      return promise;
    },
    prove: (options) => idgen.any.getServiceVersion({}, options),
  };
}
