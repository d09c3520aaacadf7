/**
 * Load for spears, from several processes: connects clients, sends to their groups, and reports what arrived and how
 * late.
 */
import { parseArgs } from "node:util";
import { LatencyCounts } from "./latency.ts";
import type { LoadCommand, LoadPlan, WorkerConnected, WorkerCount, WorkerResult } from "./plan.ts";
import { runWorker } from "./worker.ts";
import { type Counts, faultsOf } from "./ledger.ts";

export interface LoadOptions extends Omit<LoadPlan, "worker"> {
  /** Run the workers on this core. Linux, where `taskset` is installed. */
  readonly core?: number | undefined;
}

export interface LoadConnected {
  readonly load: Load;
  readonly connectionsPerSecond: number;
  /** Failed attempts that were repeated, see {@linkcode LoadPlan.retryMs}. */
  readonly retries: number;
  /** From a client's first attempt until it was authenticated and subscribed. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

export interface LoadResult {
  readonly sentPerSecond: number;
  readonly deliveriesPerSecond: number;
  readonly sent: number;
  readonly accepted: number;
  /** Messages that were answered with an error. */
  readonly refused: number;
  /** Deliveries of what was not refused. */
  readonly expected: number;
  readonly received: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Connections that ended unexpectedly. */
  readonly lost: number;
}

/** When nothing more has arrived for this long, the run ends. */
const patienceMs = 3000;

export class Load implements AsyncDisposable {
  readonly #workers: Worker[];

  private constructor(workers: Worker[]) {
    this.#workers = workers;
  }

  /** Starts the workers and connects all clients. @throws {Error} when a client cannot connect. */
  static async connect(options: LoadOptions): Promise<LoadConnected> {
    await using stack = new AsyncDisposableStack();
    const workers = Array.from(
      { length: options.workers },
      (_, worker) => stack.use(new Worker({ ...options, worker }, options.core)),
    );
    const shares = await ask<WorkerConnected>(workers, { do: "connect" });
    const seconds = Math.max(...shares.map((share) => share.seconds));
    const latencies = new LatencyCounts();
    for (const share of shares) latencies.merge(share.latencies);
    stack.move();
    return {
      load: new Load(workers),
      connectionsPerSecond: options.clients / seconds,
      retries: shares.reduce((sum, share) => sum + share.retries, 0),
      p50Ms: latencies.quantileMs(0.5),
      p99Ms: latencies.quantileMs(0.99),
      maxMs: latencies.quantileMs(1),
    };
  }

