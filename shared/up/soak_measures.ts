/** What a soak measures of each program and of the whole, and whether it grows. */
import { ask } from "@gru/shared/testing/harness";
import type { RedisServer } from "@gru/shared/testing/redis";
import type { ZookeeperServer } from "@gru/shared/testing/zookeeper";
import { median, usageOf } from "../../spear/load/measures.ts";

/** What one minute showed, by the name of the measure. */
export type Sample = ReadonlyMap<string, number>;

/** A kind of measure, and by how much it may differ over a run without being said to grow. */
interface Kind {
  readonly unit: string;
  /** @param level what it was in the first quarter */
  readonly bound: (level: number) => number;
}

/**
 * The name of a measure begins with the kind, and the program follows if it is one's: `memory spear1`, `znodes`. What stands in
 * brackets is not judged.
 */
const kinds: Readonly<Record<string, Kind>> = {
  // V8 lets garbage be for half an hour when there is memory enough, and on a busy machine more of it: up to 80 MB were seen that a
  // collection took away again.
  memory: { unit: "MB", bound: (level) => 64 + 0.25 * level },
  files: { unit: "", bound: () => 8 },
  znodes: { unit: "", bound: () => 1 },
  watches: { unit: "", bound: () => 1 },
  sessions: { unit: "", bound: () => 1 },
  keys: { unit: "", bound: (level) => 5 + 0.05 * level },
  // Keys that never expire.
  lasting: { unit: "", bound: () => 5 },
  connections: { unit: "", bound: () => 2 },
  data: { unit: "MB", bound: (level) => 1 + 0.1 * level },
};

export interface Measured {
  readonly name: string;
  readonly pid: number | undefined;
  /** Its memory is judged: it runs from the beginning to the end, and is a program of ours. */
  readonly lasts: boolean;
  /** Clients are now here and now there: with all that share them it has as many files in each round. */
  readonly sharesClients: boolean;
}

/** Resident memory and open files of each process; nodes, watches and connections of ZooKeeper; keys, clients and bytes of Redis. */
export async function takeSample(
  processes: readonly Measured[],
  zookeeper: ZookeeperServer,
  redis: RedisServer,
): Promise<Sample> {
  const [found, nodes, info] = await Promise.all([
    Promise.all(
      processes.map(async (process) => {
        const { pid = 0 } = process;
        const [{ memoryBytes }, files] = await Promise.all([usageOf(pid), filesOf(pid)]);
        return { ...process, memoryBytes, files };
      }),
    ),
    zookeeper.counts(),
    ask(redis.port, "INFO\r\n"),
  ]);
  const [, keys, expiring] = (/^db0:keys=(\d+),expires=(\d+)/m.exec(info ?? "") ?? []).map(Number);
  const count = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, "m").exec(info ?? "")?.[1]);
  return new Map<string, number>([
    ...found.flatMap(({ name, lasts, sharesClients, memoryBytes, files }) => [
      [lasts ? `memory ${name}` : `(memory) ${name}`, memoryBytes / 1e6] as const,
      [sharesClients ? `(files) ${name}` : `files ${name}`, files] as const,
    ]),
    [
      "files",
      found.reduce((sum, { sharesClients, files }) => sharesClients ? sum + files : sum, 0),
    ],
    ["znodes", nodes.all],
    ["watches", nodes.watches],
    ["sessions", nodes.connections],
    ["keys", keys ?? NaN],
    ["lasting", (keys ?? NaN) - (expiring ?? NaN)],
    // Without the one that asks.
    ["connections", count("connected_clients") - 1],
    ["data", count("used_memory") / 1e6],
  ]);
}

async function filesOf(pid: number): Promise<number> {
  // Deno shows a process's folder in /proc only to who may do everything.
  const { stdout } = await new Deno.Command("ls", { args: [`/proc/${pid}/fd`] }).output();
  return new TextDecoder().decode(stdout).trim().split("\n").length;
}

export interface Verdict {
  readonly measure: string;
  readonly unit: string;
  /** Medians of the quarters. */
  readonly first: number;
  readonly last: number;
  /** By how much it rose over the run, by the median of all slopes between two samples (Theil and Sen). */
  readonly rise: number;
  /** What it may rise; undefined: it is not judged. */
  readonly bound: number | undefined;
  readonly grows: boolean;
}

/**
 * A measure grows when both its slope and the difference of its quarters say so: one high sample, or a step down,
 * is no growth.
 */
export function judge(samples: readonly Sample[]): Verdict[] {
  const names = [...new Set(samples.flatMap((sample) => [...sample.keys()]))];
  return names.map((measure) => {
    const values = samples.map((sample) => sample.get(measure) ?? NaN);
    const quarter = Math.max(1, values.length >> 2);
    const [first, last] = [median(values.slice(0, quarter)), median(values.slice(-quarter))];
    const rise = slopeOf(values) * (values.length - 1);
    const kind = kinds[measure.split(" ")[0] ?? ""];
    const bound = kind?.bound(first);
    const grows = bound !== undefined && !(rise <= bound || last - first <= bound);
    const unit = kinds[/\w+/.exec(measure)?.[0] ?? ""]?.unit ?? "";
    return { measure, unit, first, last, rise, bound, grows };
  });
}

/** By sample. */
function slopeOf(values: readonly number[]): number {
  const slopes: number[] = [];
  for (const [j, later] of values.entries()) {
    for (let i = 0; i < j; i++) slopes.push((later - (values[i] ?? NaN)) / (j - i));
  }
  return slopes.length === 0 ? 0 : median(slopes);
}

/** `spear1 112/48`: megabytes and open files of each process, then the rest. */
export function lineOf(sample: Sample): string {
  const [processes, rest]: [string[], string[]] = [[], []];
  for (const [measure, value] of sample) {
    const [kind = "", program] = measure.split(" ");
    if (program === undefined) rest.push(`${kind} ${round(value)}`);
    else if (kind.includes("memory")) {
      const files = sample.get(`files ${program}`) ?? sample.get(`(files) ${program}`);
      processes.push(`${program} ${Math.round(value)}/${files}`);
    }
  }
  return `${processes.join(" ")} | ${rest.join(" ")}`;
}

export function tableOf(verdicts: readonly Verdict[]): string {
  const rows = [["measure", "first quarter", "last quarter", "rise", "bound", ""]];
  for (const { measure, unit, first, last, rise, bound, grows } of verdicts) {
    const numbers = [first, last, rise].map(round);
    const end = bound === undefined
      ? ["", "not judged"]
      : [round(bound), grows ? "GROWS" : "level"];
    rows.push([unit === "" ? measure : `${measure}, ${unit}`, ...numbers, ...end]);
  }
  const widths = rows[0]?.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  return rows.map((row) =>
    row.map((cell, i) => i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))
      .join("  ").trimEnd()
  ).join("\n");
}

function round(value: number): string {
  return Number.isInteger(value) ? `${value}` : value.toFixed(1);
}
