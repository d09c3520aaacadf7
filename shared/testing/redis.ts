/** A real redis-server for tests, with its own port and folder; it ends with the test. */
import { Redis } from "ioredis";
import { ask, freePort, ServerProcess, started, TestServerWithFolder, waitFor } from "./harness.ts";

export interface RedisServerOptions {
  /**
   * Keeps an append-only file. With `true` (`appendfsync always`) a killed server comes back with everything it had
   * confirmed. Default false.
   */
  readonly appendOnly?: boolean | "everysec";
  /** More arguments, e.g. `["--maxmemory", "10mb"]`. */
  readonly args?: readonly string[];
}

/** The append-only file at one moment. */
export interface FileMoment {
  readonly path: string;
  readonly bytes: number;
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

  /** Starts the server; after {@linkcode kill} or {@linkcode stop} with the same port and files. */
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

  /** The present length of the append-only file. */
  async fileMoment(): Promise<FileMoment> {
    const folder = `${this.folder}/appendonlydir`;
    const files = await Array.fromAsync(Deno.readDir(folder));
    const path = `${folder}/${files.find(({ name }) => name.includes(".incr."))?.name}`;
    return { path, bytes: (await Deno.stat(path)).size };
  }

  /** Resolves when a kill would lose nothing of what was confirmed: with `everysec` a write may wait for the last fsync. */
  async written(): Promise<void> {
    await waitFor(() =>
      withRedis(
        this.port,
        async (redis) => /^aof_buffer_length:0\r?$/m.test(await redis.info("persistence")),
      )
    );
  }

  /** Starts the server again as a machine that lost power at that moment: the file has the length that it had then. */
  async losePower({ path, bytes }: FileMoment): Promise<void> {
    await this.kill();
    await Deno.truncate(path, bytes);
    await this.start();
  }
}

export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  const { appendOnly = false } = options;
  const fsync = appendOnly === true ? "always" : `${appendOnly}`;
  const durable = ["--appendonly", "yes", "--appendfsync", fsync, "--aof-use-rdb-preamble", "no"];
  const args = [...appendOnly === false ? [] : durable, ...options.args ?? []];
  const folder = await Deno.makeTempDir({ prefix: "gru_redis_" });
  return await started(new RedisServer(freePort(), folder, args), (server) => server.start());
}

/** Runs commands on a server over a separate connection. */
export async function withRedis<T>(
  port: number,
  work: (redis: Redis) => Promise<T>,
): Promise<T> {
  const redis = new Redis({ port, lazyConnect: true, retryStrategy: () => null });
  redis.on("error", () => {});
  const ended = new Promise((resolve) => redis.once("end", resolve));
  try {
    await redis.connect();
    return await work(redis);
  } finally {
    if (redis.status !== "end") redis.disconnect();
    await ended;
  }
}
