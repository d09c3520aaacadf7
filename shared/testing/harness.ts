/** Shared by tests: waiting for a condition, free ports, real servers as child processes, commands of tasks. */
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Resolves as soon as the condition holds; it is checked every few milliseconds.
 * @throws Error that names `what` when it does not hold within `timeoutMs` (default 30 000).
 */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  options: { readonly timeoutMs?: number; readonly what?: string } = {},
): Promise<void> {
  const { timeoutMs = 30_000, what = String(condition) } = options;
  const giveUpAt = performance.now() + timeoutMs;
  while (!await condition()) {
    if (performance.now() > giveUpAt) {
      throw new Error(`Waited ${timeoutMs} ms without success for: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Two callers that ask for a port before either listens must get different ones. */
const portsGiven = new Set<number>();

/**
 * A port on which nothing listens, a different one for each call. Below the range of outgoing ports, so that no
 * connection takes it by chance while a server that is restarted on it is down.
 */
export function freePort(hostname = "127.0.0.1"): number {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = 10_000 + Math.floor(Math.random() * 18_000);
    if (portsGiven.has(port)) continue;
    try {
      Deno.listen({ hostname, port }).close();
      portsGiven.add(port);
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
  throw new Error(`No free port found on ${hostname}`);
}

const servers = {
  zookeeper: { files: ["/usr/share/java/zookeeper.jar"], programs: ["java"] },
  redis: { files: [], programs: ["redis-server"] },
  nginx: { files: [], programs: ["nginx"] },
  chromium: { files: [], programs: ["chromium"] },
  faketime: { files: [], programs: ["faketime"] },
  node: { files: [], programs: ["node"] },
  java: { files: [], programs: ["java", "javac"] },
  python3: { files: [], programs: ["python3"] },
  prometheus: { files: [], programs: ["prometheus", "promtool"] },
} as const;

export type ServerName = keyof typeof servers;

const debianPackages: Readonly<Record<ServerName, string>> = {
  zookeeper: "zookeeper",
  redis: "redis-server",
  nginx: "nginx",
  chromium: "chromium",
  faketime: "faketime",
  node: "nodejs",
  java: "default-jdk-headless",
  python3: "python3",
  prometheus: "prometheus",
};

/**
 * Environment variables for a process whose wall clock is wrong by `seconds`. The speed of time and the monotonic clock
 * are unchanged. Needs `faketime`.
 */
export function clockOff(seconds: number): Record<string, string> {
  const libraries = [...Deno.readDirSync("/usr/lib")]
    .map(({ name }) => `/usr/lib/${name}/faketime/libfaketimeMT.so.1`);
  return {
    LD_PRELOAD: libraries.find(exists) ?? "",
    FAKETIME: `${seconds < 0 ? "" : "+"}${seconds}s`,
    FAKETIME_DONT_FAKE_MONOTONIC: "1",
    DONT_FAKE_MONOTONIC: "1",
    FAKETIME_NO_CACHE: "1",
  };
}

export interface ServerTest extends Omit<Deno.TestDefinition, "name" | "fn" | "ignore"> {
  readonly name: string;
  readonly needs: ServerName | readonly ServerName[];
  readonly fn: (t: Deno.TestContext) => void | Promise<void>;
}

/** Set by `deno task test:fast`: what takes long is ignored. */
const fast = Deno.env.get("GRU_TEST") === "fast";

type Definition = Omit<Deno.TestDefinition, "ignore">;

/**
 * A test that takes more than half a second: it starts processes, tries very much or waits for real time to pass. Or it
 * leaves timers behind, which would disturb the tests after it. `deno task test:fast` leaves it out.
 */
export function slowTest(name: string, fn: Definition["fn"]): void;
export function slowTest(test: Definition): void;
export function slowTest(test: string | Definition, fn: Definition["fn"] = () => {}): void {
  Deno.test({ ...(typeof test === "string" ? { name: test, fn } : test), ignore: fast });
}

/**
 * A test that starts real servers. If one is not installed, the test is ignored, and its title gives the reason and the install
 * command. With `CI` set in the environment it fails instead. `deno task test:fast` leaves it out.
 */
export function serverTest(test: ServerTest): void {
  const { needs, ...definition } = test;
  const missing = [needs].flat().filter((name) => !isInstalled(name));
  const packages = missing.map((name) => debianPackages[name]).join(" ");
  testWith(
    missing.length === 0
      ? undefined
      : `${missing.join(" and ")} not installed: apt-get install ${packages}`,
    definition,
  );
}

/** A slow test that is tried unless `missing` says what is not there, and how to get it: then as {@linkcode serverTest}. */
export function testWith(
  missing: string | undefined,
  definition: Definition,
): void {
  if (missing === undefined || fast) {
    slowTest(definition);
    return;
  }
  const name = `${definition.name} [${missing}]`;
  if (Deno.env.get("CI")) Deno.test(name, () => Promise.reject(new Error(missing)));
  else Deno.test({ ...definition, name, ignore: true });
}

function isInstalled(server: ServerName): boolean {
  const { files, programs } = servers[server];
  return files.every(exists) && programs.every((program) => findProgram(program) !== undefined);
}

/** The path of an executable as the shell finds it, also in `/usr/sbin`. */
function findProgram(name: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(delimiter), "/usr/sbin"];
  return folders.map((folder) => join(folder, name)).find(exists);
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    // Without the permission to look, no program would be found and every test would be ignored.
    if (error instanceof Deno.errors.NotCapable) throw error;
    return false;
  }
}

/** A child process that a test can freeze, and that is always ended, by its process id. Disposing kills it. */
export class ServerProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #outputs: Promise<void>[];
  #output = "";
  #ended = false;
  readonly ended: Promise<Deno.CommandStatus>;

  constructor(program: string, options: Omit<Deno.CommandOptions, "stdin" | "stdout" | "stderr">) {
    this.#child = new Deno.Command(findProgram(program) ?? program, {
      ...options,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#outputs = [this.#child.stdout, this.#child.stderr].map((stream) => this.#keep(stream));
    this.ended = this.#child.status.finally(() => this.#ended = true);
  }

  get pid(): number {
    return this.#child.pid;
  }

  get running(): boolean {
    return !this.#ended;
  }

  /** The last 64 KB of its standard output and error. */
  get output(): string {
    return this.#output;
  }

  /** SIGSTOP: connections stay open and get no answers. */
  freeze(): void {
    this.#signal("SIGSTOP");
  }

  thaw(): void {
    this.#signal("SIGCONT");
  }

  /** Sends the signal (default SIGKILL) and waits until the process has ended. */
  async kill(signal: Deno.Signal = "SIGKILL"): Promise<void> {
    this.#signal(signal);
    await this.ended;
    await Promise.all(this.#outputs);
  }

  /** Resolves when `ready` holds. @throws Error with the output when the process ends before, or the time is up. */
  async ready(
    ready: () => boolean | Promise<boolean>,
    options: { readonly timeoutMs?: number; readonly what: string },
  ): Promise<void> {
    try {
      await waitFor(async () => {
        if (!this.running) throw new Error(`${options.what} ended at its start`);
        return await ready();
      }, { timeoutMs: 60_000, ...options });
    } catch (error) {
      await this.kill();
      throw new Error(`${options.what} did not start; it wrote: ${this.output}`, { cause: error });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }

  #signal(signal: Deno.Signal): void {
    if (this.running) this.#child.kill(signal);
  }

  async #keep(stream: ReadableStream<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of stream) {
      this.#output = (this.#output + decoder.decode(chunk, { stream: true })).slice(-65_536);
    }
  }
}

export const projectRoot = fileURLToPath(new URL("../../", import.meta.url));

/** The arguments of `deno` in `deno task <name>`: the same permissions, without the task's own process. */
export function taskArguments(name: string): string[] {
  const words = taskWords(name);
  return words.slice(words.indexOf("deno") + 1);
}

/** The environment variables that the task sets. */
export function taskEnvironment(name: string): Record<string, string> {
  const words = taskWords(name);
  return Object.fromEntries(words.slice(0, words.indexOf("deno")).map((word) => word.split("=")));
}

/** Starts the program of `deno task <name>` with more arguments and variables, without a shell or wrapper process. */
export function spawnTask(
  name: string,
  args: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): ServerProcess {
  return new ServerProcess(Deno.execPath(), {
    args: [...taskArguments(name), ...args],
    cwd: projectRoot,
    env: { ...taskEnvironment(name), ...environment },
  });
}

function taskWords(name: string): string[] {
  const { tasks } = JSON.parse(Deno.readTextFileSync(join(projectRoot, "deno.json")));
  // A variable of the operator; it stands for more permissions, or for nothing.
  return tasks[name].split(" ").filter((word: string) => !word.startsWith("$"));
}

/** A server that a test can freeze, kill and start again with the same address and data. */
export abstract class TestServer implements AsyncDisposable {
  /** Set after the first start, also when the process has ended. */
  protected process: ServerProcess | undefined;

  freeze(): void {
    this.process?.freeze();
  }

  thaw(): void {
    this.process?.thaw();
  }

  /** kill -9 */
  async kill(): Promise<void> {
    await this.process?.kill();
  }

  /** The process id while it runs. */
  get pid(): number | undefined {
    return this.process?.running ? this.process.pid : undefined;
  }

  /** SIGTERM: an orderly stop. Resolves to the exit status. */
  async stop(): Promise<Deno.CommandStatus | undefined> {
    await this.process?.kill("SIGTERM");
    return await this.process?.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** A server with its own folder, which is removed when the server is disposed. */
export abstract class TestServerWithFolder extends TestServer {
  readonly folder: string;

  constructor(folder: string) {
    super();
    this.folder = folder;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Starts the server and returns it. If the start fails, nothing of it remains. */
export async function started<S extends AsyncDisposable>(
  server: S,
  start: (server: S) => Promise<void>,
): Promise<S> {
  try {
    await start(server);
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}

/** Sends bytes to a port and resolves to the first answer, or undefined when there is none. */
export async function ask(
  port: number,
  question: string,
  options: { readonly hostname?: string; readonly timeoutMs?: number } = {},
): Promise<string | undefined> {
  const { hostname = "127.0.0.1", timeoutMs = 1000 } = options;
  let timer;
  try {
    using connection = await Deno.connect({ hostname, port });
    timer = setTimeout(() => connection.close(), timeoutMs);
    await connection.write(new TextEncoder().encode(question));
    const answer = new Uint8Array(65_536);
    const length = await connection.read(answer);
    clearTimeout(timer);
    return length === null ? undefined : new TextDecoder().decode(answer.subarray(0, length));
  } catch {
    return undefined;
  } finally {
    clearTimeout(timer);
  }
}
