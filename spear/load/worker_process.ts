/** A child process of the load, which runs `worker.ts`. */
import { fileURLToPath } from "node:url";
import { linesOf } from "./lines.ts";
import type { LoadCommand, LoadPlan, Progress } from "./plan.ts";

export class WorkerProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  #ended = false;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #answers: AsyncIterator<string>;
  readonly #onProgress: (progress: Progress) => void;

  /** @param core where it runs (Linux, `taskset`); undefined: anywhere */
  constructor(
    plan: LoadPlan,
    core: number | undefined,
    onProgress: (progress: Progress) => void = () => {},
  ) {
    const program = fileURLToPath(new URL("worker.ts", import.meta.url));
    const words = [
      ...(core === undefined ? [] : ["taskset", "-c", String(core)]),
      ...["deno", "run", "--no-prompt", "--allow-net", "--ignore-env", program],
      JSON.stringify(plan),
    ];
    const [command = "", ...args] = words;
    this.#child = new Deno.Command(command, { args, stdin: "piped", stdout: "piped" }).spawn();
    void this.#child.status.then(() => this.#ended = true);
    this.#input = this.#child.stdin.getWriter();
    this.#answers = linesOf(this.#child.stdout);
    this.#onProgress = onProgress;
  }

  get pid(): number {
    return this.#child.pid;
  }

  /** One command at a time. @throws {Error} what went wrong there */
  async ask(command: LoadCommand): Promise<unknown> {
    await this.#input.write(new TextEncoder().encode(`${JSON.stringify(command)}\n`));
    for (;;) {
      const { value, done } = await this.#answers.next();
      if (done) throw new Error(`a load worker ended while asked to ${command.do}`);
      const { answer, error, progress } = JSON.parse(value);
      if (error !== undefined) throw new Error(error);
      if (progress === undefined) return answer;
      this.#onProgress(progress);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.#child.kill("SIGKILL");
    await this.#input.close().catch(() => {});
    await this.#answers.return?.();
    await this.#child.status;
  }
}
