/** A real redis-server for tests: own port, own folder, ended with the test. */
import { ask, freePort, ServerProcess, started, TestServerWithFolder } from "./testing.ts";

export interface RedisServerOptions {
  /** An append-only file with `appendfsync always`: a killed server comes back with everything it had confirmed. Default false. */
  readonly appendOnly?: boolean;
  /** More arguments, e.g. `["--maxmemory", "10mb"]`. */
  readonly args?: readonly string[];
}

/** Disposing kills it and removes its folder. */
export class RedisServer extends TestServerWithFolder {
  readonly port: number;
  readonly #args: readonly string[];

  constructor(port: number, folder: string, args: readonly string[]) {
    super(folder);
    this.port = port;
    this.#args = args;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it, again with the same port and files after {@linkcode kill} or {@linkcode stop}. */
  async start(): Promise<void> {
    if (this.process?.running) return;
    const { port } = this;
    const process = this.process = new ServerProcess("redis-server", {
      args: [
        ...["--port", `${port}`, "--bind", "127.0.0.1", "--dir", this.folder, "--save", ""],
        ...this.#args,
      ],
      cwd: this.folder,
    });
    await process.ready(
      async () => (await ask(port, "PING\r\n"))?.startsWith("+PONG") ?? false,
      { what: `redis-server on port ${port}` },
    );
  }
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const durable = ["--appendonly", "yes", "--appendfsync", "always"];
  const args = [...options.appendOnly ? durable : [], ...options.args ?? []];
  const folder = await Deno.makeTempDir({ prefix: "gru_redis_" });
  return await started(new RedisServer(freePort(), folder, args), (server) => server.start());
}
