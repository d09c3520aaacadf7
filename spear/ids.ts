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

/** Gathers what is asked for while a call is under way into the next call. */
export function idgenIds(idgen: RpcClient<IdgenContract>): IdSource {
  let waiting: Waiting[] = [];
  let running = false;

  async function run(): Promise<void> {
    running = true;
    while (waiting.length > 0) {
      const batch = waiting.slice(0, maxIdsPerCall);
      waiting = waiting.slice(maxIdsPerCall);
      try {
        const { ids } = await idgen.any.next({ count: batch.length });
        batch.forEach(({ resolve, reject }, i) => {
          const id = ids[i];
          if (id === undefined) {
            reject(new Error(`idgen gave ${ids.length} ids for ${batch.length}`));
          } else resolve(id);
        });
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    running = false;
  }

  return {
    next: () => {
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      waiting.push({ resolve, reject });
      if (!running) void run();
      return promise;
    },
    prove: (options) => idgen.any.getServiceVersion({}, options),
  };
}
