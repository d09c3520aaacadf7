/** Shared by the benchmarks of spears: what a process uses, the highest rate it keeps up, and the usual load. */
import type { LoadOptions, LoadResult } from "./load.ts";

/** Options besides the clients and their targets. */
export const usualLoad = {
  ticket: undefined,
  content: 50,
  workers: 1,
  senders: 4,
  connecting: 100,
  sources: [],
  firstUser: 1_000_000,
} as const satisfies Partial<LoadOptions>;

/** With a higher p99 the rate counts as not kept up. */
export const p99LimitMs = 50;

export interface Usage {
  /** Resident memory, including the program text that processes share. */
  readonly memoryBytes: number;
  /** The same, but memory shared by n processes counts as an n-th. */
  readonly ownMemoryBytes: number;
  /** CPU time of all its threads since its start. */
  readonly cpuSeconds: number;
}

/** Linux only, with its 100 ticks per second. */
export async function usageOf(pid: number): Promise<Usage> {
  const paths = ["status", "smaps_rollup", "stat"].map((name) => `/proc/${pid}/${name}`);
  // Deno shows a process's folder in /proc only to programs with all permissions.
  const { stdout } = await new Deno.Command("cat", { args: paths }).output();
  const text = new TextDecoder().decode(stdout);
  const ticks = text.slice(text.lastIndexOf(") ")).split(" ").map(Number);
  return {
    memoryBytes: Number(/^VmRSS:\s+(\d+)/m.exec(text)?.[1] ?? NaN) * 1024,
    ownMemoryBytes: Number(/^Pss:\s+(\d+)/m.exec(text)?.[1] ?? NaN) * 1024,
    cpuSeconds: ((ticks[12] ?? NaN) + (ticks[13] ?? NaN)) / 100,
  };
}

/** A run of a load, and what was measured during it. */
export interface Run {
  readonly result: LoadResult;
}

/**
 * The run at the highest rate per second that is kept up, found by doubling and then bisecting; undefined: no rate is.
 */
export async function highestHeld<R extends Run>(
  from: number,
  attempt: (perSecond: number) => Promise<R>,
  limitMs = p99LimitMs,
): Promise<R & { readonly perSecond: number } | undefined> {
  let best: R & { readonly perSecond: number } | undefined;
  let bad = Infinity;
  for (let rate = from; bad / (best?.perSecond ?? 0) > 1.1 && rate > 1;) {
    const run = await attempt(rate);
    if (isHeld(run.result, rate, limitMs)) best = { ...run, perSecond: rate };
    else bad = rate;
    const good = best?.perSecond ?? 0;
    rate = bad === Infinity ? rate * 2 : good === 0 ? bad / 2 : Math.sqrt(good * bad);
  }
  return best;
}

function isHeld(
  { p99Ms, received, expected, refused, lost, sentPerSecond }: LoadResult,
  rate: number,
  limitMs: number,
) {
  return p99Ms <= limitMs && received === expected && refused + lost === 0 &&
    sentPerSecond > rate * 0.95;
}

export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? NaN;
}

/** The names in a comma list, all of `known`. @throws {TypeError} for any other name. */
function namedIn<N extends string>(list: string, known: readonly N[], flag: string): N[] {
  const named = list.split(",");
  const other = named.find((name) => !known.some((one) => one === name));
  if (other !== undefined) {
    throw new TypeError(`--${flag}: expected some of ${known.join(",")}, got ${other}`);
  }
  return known.filter((name) => named.includes(name));
}

/**
 * Who takes part: those of the flag `--contestants`, or the usual ones, and Centrifugo where its program is given.
 * @throws {TypeError} for a name that is not known, and for Centrifugo without a program
 */
export function takingPart<N extends string>(
  { contestants, centrifugo }: {
    readonly contestants?: string | undefined;
    readonly centrifugo?: string | undefined;
  },
  usual: readonly N[],
  known: readonly N[],
): N[] {
  const asked = contestants ??
    [...usual, ...(centrifugo === undefined ? [] : ["centrifugo"])].join();
  const taking = namedIn(asked, known, "contestants");
  if (centrifugo === undefined && taking.some((name) => name.startsWith("centrifugo"))) {
    throw new TypeError(`--centrifugo: expected the path of its program for ${asked}, got none`);
  }
  return taking;
}
