/**
 * Looks for a history that breaks a promise, and makes it small: `deno run … shared/up/sim_search.ts [--seconds=10] [--from=1]
 * [--seed=17]`.
 */
import type { TransportKind } from "./sim_link.ts";
import { type Outcome, play } from "./sim_play.ts";
import { draw, type History } from "./sim_steps.ts";

export interface Found {
  readonly seed: string;
  /** Histories played until then. */
  readonly after: number;
  readonly history: History;
  readonly violations: readonly string[];
}

export interface SearchOptions {
  readonly from: number;
  /** Default: no end. */
  readonly seconds?: number;
  readonly histories?: number;
  readonly transport?: TransportKind | undefined;
  readonly onHistory?: (seed: string, outcome: Outcome) => void;
}

const clock = performance.now.bind(performance);

export interface Searched {
  readonly played: number;
  readonly found: Found | undefined;
}

export async function search(options: SearchOptions): Promise<Searched> {
  const end = clock() + (options.seconds ?? Infinity) * 1000;
  let played = 0;
  for (
    let number = options.from;
    clock() < end && played < (options.histories ?? Infinity);
    number++
  ) {
    const seed = String(number);
    const history = draw(seed, options.transport);
    const outcome = await play(history);
    played++;
    options.onHistory?.(seed, outcome);
    if (outcome.violations.length > 0) {
      return { played, found: { seed, after: played, history, violations: outcome.violations } };
    }
  }
  return { played, found: undefined };
}

/** The same kind of violation with fewer steps. */
export async function shrink(history: History, seconds: number): Promise<History> {
  const end = clock() + seconds * 1000;
  const kind = kindOf((await play(history)).violations);
  let { steps } = history;
  for (let size = Math.ceil(steps.length / 2); size >= 1 && clock() < end;) {
    let smaller = false;
    for (let at = 0; at < steps.length && clock() < end;) {
      const rest = [...steps.slice(0, at), ...steps.slice(at + size)];
      const { violations } = await play({ ...history, steps: rest });
      if (violations.length > 0 && kindOf(violations) === kind) {
        steps = rest;
        smaller = true;
      } else {
        at += size;
      }
    }
    if (!smaller || size > steps.length) size = size === 1 ? 0 : Math.floor(size / 2);
  }
  return { ...history, steps };
}

/** Without names and numbers. */
export function kindOf([first = ""]: readonly string[]): string {
  return first.replace(/^\d+ ms: /, "").replaceAll(/[0-9a-f]{8}-[0-9a-f]{3}|\d+/g, "#").replaceAll(
    /\|\.*/g,
    "",
  ).slice(0, 90);
}

if (import.meta.main) {
  const word = (name: string) =>
    Deno.args.find((arg) => arg.startsWith(`--${name}=`))?.split("=")[1];
  const [seed, transport] = [word("seed"), word("transport") as TransportKind | undefined];
  const flag = (name: string, otherwise: number) => Number(word(name) ?? otherwise);
  // deno-lint-ignore no-console
  const say = console.log;
  if (Deno.args.includes("--json")) {
    const from = flag("from", 1);
    const sign = new TextEncoder().encode(".");
    const onHistory = () => void Deno.stderr.writeSync(sign);
    const histories = flag("histories", 1000);
    say(JSON.stringify(await search({ from, histories, transport, onHistory })));
    Deno.exit();
  } else if (seed !== undefined) {
    const history = draw(seed, transport);
    say(await play(history));
    const small = await shrink(history, flag("seconds", 20));
    const trace: string[] = [];
    const { violations } = await play(small, trace);
    say(trace.join("\n"));
    say(JSON.stringify(small), violations);
  } else {
    const began = clock();
    let [turns, delivered, accepted, virtualMs] = [0, 0, 0, 0];
    const kinds = new Map<string, { count: number; seed: string }>();
    let from = flag("from", 1);
    let played = 0;
    const seconds = flag("seconds", 10);
    while (clock() - began < seconds * 1000) {
      const left = seconds - (clock() - began) / 1000;
      const result = await search({
        transport,
        from,
        seconds: left,
        onHistory: (_, outcome) => {
          turns += outcome.turns;
          delivered += outcome.delivered;
          accepted += outcome.accepted;
          virtualMs += outcome.virtualMs;
        },
      });
      played += result.played;
      from += result.played;
      if (result.found === undefined) break;
      const kind = kindOf(result.found.violations);
      const known = kinds.getOrInsertComputed(
        kind,
        () => ({ count: 0, seed: result.found?.seed ?? "" }),
      );
      known.count++;
    }
    for (const [kind, { count, seed }] of [...kinds].sort((a, b) => b[1].count - a[1].count)) {
      say(`${count} × (first: ${seed}) ${kind}`);
    }
    const s = (clock() - began) / 1000;
    say(
      `${played} histories in ${s.toFixed(1)} s (${(played / s).toFixed(1)}/s), ${
        Math.round(turns / played)
      } turns, ${Math.round(delivered / played)} delivered, ${
        Math.round(accepted / played)
      } accepted, ${Math.round(virtualMs / played)} ms each`,
    );
  }
}
