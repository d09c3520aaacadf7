/**
 * One process of the load generator: reads commands as lines of JSON and answers with lines of JSON. `worker_process.ts`
 * starts it, with its plan as the argument.
 */
import { CrowdWorker } from "./crowd_worker.ts";
import type { LoadCommand, LoadPlan, Progress, SoFar } from "./plan.ts";
import { LatencyCounts } from "./latency.ts";
import { linesOf } from "./lines.ts";
import { RecoveryWorker } from "./recovery_worker.ts";
import { TrackWorker } from "./track_worker.ts";

/** Executes commands until the input ends; a failed command is answered with `{ "error": … }`. */
async function runWorker(
  plan: LoadPlan,
  lines: AsyncIterable<string>,
  answer: (line: string) => void,
): Promise<void> {
  const worker = plan.track
    ? new TrackWorker(plan)
    : plan.recovery
    ? new RecoveryWorker(plan)
    : new CrowdWorker(plan);
  if (plan.progress) report(() => worker.soFar, (progress) => answer(JSON.stringify({ progress })));
  async function obey(command: LoadCommand): Promise<unknown> {
    switch (command.do) {
      case "connect":
        return await worker.connect();
      case "send":
        return await worker.send(command.perSecond, command.seconds);
      case "count":
        return worker instanceof CrowdWorker ? worker.count : null;
      case "result":
        return await worker.result();
    }
  }
  for await (const line of lines) {
    try {
      answer(JSON.stringify({ answer: await obey(JSON.parse(line)) ?? null }));
    } catch (error) {
      answer(JSON.stringify({ error: String(error) }));
    }
  }
}

/** Once a second; the latencies are those of this second. */
function report(soFar: () => SoFar, tell: (progress: Progress) => void): void {
  let counted = new LatencyCounts();
  let before: Progress["latencies"] = [];
  setInterval(() => {
    const { latencies, ...numbers } = soFar();
    // Another one: the worker counts from 0 again.
    if (latencies !== counted) before = [];
    counted = latencies;
    const now = latencies.entries();
    const known = new Map(before);
    before = now;
    tell({
      ...numbers,
      latencies: now.map(([bucket, count]) => [bucket, count - (known.get(bucket) ?? 0)] as const),
    });
  }, 1000);
}

await runWorker(
  JSON.parse(Deno.args[0] ?? ""),
  linesOf(Deno.stdin.readable),
  // deno-lint-ignore no-console
  (line) => console.log(line),
);
// The parent process has ended; open connections would keep this process running.
Deno.exit();
