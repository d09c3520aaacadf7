/** `deno task load`: see `--help`. */
import { help, readFlags, type ScenarioName } from "./flags.ts";
import { machineFacts } from "./host.ts";
import { merged } from "./latency.ts";
import type { Progress } from "./plan.ts";
import { type Report, scenarios } from "./scenarios.ts";

async function main(args: string[]): Promise<void> {
  // deno-lint-ignore no-console
  const print = console.log;
  const asked = readFlags(args);
  if (asked.help) {
    const texts = Object.entries(scenarios).map(([name, { text }]) => [name, text]);
    return print(help(Object.fromEntries(texts) as Record<ScenarioName, string>));
  }
  const { connecting, result, failed } = await scenarios[asked.scenario].run(asked, showProgress);
  if (asked.json) {
    const { scenario, track } = asked;
    const options = { scenario, track, ...asked.options };
    print(JSON.stringify({ options, machine: machineFacts(), connecting, result }));
  } else for (const line of linesFor({ connecting, result })) print(line);
  if (failed) Deno.exitCode = 1;
}

function* linesFor({ connecting, result }: Pick<Report, "connecting" | "result">) {
  yield `connected: ${Math.round(connecting.connectionsPerSecond)} clients a second`;
  const { retries, p50Ms, p90Ms, p99Ms, p999Ms, maxMs } = connecting;
  const times = Object.entries({ p50: p50Ms, p90: p90Ms, p99: p99Ms, "p99.9": p999Ms, max: maxMs })
    .map(([name, ms]) => `${name} ${ms.toFixed(1)}`).join(", ");
  yield `each in ms: ${times}; attempts made again: ${retries}`;
  for (const [key, value] of Object.entries(result)) {
    yield `${key.padEnd(34)} ${Number.isInteger(value) ? value : value.toFixed(2)}`;
  }
}

/** One line, on standard error: standard output has the result alone. */
function showProgress(workers: readonly Progress[]): void {
  const sum = (key: "connected" | "sent" | "received") =>
    workers.reduce((all, worker) => all + worker[key], 0);
  const p99Ms = merged(workers.map(({ latencies }) => latencies)).quantileMs(0.99);
  const seconds = (performance.now() / 1000).toFixed(0).padStart(4);
  const p99 = Number.isNaN(p99Ms) ? "-" : `${p99Ms.toFixed(1)} ms`;
  // deno-lint-ignore no-console
  console.error(
    `${seconds} s  connected ${sum("connected")}  sent ${sum("sent")}  delivered ${
      sum("received")
    }  p99 ${p99}`,
  );
}

try {
  await main(Deno.args);
} catch (error) {
  // deno-lint-ignore no-console
  console.error(error instanceof Error ? error.message : String(error));
  Deno.exit(1);
}
