/** A server of a bench, in a process of its own. */
import { fileURLToPath } from "node:url";
import { freePort, taskArguments, taskEnvironment } from "@gru/shared/testing/harness";
import { pause } from "@gru/shared/pause";
import { centrifugoSettings } from "./centrifugo_settings.ts";
import { type Usage, usageOf } from "./measures.ts";

/**
 * `unmeasured`: a spear that counts nothing, see `unmeasured_bench.ts`. `centrifugo-history`: Centrifugo that keeps as many
 * messages for as long as a spear does by default, and numbers them; `centrifugo` keeps nothing.
 */
export type ServerKind = "spear" | "unmeasured" | "socket.io" | "ws" | CentrifugoKind;
export type CentrifugoKind = "centrifugo" | "centrifugo-history";

export interface Cores {
  readonly server: number | undefined;
  readonly load: number | undefined;
}

export interface ServerOptions {
  readonly core: number | undefined;
  /** The path of Centrifugo's program. */
  readonly centrifugo?: string | undefined;
}

export function isCentrifugo(kind: ServerKind): kind is CentrifugoKind {
  return kind === "centrifugo" || kind === "centrifugo-history";
}

interface Program {
  readonly words: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export class ServerUnderTest implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  #ended = false;
  readonly address: string;

  private constructor({ words, env }: Program, port: number) {
    const [program = "", ...args] = words;
    this.#child = new Deno.Command(program, { args, env, stdin: "null" }).spawn();
    void this.#child.status.then(() => this.#ended = true);
    this.address = `http://127.0.0.1:${port}`;
  }

  /** Resolves when it listens. @throws {Error} when it ends before, or does not within half a minute */
  static async start(kind: ServerKind, options: ServerOptions): Promise<ServerUnderTest> {
    const port = freePort();
    await using stack = new AsyncDisposableStack();
    const server = stack.use(new ServerUnderTest(programOf(kind, port, options), port));
    for (let attempt = 0;; attempt++) {
      try {
        (await Deno.connect({ hostname: "127.0.0.1", port })).close();
        stack.move();
        return server;
      } catch (error) {
        if (server.#ended) throw new Error(`${kind} ended at its start`, { cause: error });
        if (attempt === 600) throw error;
        await pause(50);
      }
    }
  }

  usage(): Promise<Usage> {
    return usageOf(this.#child.pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}

function programOf(kind: ServerKind, port: number, { core, centrifugo }: ServerOptions): Program {
  if (isCentrifugo(kind)) {
    if (centrifugo === undefined) throw new TypeError(`--centrifugo: expected the path, got none`);
    // By `taskset` in any case: it is a program that the benchmark may run.
    const cores = core ?? `0-${navigator.hardwareConcurrency - 1}`;
    return {
      words: ["taskset", "-c", `${cores}`, centrifugo],
      env: {
        ...(core === undefined ? {} : { GOMAXPROCS: "1" }),
        ...centrifugoSettings({ port, history: kind === "centrifugo-history" }),
      },
    };
  }
  const isSpear = kind === "spear" || kind === "unmeasured";
  const pinned = core === undefined ? [] : ["taskset", "-c", `${core}`];
  const plain = ["run", "--no-prompt", "--allow-net", "--allow-env", here("plain_bench.ts")];
  const args = isSpear ? spearArguments(kind, port) : [...plain, kind, `${port}`];
  return { words: [...pinned, "deno", ...args], env: isSpear ? taskEnvironment("spear") : {} };
}

function spearArguments(kind: "spear" | "unmeasured", port: number): string[] {
  const flags = {
    port,
    monitorPort: freePort(),
    mode: "single",
    drainMs: 0,
    "log.level": "error",
  };
  const limits = ["connections", "messagesPerSecond", "connectionsPerUser"];
  const words = taskArguments("spear");
  const script = words.pop() ?? "";
  return [
    ...words,
    kind === "unmeasured" ? here("unmeasured_bench.ts") : script,
    ...Object.entries(flags).map(([key, value]) => `--${key}=${value}`),
    ...limits.map((limit) => `--limits.${limit}=1000000`),
    ...(kind === "unmeasured" ? ["--trailMessages=0"] : []),
  ];
}

function here(file: string): string {
  return fileURLToPath(new URL(file, import.meta.url));
}
