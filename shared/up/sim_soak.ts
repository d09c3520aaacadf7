/**
 * The long search: a million histories of a cluster, or an hour, whichever is first. What it finds is made small and printed.
 * `deno task soak:simulation [--histories=1000000] [--seconds=3600] [--from=1000000]`
 */
import { play } from "./sim_play.ts";
import { search, shrink } from "./sim_search.ts";

// deno-lint-ignore no-console
const say = console.log;
const clock = performance.now.bind(performance);
const sayEveryMs = 60_000;

function flag(name: string, otherwise: number): number {
  const found = Deno.args.find((arg) => arg.startsWith(`--${name}=`));
  return Number(found?.slice(name.length + 3) ?? otherwise);
}

const began = clock();
let saidAt = began;
let [histories, delivered, virtualMs] = [0, 0, 0];

function tell(): void {
  const minutes = ((clock() - began) / 60_000).toFixed(1);
  const hours = Math.round(virtualMs / 3_600_000);
  say(
    `${histories} histories in ${minutes} min: ${delivered} deliveries in ${hours} hours of clusters' time`,
  );
}

const { found } = await search({
  from: flag("from", 1_000_000),
  seconds: flag("seconds", 3600),
  histories: flag("histories", 1_000_000),
  onHistory: (_, outcome) => {
    histories++;
    delivered += outcome.delivered;
    virtualMs += outcome.virtualMs;
    if (clock() - saidAt < sayEveryMs) return;
    saidAt = clock();
    tell();
  },
});
tell();
if (found !== undefined) {
  say(`seed ${found.seed}:`, found.violations);
  const small = await shrink(found.history, 120);
  say(JSON.stringify(small), (await play(small)).violations);
  Deno.exit(1);
}
say("no promise was broken");
