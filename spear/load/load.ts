/**
 * Load for spears, from several processes: connects clients, sends to them, and reports what arrived and how late.
 * `command.ts` is its command line.
 */
import { pause } from "@gru/shared/pause";
import { merged, type Percentiles } from "./latency.ts";
import type { Counts } from "./ledger.ts";
import type {
  LoadCommand,
  LoadPlan,
  Progress,
  RecoveryResult,
  WorkerConnected,
  WorkerCount,
  WorkerResult,
} from "./plan.ts";
import { WorkerProcess } from "./worker_process.ts";

export interface LoadOptions extends Omit<LoadPlan, "worker" | "progress"> {
  /** Run the workers on this core. Linux, where `taskset` is installed. */
  readonly core?: number | undefined;
  /** Called once a second with what each worker said last, while there is something to wait for. */
  readonly onProgress?: ((workers: readonly Progress[]) => void) | undefined;
}

/** The percentiles are of the time from a client's first attempt until it was authenticated and subscribed. */
export interface Connecting extends Percentiles {
  readonly connectionsPerSecond: number;
  /** Failed attempts that were repeated, see {@linkcode LoadPlan.retryMs}. */
  readonly retries: number;
}

export interface LoadConnected extends Connecting {
  readonly load: Load;
}

/** The percentiles are of the time from the sending of a message to each of its deliveries. */
export interface LoadResult extends Percentiles {
  readonly sentPerSecond: number;
  readonly deliveriesPerSecond: number;
  readonly sent: number;
  readonly accepted: number;
  /** Messages that were answered with an error. */
  readonly refused: number;
  /** Deliveries of what was not refused. */
  readonly expected: number;
  readonly received: number;
  /** Connections that ended unexpectedly. */
  readonly lost: number;
}

/** The percentiles are of what came to members that were in. */
export interface Recovered extends Counts, Percentiles {
  /** Messages that came to members because they came back with a position. */
  readonly recovered: number;
  /** Members that were told that everything had come, and that something may be missing. */
  readonly wholly: number;
  readonly partly: number;
  /** From the return until all were back. */
  readonly backSeconds: number;
  /** From the return until one member was back. */
  readonly backP50Ms: number;
  readonly backP99Ms: number;
  readonly backMaxMs: number;
  /** Attempts to come back that failed and were repeated. */
  readonly retries: number;
}

/** When nothing more has arrived for this long, the run ends. */
const patienceMs = 3000;

export class Load implements AsyncDisposable {
  readonly #workers: WorkerProcess[];

  private constructor(workers: WorkerProcess[]) {
    this.#workers = workers;
  }

  /** Starts the workers and connects all clients. @throws {Error} when a client cannot connect. */
  static async connect({ core, onProgress, ...plan }: LoadOptions): Promise<LoadConnected> {
    await using stack = new AsyncDisposableStack();
    const progress = onProgress !== undefined;
    const said: Progress[] = Array.from(
      { length: plan.workers },
      () => ({ connected: 0, sent: 0, received: 0, latencies: [] }),
    );
    const workers = Array.from({ length: plan.workers }, (_, worker) =>
      stack.use(
        new WorkerProcess({ ...plan, progress, worker }, core, (told) => {
          said[worker] = told;
          // Of all workers, which speak once a second, the first one gives the beat.
          if (worker === 0) onProgress?.(said);
        }),
      ));
    const shares = await ask<WorkerConnected>(workers, { do: "connect" });
    const seconds = Math.max(...shares.map((share) => share.seconds));
    stack.move();
    return {
      load: new Load(workers),
      connectionsPerSecond: plan.clients / seconds,
      retries: shares.reduce((sum, share) => sum + share.retries, 0),
      ...merged(shares.map(({ latencies }) => latencies)).percentiles,
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
    const began = performance.now();
    await this.#send(perSecond, seconds);
    const tookSeconds = (performance.now() - began) / 1000;
    if (untilQuiet) await this.#untilQuiet();
    const results = await ask<WorkerResult>(this.#workers, { do: "result" });
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
      ...merged(results.map(({ latencies }) => latencies)).percentiles,
      lost: sum("lost"),
    };
  }

  /**
   * Sends at this rate, and waits until everybody is back and everything is answered. With the option `track`.
   * @throws {Error} when that takes longer than two minutes
   */
  async track(perSecond: number, seconds: number): Promise<Counts> {
    await this.#send(perSecond, seconds);
    return together(await ask<Counts>(this.#workers, { do: "result" }));
  }

  /** Sends at this rate, and half-way cuts all members, which come back. With the option `recovery`. */
  async recover(perSecond: number, seconds: number): Promise<Recovered> {
    await this.#send(perSecond, seconds);
    const results = await ask<RecoveryResult>(this.#workers, { do: "result" });
    const sum = (key: "recovered" | "wholly" | "partly" | "retries") =>
      results.reduce((total, result) => total + result[key], 0);
    const back = merged(results.map((result) => result.back)).percentiles;
    return {
      ...together(results.map(({ counts }) => counts)),
      recovered: sum("recovered"),
      wholly: sum("wholly"),
      partly: sum("partly"),
      retries: sum("retries"),
      backSeconds: Math.max(...results.map(({ backSeconds }) => backSeconds)),
      backP50Ms: back.p50Ms,
      backP99Ms: back.p99Ms,
      backMaxMs: back.maxMs,
      ...merged(results.map(({ latencies }) => latencies)).percentiles,
    };
  }

  /** Sends nothing. Returns the connections that have ended unexpectedly since the start. */
  async rest(seconds: number): Promise<number> {
    await this.#send(0, seconds);
    const results = await ask<WorkerResult>(this.#workers, { do: "result" });
    return results.reduce((sum, { lost }) => sum + lost, 0);
  }

  /** The workers' process ids. */
  get pids(): readonly number[] {
    return this.#workers.map((worker) => worker.pid);
  }

  async #send(perSecond: number, seconds: number): Promise<void> {
    await ask(this.#workers, { do: "send", perSecond: perSecond / this.#workers.length, seconds });
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
      await pause(50);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker[Symbol.asyncDispose]()));
  }
}

async function ask<T>(workers: readonly WorkerProcess[], command: LoadCommand): Promise<T[]> {
  return await Promise.all(workers.map((worker) => worker.ask(command) as Promise<T>));
}

function together(counts: readonly Counts[]): Counts {
  return counts.reduce((all, { silenceMs, ...others }) => ({
    ...all,
    ...Object.fromEntries(
      Object.entries(others).map(([key, count]) => [key, all[key as keyof Counts] + count]),
    ),
    silenceMs: Math.max(all.silenceMs, silenceMs),
  }));
}
