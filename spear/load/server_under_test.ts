/** A server of a bench, in a process of its own. */
import { fileURLToPath } from "node:url";
import { freePort, taskArguments, taskEnvironment } from "@gru/shared/testing/harness";
import { pause } from "@gru/shared/pause";
import { type Usage, usageOf } from "./measures.ts";

/** `unmeasured`: a spear that counts nothing, see `unmeasured_bench.ts`. */
export type ServerKind = "spear" | "unmeasured" | "socket.io" | "ws";

export interface Cores {
  readonly server: number | undefined;
  readonly load: number | undefined;
}

export class ServerUnderTest implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly address: string;

  constructor(kind: ServerKind, core: number | undefined) {
    const port = freePort();
    const limits = ["connections", "messagesPerSecond", "connectionsPerUser"];
    const flags = {
      port,
      monitorPort: freePort(),
      mode: "single",
      drainMs: 0,
      "log.level": "error",
    };
    const isSpear = kind === "spear" || kind === "unmeasured";
    const [script, ...others] = taskArguments("spear").reverse();
    const here = (file: string) => fileURLToPath(new URL(file, import.meta.url));
    const spear = [
      ...others.reverse(),
      kind === "unmeasured" ? here("unmeasured_bench.ts") : script ?? "",
      ...Object.entries(flags).map(([key, value]) => `--${key}=${value}`),
      ...limits.map((limit) => `--limits.${limit}=1000000`),
      ...(kind === "unmeasured" ? ["--trailMessages=0"] : []),
    ];
    const plain = ["run", "--no-prompt", "--allow-net", "--allow-env", here("plain_bench.ts")];
    const args = isSpear ? spear : [...plain, kind, String(port)];
    const [program, before] = core === undefined
      ? ["deno", []]
      : ["taskset", ["-c", String(core), "deno"]];
    const env = isSpear ? taskEnvironment("spear") : {};
    this.#child = new Deno.Command(program, { args: [...before, ...args], env, stdin: "null" })
      .spawn();
    this.address = `http://127.0.0.1:${port}`;
  }

  static async start(kind: ServerKind, core: number | undefined): Promise<ServerUnderTest> {
    const server = new ServerUnderTest(kind, core);
    const { hostname, port } = new URL(server.address);
    for (let attempt = 0;; attempt++) {
      try {
        (await Deno.connect({ hostname, port: Number(port) })).close();
        return server;
      } catch (error) {
        if (attempt === 600) throw error;
        await pause(50);
      }
    }
  }

  usage(): Promise<Usage> {
    return usageOf(this.#child.pid);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#child.status;
  }
}
