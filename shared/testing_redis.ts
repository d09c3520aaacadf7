/** A real redis-server for tests: own port, own folder, ended with the test. */
import { ask, freePort, ServerProcess, TestServer } from "./testing.ts";

export interface RedisServerOptions {
  /** An append-only file with `appendfsync always`: a killed server comes back with everything it had confirmed. Default false. */
  readonly appendOnly?: boolean;
  /** More arguments, e.g. `["--maxmemory", "10mb"]`. */
  readonly args?: readonly string[];
}

/** Disposing kills it and removes its folder. */
export class RedisServer extends TestServer {
  readonly port: number;
  readonly #folder: string;
  readonly #args: readonly string[];

  constructor(port: number, folder: string, args: readonly string[]) {
    super();
    this.port = port;
    this.#folder = folder;
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
        ...["--port", `${port}`, "--bind", "127.0.0.1", "--dir", this.#folder, "--save", ""],
        ...this.#args,
      ],
      cwd: this.#folder,
    });
    await process.ready(
      async () => (await ask(port, "PING\r\n"))?.startsWith("+PONG") ?? false,
      { what: `redis-server on port ${port}` },
    );
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await super[Symbol.asyncDispose]();
    await Deno.remove(this.#folder, { recursive: true });
  }
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const durable = ["--appendonly", "yes", "--appendfsync", "always"];
  const args = [...options.appendOnly ? durable : [], ...options.args ?? []];
  const folder = await Deno.makeTempDir({ prefix: "gru_redis_" });
  const server = new RedisServer(freePort(), folder, args);
  try {
    await server.start();
  } catch (error) {
    await server[Symbol.asyncDispose]();
    throw error;
  }
  return server;
}
