/** The programs as processes of their own over real ZooKeeper and Redis, started as their tasks do. For tests. */
import { freePort, type ServerProcess, spawnTask } from "@gru/shared/testing/harness";
import { type RedisServer, type RedisServerOptions, startRedis } from "@gru/shared/testing/redis";
import { startZookeeper, type ZookeeperServer } from "@gru/shared/testing/zookeeper";

export type ProgramName = "ticket" | "spear" | "stat" | "idgen" | "minions";
export type Flags = Readonly<Record<string, string | number>>;

/** What the task `<program>:<profile>` runs, with these flags. */
export function spawnProgram(
  program: ProgramName,
  profile: string,
  flags: Flags,
  environment: Readonly<Record<string, string>> = {},
): ServerProcess {
  const given = Object.entries(flags).map(([key, value]) => `--${key}=${value}`);
  return spawnTask(program, ["--profile", profile, ...given], environment);
}

export interface RunningProgram extends AsyncDisposable {
  readonly process: ServerProcess;
  /**
   * Ends it, by default with kill -9, and starts it again with the same flags, and the same variables if no others are given;
   * resolves when it is ready.
   */
  restart(
    options?: {
      readonly signal?: Deno.Signal;
      readonly environment?: Readonly<Record<string, string>>;
      /** In place of, or besides, those that it was started with. */
      readonly flags?: Flags;
    },
  ): Promise<RunningProgram>;
  /** `http://127.0.0.1:port` of the flag `port`. */
  readonly address: string;
  /** Where health and metrics are: a port of its own for a spear. */
  readonly monitor: string;
}

/** A cluster under construction: one ZooKeeper, one Redis, and the programs that a test adds. */
export class TestCluster implements AsyncDisposable {
  readonly zookeeper: ZookeeperServer;
  readonly redis: RedisServer;
  readonly #programs = new AsyncDisposableStack();

  private constructor(zookeeper: ZookeeperServer, redis: RedisServer) {
    this.zookeeper = zookeeper;
    this.redis = redis;
  }

  /** @param tickMs of ZooKeeper; the default is as people run it: a session of 4 s is the shortest that it allows. */
  static async start(
    { tickMs = 2000, redis: options = { appendOnly: true } }: {
      readonly tickMs?: number;
      readonly redis?: RedisServerOptions;
    } = {},
  ): Promise<TestCluster> {
    const [zookeeper, redis] = await Promise.all([startZookeeper({ tickMs }), startRedis(options)]);
    return new TestCluster(zookeeper, redis);
  }

  /** Starts a program on free ports and resolves when it says that it is ready. */
  async add(
    program: ProgramName,
    profile: string,
    flags: Flags = {},
    environment: Readonly<Record<string, string>> = {},
  ): Promise<RunningProgram> {
    const { port = freePort(), monitorPort = program === "spear" ? freePort() : port, ...others } =
      flags;
    const process = this.#programs.use(spawnProgram(program, profile, {
      port,
      registry: `zookeeper://${this.zookeeper.address}/gru`,
      ...(program === "spear" ? { monitorPort } : {}),
      ...(program === "stat" ? { httpPort: freePort() } : {}),
      ...(program === "spear" || program === "stat" ? { redis: this.redis.url } : {}),
      ...others,
    }, environment));
    await process.ready(() => isReady(Number(monitorPort)), { what: `${program}:${profile}` });
    return {
      process,
      restart: async (options = {}) => {
        await process.kill(options.signal);
        return await this.add(
          program,
          profile,
          { ...flags, ...options.flags, port, monitorPort },
          options.environment ?? environment,
        );
      },
      address: `http://127.0.0.1:${port}`,
      monitor: `http://127.0.0.1:${monitorPort}`,
      [Symbol.asyncDispose]: () => process[Symbol.asyncDispose](),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#programs.disposeAsync();
    await this.zookeeper[Symbol.asyncDispose]();
    await this.redis[Symbol.asyncDispose]();
  }
}

async function isReady(port: number): Promise<boolean> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/readyz`);
    await response.body?.cancel();
    return response.ok;
  } catch {
    return false;
  }
}