  /**
   * Sends at this rate, then waits for the deliveries.
   * @param untilQuiet `false`: does not wait; what comes later is counted with the next run
   */
  async run(
    perSecond: number,
    seconds: number,
    { untilQuiet = true }: { readonly untilQuiet?: boolean } = {},
  ): Promise<LoadResult> {
    const share = perSecond / this.#workers.length;
    const began = performance.now();
    await ask(this.#workers, { do: "send", perSecond: share, seconds });
    const tookSeconds = (performance.now() - began) / 1000;
    if (untilQuiet) await this.#untilQuiet();
    const results = await ask<WorkerResult>(this.#workers, { do: "result" });
    const latencies = new LatencyCounts();
    for (const result of results) latencies.merge(result.latencies);
    const sum = (key: "sent" | "accepted" | "refused" | "expected" | "received" | "lost") =>
      results.reduce((total, result) => total + result[key], 0);
    return {
      sentPerSecond: sum("sent") / tookSeconds,
      deliveriesPerSecond: sum("received") / tookSeconds,
      sent: sum("sent"),
      accepted: sum("accepted"),
      refused: sum("refused"),
      expected: sum("expected"),
      received: sum("received"),
      p50Ms: latencies.quantileMs(0.5),
      p99Ms: latencies.quantileMs(0.99),
      maxMs: latencies.quantileMs(1),
      lost: sum("lost"),
    };
  }

  /**
   * Sends at this rate, and waits until everybody is back and everything is answered. With the option `track`.
   * @throws {Error} when that takes longer than two minutes
   */
  async track(perSecond: number, seconds: number): Promise<Counts> {
    await ask(this.#workers, { do: "send", perSecond: perSecond / this.#workers.length, seconds });
    const results = await ask<Counts>(this.#workers, { do: "result" });
    return results.reduce((all, { silenceMs, ...counts }) => ({
      ...all,
      ...Object.fromEntries(
        Object.entries(counts).map(([key, count]) => [key, all[key as keyof Counts] + count]),
      ),
      silenceMs: Math.max(all.silenceMs, silenceMs),
    }));
  }

  async #untilQuiet(): Promise<void> {
    let before = -1;
    let since = performance.now();
    while (performance.now() - since < patienceMs) {
      const counts = await ask<WorkerCount>(this.#workers, { do: "count" });
      const received = counts.reduce((sum, count) => sum + count.received, 0);
      if (received >= counts.reduce((sum, count) => sum + count.expected, 0)) return;
      if (received !== before) since = performance.now();
      before = received;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  /** The workers' process ids. */
  get pids(): readonly number[] {
    return this.#workers.map((worker) => worker.pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker[Symbol.asyncDispose]()));
  }
}

async function ask<T>(workers: readonly Worker[], command: LoadCommand): Promise<T[]> {
  return await Promise.all(workers.map((worker) => worker.ask(command) as Promise<T>));
}

/** A child process that runs `worker.ts`. */
class Worker implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncIterator<string>;

  constructor(plan: LoadPlan, core: number | undefined) {
    const words = [
      ...(core === undefined ? [] : ["taskset", "-c", String(core)]),
      ...["deno", "run", "--no-prompt", "--allow-net", "--ignore-env", import.meta.filename ?? ""],
      ...["--worker", JSON.stringify(plan)],
    ];
    const [program = "", ...args] = words;
    this.#child = new Deno.Command(program, { args, stdin: "piped", stdout: "piped" }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#answers = linesOf(this.#child.stdout);
  }

  get pid(): number {
    return this.#child.pid;
  }

  async ask(command: LoadCommand): Promise<unknown> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`a load worker ended while asked to ${command.do}`);
    const { answer, error } = JSON.parse(value);
    if (error !== undefined) throw new Error(error);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#input.close().catch(() => {});
    await this.#answers.return?.();
    await this.#child.status;
  }
}

async function* linesOf(bytes: ReadableStream<Uint8Array>): AsyncGenerator<string, void> {
  let rest = "";
  const decoder = new TextDecoder();
  for await (const chunk of bytes) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
}

const flags = {
  target: [
    "http://127.0.0.1:31001",
    "spears, separated by commas; clients are distributed over them",
  ],
  ticket: ["", "http://host:port of a ticket that chooses the spear, instead of --target"],
  clients: ["1000", "connections that receive"],
  groups: ["50", "groups; each client joins one, all groups have the same size"],
  rate: ["100", "messages per second, for all groups together"],
  seconds: ["10", "how long to send"],
  warmup: ["2", "seconds of the same load before, not counted"],
  content: ["50", "characters per message, at least 14"],
  workers: ["1", "processes; one holds up to about 18 000 connections and uses one core"],
  senders: ["4", "connections per worker that send"],
  connecting: ["100", "connections per worker that are opened at once"],
  sources: [
    "",
    "local addresses, separated by commas, each with ports for 28 000 connections; default: the system's",
  ],
  "first-user": ["1000000", "the number of the first user"],
  core: ["", "run the workers on this core (Linux, taskset)"],
} as const satisfies Record<string, readonly [fallback: string, text: string]>;

type Flag = keyof typeof flags;

function help(): string {
  return [
    "Connects clients to spears whose auth.scheme is open, sends messages to their groups and counts what arrives.",
    "",
    ...Object.entries(flags).map(([name, [fallback, text]]) =>
      `  --${name.padEnd(12)} ${text}${fallback === "" ? "" : ` [${fallback}]`}`
    ),
    "  --track        follow each message to each client: prints what was sent, accepted, refused, delivered, lost, doubled,",
    "                 inverted (late), untold (a gap without a word) and missed (a gap that was told), and the longest silence of",
    "                 any client; ends with 1 when a message is lost, doubled, inverted, untold or refused. The clients are those",
    "                 of @gru/client, come by --ticket, and send themselves; --target, --warmup, --senders and --sources do nothing",
    "  --json         print the result as JSON",
  ].join("\n");
}

async function main(args: string[]): Promise<void> {
  const options = Object.fromEntries(
    Object.entries(flags).map(([name, [fallback]]) => [
      name,
      { type: "string" as const, default: fallback },
    ]),
  );
  const { values }: { values: Record<string, string | boolean | undefined> } = parseArgs({
    args,
    options: {
      ...options,
      ...{ track: { type: "boolean" }, json: { type: "boolean" }, help: { type: "boolean" } },
    },
  });
  // deno-lint-ignore no-console
  const print = console.log;
  if (values.help) return print(help());
  const text = (flag: Flag) => String(values[flag]);
  const number = (flag: Flag) => {
    const value = Number(text(flag));
    if (text(flag).trim() === "" || !(value >= 0)) {
      throw new TypeError(`--${flag}: expected a number, got ${text(flag)}`);
    }
    return value;
  };
  const track = values.track === true;
  if (track && text("ticket") === "") {
    throw new TypeError("--ticket: expected the address of a ticket with --track, got none");
  }
  if (track && number("workers") > number("groups")) {
    throw new TypeError(
      `--workers: expected at most as many as --groups (${text("groups")}) with --track, got ${
        text("workers")
      }`,
    );
  }
  const { load, connectionsPerSecond } = await Load.connect({
    track,
    targets: text("target").split(","),
    ticket: text("ticket") || undefined,
    clients: number("clients"),
    groups: number("groups"),
    content: number("content"),
    workers: number("workers"),
    senders: number("senders"),
    connecting: number("connecting"),
    sources: text("sources").split(",").filter((address) => address !== ""),
    firstUser: number("first-user"),
    core: text("core") === "" ? undefined : number("core"),
  });
  await using _load = load;
  function show(result: Readonly<Record<string, number>>): void {
    if (values.json) return print(JSON.stringify({ connectionsPerSecond, ...result }));
    for (const [key, value] of Object.entries(result)) {
      print(`${key.padEnd(20)} ${Number.isInteger(value) ? value : value.toFixed(2)}`);
    }
  }
  if (!values.json) print(`connected: ${Math.round(connectionsPerSecond)} clients a second`);
  if (track) {
    const counts = await load.track(number("rate"), number("seconds"));
    show({ ...counts });
    if (Object.values(faultsOf(counts)).some((count) => count > 0)) Deno.exitCode = 1;
    return;
  }
  if (number("warmup") > 0) await load.run(number("rate"), number("warmup"));
  show({ ...await load.run(number("rate"), number("seconds")) });
}

if (import.meta.main) {
  const [first, plan] = Deno.args;
  if (first === "--worker" && plan !== undefined) {
    await runWorker(
      JSON.parse(plan),
      linesOf(Deno.stdin.readable),
      // deno-lint-ignore no-console
      (line) => console.log(line),
    );
    // The parent process has ended; open connections would keep this process running.
    Deno.exit();
  } else {
    try {
      await main(Deno.args);
    } catch (error) {
      // deno-lint-ignore no-console
      console.error(error instanceof Error ? error.message : String(error));
      Deno.exit(1);
    }
  }
}
