/**
 * All programs at work for long, with clients, nodes, sessions and servers that come and go: `deno task soak`. Prints a line for
 * each round (resident megabytes and open files of each process, then counts), at the end what grew, and exits with 1
 * when anything grows, or is lost, doubled, inverted or untold. Then idgen's own soak.
 */
import { parseArgs } from "node:util";
import { tableOf as idgenTable } from "../../idgen/faults.ts";
import { soak as soakIdgen } from "../../idgen/soak.ts";
import { faultsOf, type Round, SoakCluster, type SoakOptions } from "./soak_cluster.ts";
import { judge, lineOf, tableOf, type Verdict } from "./soak_measures.ts";

/** What is young grows: the first rounds are not judged. */
const warmUp = 0.1;

export interface SoakResult {
  readonly verdicts: readonly Verdict[];
  /** What must not be, each with its round. */
  readonly complaints: readonly string[];
}

/** Rounds of `roundMs` for `ms`, or until `stop` is aborted; each of the events once, in a random order, before any comes again. */
export async function soak(
  options: SoakOptions & { readonly ms: number; readonly roundMs: number },
  onRound: (round: Round) => void,
  stop?: AbortSignal,
): Promise<SoakResult> {
  await using cluster = await SoakCluster.start(options);
  const rounds: Round[] = [];
  const endAt = performance.now() + options.ms;
  let ahead: string[] = [];
  while (performance.now() < endAt && !stop?.aborted) {
    if (ahead.length === 0) ahead = cluster.shuffled();
    const round = await cluster.round(ahead.pop() ?? "", options.roundMs);
    rounds.push(round);
    onRound(round);
  }
  const judged = rounds.slice(Math.ceil(rounds.length * warmUp));
  const verdicts = judge(judged.map(({ sample }) => sample));
  const complaints = rounds.flatMap((round, i) =>
    faultsOf(round).map((fault) => `round ${i + 1}, ${round.event}: ${fault}`)
  );
  const growing = verdicts.filter(({ grows }) => grows).map(({ measure }) => `${measure} grows`);
  return { verdicts, complaints: [...complaints, ...growing] };
}

function numberOf(flag: string, text: string): number {
  const value = Number(text);
  if (value >= 0) return value;
  throw new TypeError(`--${flag}: expected a number from 0, got ${text}`);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "60" },
      idgenMinutes: { type: "string", default: "10" },
      seed: { type: "string", default: `${Date.now() % 1_000_000}` },
      clients: { type: "string", default: "60" },
      rate: { type: "string", default: "30" },
    },
  });
  const [minutes, idgenMinutes, seed, clients, messagesPerSecond] = [
    numberOf("minutes", values.minutes),
    numberOf("idgenMinutes", values.idgenMinutes),
    numberOf("seed", values.seed),
    numberOf("clients", values.clients),
    numberOf("rate", values.rate),
  ];
  // deno-lint-ignore no-console
  const print = console.log;
  const stop = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => stop.abort());
  }
  let good = true;
  if (minutes > 0) {
    print(`--seed ${seed}; MB/open files of each process, then counts`);
    const began = performance.now();
    const options = {
      ...{ seed, clients, messagesPerSecond, historyMs: 60_000 },
      ...{ ms: minutes * 60_000, roundMs: 50_000 },
    };
    const { verdicts, complaints } = await soak(options, ({ event, sample, counts }) => {
      const now = ((performance.now() - began) / 60_000).toFixed(1).padStart(5);
      const seen = Object.entries(counts).map(([name, count]) => `${name} ${count}`).join(" ");
      print(`${now} min, ${event}: ${lineOf(sample)} | ${seen}`);
    }, stop.signal);
    print(`\n${tableOf(verdicts)}\n`);
    print(complaints.length === 0 ? "level, and nothing lost" : complaints.join("\n"));
    good = complaints.length === 0;
  }
  if (idgenMinutes > 0 && !stop.signal.aborted) {
    const { rows, isGood } = await soakIdgen(idgenMinutes * 60_000, stop.signal);
    print(idgenTable(rows));
    good &&= isGood;
  }
  Deno.exit(good ? 0 : 1);
}
