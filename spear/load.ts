/** Load for spears, from several processes: connects clients, sends to their groups, says what arrived and how late. */
import { parseArgs } from "node:util";
import { LatencyCounts } from "./load_latency.ts";
import {
  type LoadCommand,
  type LoadPlan,
  runWorker,
  type WorkerConnected,
  type WorkerCount,
  type WorkerResult,
} from "./load_worker.ts";

export interface LoadOptions extends Omit<LoadPlan, "worker"> {
  /** Run the workers on this core. Linux, where `taskset` is installed. */
  readonly core?: number | undefined;
}

export interface LoadConnected {
  readonly load: Load;
  readonly connectionsPerSecond: number;
  /** Attempts that failed and were made again, see {@linkcode LoadPlan.retryMs}. */
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
  readonly expected: number;
  readonly received: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Connections that ended although nobody asked for it. */
  readonly lost: number;
}

/** When no more has arrived for so long, nothing more is waited for. */
const patienceMs = 3000;

export class Load implements AsyncDisposable {
  readonly #workers: Worker[];

  private constructor(workers: Worker[]) {
    this.#workers = workers;
  }

  /** Starts the workers and connects all clients. @throws {Error} when one cannot enter. */
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

  /** Sends at this rate and waits for what arrives. */
  async run(perSecond: number, seconds: number): Promise<LoadResult> {
    const share = perSecond / this.#workers.length;
    const began = performance.now();
    await ask(this.#workers, { do: "send", perSecond: share, seconds });
    const tookSeconds = (performance.now() - began) / 1000;
    await this.#untilQuiet();
    const results = await ask<WorkerResult>(this.#workers, { do: "result" });
    const latencies = new LatencyCounts();
    for (const result of results) latencies.merge(result.latencies);
    const sum = (key: "sent" | "accepted" | "expected" | "received" | "lost") =>
      results.reduce((total, result) => total + result[key], 0);
    return {
      sentPerSecond: sum("sent") / tookSeconds,
      deliveriesPerSecond: sum("received") / tookSeconds,
      sent: sum("sent"),
      accepted: sum("accepted"),
      expected: sum("expected"),
      received: sum("received"),
      p50Ms: latencies.quantileMs(0.5),
      p99Ms: latencies.quantileMs(0.99),
      maxMs: latencies.quantileMs(1),
      lost: sum("lost"),
    };
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

/** A child process that runs `load_worker.ts`. */
class Worker implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncIterator<string>;

  constructor(plan: LoadPlan, core: number | undefined) {
    const words = [
      ...(core === undefined ? [] : ["taskset", "-c", String(core)]),
      ...["deno", "run", "--no-prompt", "--allow-net", import.meta.filename ?? ""],
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
  target: ["http://127.0.0.1:31001", "spears, comma list; clients are spread over them"],
  ticket: ["", "http://host:port of a ticket that says which spear, instead of --target"],
  clients: ["1000", "connections that receive"],
  groups: ["50", "groups that they are spread over evenly, one each"],
  rate: ["100", "messages a second, over all groups"],
  seconds: ["10", "how long to send"],
  warmup: ["2", "seconds of the same before, that do not count"],
  content: ["50", "characters of a message, 14 at least"],
  workers: ["1", "processes; one holds up to about 18 000 connections and keeps one core busy"],
  senders: ["4", "connections of each worker that send"],
  connecting: ["100", "connections of each worker that are under way at once"],
  sources: [
    "",
    "local addresses, comma list, each with ports for 28 000 connections; default: the system's",
  ],
  "first-user": ["1000000", "the users are numbered from here"],
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
    options: { ...options, json: { type: "boolean" }, help: { type: "boolean" } },
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
  const { load, connectionsPerSecond } = await Load.connect({
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
  if (!values.json) print(`connected: ${Math.round(connectionsPerSecond)} clients a second`);
  if (number("warmup") > 0) await load.run(number("rate"), number("warmup"));
  const result = await load.run(number("rate"), number("seconds"));
  if (values.json) return print(JSON.stringify({ connectionsPerSecond, ...result }));
  for (const [key, value] of Object.entries(result)) {
    print(`${key.padEnd(20)} ${Number.isInteger(value) ? value : value.toFixed(2)}`);
  }
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
    // Whoever gave the commands is gone; the connections would keep this process.
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
