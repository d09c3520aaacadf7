/** What tests share: waiting for a condition, free ports, real servers as child processes, a TCP proxy that misbehaves. */
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";

/**
 * Resolves as soon as the condition holds, looked at every few milliseconds.
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
      throw new Error(`Waited ${timeoutMs} ms in vain for: ${what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Two that are asked for a port before either listens must not be given the same. */
const portsGiven = new Set<number>();

/**
 * A port nobody listens on, and another one at each call. Below the range of outgoing connections, so that nobody takes it by chance
 * while a server that is restarted on it is away.
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
} as const;

export type ServerName = keyof typeof servers;

const debianPackages: Readonly<Record<ServerName, string>> = {
  zookeeper: "zookeeper",
  redis: "redis-server",
  nginx: "nginx",
  chromium: "chromium",
};

export interface ServerTest extends Omit<Deno.TestDefinition, "name" | "fn" | "ignore"> {
  readonly name: string;
  readonly needs: ServerName | readonly ServerName[];
  readonly fn: (t: Deno.TestContext) => void | Promise<void>;
}

/**
 * A test that starts real servers. Where one is not installed it is ignored, with the reason and the install
 * line in its name; with `CI` set in the environment it fails instead.
 */
export function serverTest(test: ServerTest): void {
  const { needs, ...definition } = test;
  const missing = [needs].flat().filter((name) => !isInstalled(name));
  if (missing.length === 0) {
    Deno.test(definition);
    return;
  }
  const packages = missing.map((name) => debianPackages[name]).join(" ");
  const reason = `${missing.join(" and ")} not installed: apt-get install ${packages}`;
  const name = `${test.name} [${reason}]`;
  if (Deno.env.get("CI")) Deno.test(name, () => Promise.reject(new Error(reason)));
  else Deno.test({ ...definition, name, ignore: true });
}

function isInstalled(server: ServerName): boolean {
  const { files, programs } = servers[server];
  return files.every(exists) && programs.every((program) => findProgram(program) !== undefined);
}

/** The path of an executable, as the shell would find it, `/usr/sbin` included. */
function findProgram(name: string): string | undefined {
  const folders = [...(Deno.env.get("PATH") ?? "").split(delimiter), "/usr/sbin"];
  return folders.map((folder) => join(folder, name)).find(exists);
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    // Without the permission to look, nothing would be found and every test ignored.
    if (error instanceof Deno.errors.NotCapable) throw error;
    return false;
  }
}

/** A child process that is always ended, by its id, and can be frozen. Disposing kills it. */
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

  /** The last 64 KB of what it wrote to standard output and error. */
  get output(): string {
    return this.#output;
  }

  /** SIGSTOP: connections stay open and nothing is answered. */
  freeze(): void {
    this.#signal("SIGSTOP");
  }

  thaw(): void {
    this.#signal("SIGCONT");
  }

  /** Sends the signal (default SIGKILL) and waits for the end. */
  async kill(signal: Deno.Signal = "SIGKILL"): Promise<void> {
    this.#signal(signal);
    await this.ended;
    await Promise.all(this.#outputs);
  }

  /** Resolves when `ready` holds. @throws Error with the output when the process ends first or time is up. */
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

export const projectRoot = fileURLToPath(new URL("../", import.meta.url));

/** What `deno task <name>` runs, as arguments of `deno`: the same permissions, without the task's process around it. */
export function taskArguments(name: string): string[] {
  const words = taskWords(name);
  return words.slice(words.indexOf("deno") + 1);
}

/** The variables that it sets before. */
export function taskEnvironment(name: string): Record<string, string> {
  const words = taskWords(name);
  return Object.fromEntries(words.slice(0, words.indexOf("deno")).map((word) => word.split("=")));
}

/** Starts what `deno task <name>` runs, with more arguments and variables: the process itself, no shell or wrapper around it. */
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
  return tasks[name].split(" ");
}

/** What a test does to a server besides starting it: freezes and kills it, and starts it again where it was. */
export abstract class TestServer implements AsyncDisposable {
  /** Set while it runs, and after its end. */
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

  /** While it runs. */
  get pid(): number | undefined {
    return this.process?.running ? this.process.pid : undefined;
  }

  /** SIGTERM: an orderly end. Resolves to how it ended. */
  async stop(): Promise<Deno.CommandStatus | undefined> {
    await this.process?.kill("SIGTERM");
    return await this.process?.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
  }
}

/** One with a folder of its own, which goes with it. */
export abstract class TestServerWithFolder extends TestServer {
  protected readonly folder: string;

  constructor(folder: string) {
    super();
    this.folder = folder;
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** The server when it has started; else nothing is left of it. */
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
