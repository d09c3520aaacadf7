/** A real RocketMQ server for tests, from the jars that `.ci/rocketmq.sh` fetches: own ports, own folder, ended with the test. */
import {
  freePort,
  type ServerName,
  ServerProcess,
  type ServerTest,
  serverTest,
  started,
  TestServerWithFolder,
  waitFor,
} from "./testing.ts";

const version = "5.3.3";

export interface RocketmqTest extends Omit<ServerTest, "needs"> {
  /** What it needs besides RocketMQ. */
  readonly needs?: readonly ServerName[];
}

/** A test that starts RocketMQ. Without its jars it is ignored, with the reason and the command; with `CI` set it fails. */
export function rocketmqTest(test: RocketmqTest): void {
  if (jarsAreThere()) {
    serverTest({ ...test, needs: test.needs ?? [] });
    return;
  }
  const { needs: _, fn, ...definition } = test;
  const reason = "RocketMQ's jars not fetched: .ci/rocketmq.sh";
  const name = `${test.name} [${reason}]`;
  if (Deno.env.get("CI")) Deno.test(name, () => Promise.reject(new Error(reason)));
  else Deno.test({ ...definition, fn, name, ignore: true });
}

/**
 * A name server, and a proxy with a broker in it. What a test does to the server it does to the proxy; the name server
 * stays. Disposing kills both and removes the folder.
 */
export class RocketmqServer extends TestServerWithFolder {
  /** gRPC, where clients connect. */
  readonly port = freePort();
  readonly #namesrvPort = freePort();
  readonly #brokerPort = brokerPort();
  readonly #remotingPort = freePort();
  #namesrv: ServerProcess | undefined;

  /** `host:port` of the proxy. */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts what does not run, again with the same ports and data after {@linkcode kill} or {@linkcode stop}. */
  async start(): Promise<void> {
    if (!this.#namesrv?.running) {
      this.#namesrv = java(this.folder, 128, "namesrv.NamesrvStartup", "-c", "conf/namesrv.conf");
      await this.#namesrv.ready(
        () => this.#namesrv?.output.includes("boot success") ?? false,
        { what: `RocketMQ's name server on port ${this.#namesrvPort}` },
      );
    }
    if (this.process?.running) return;
    const [mode, brokerConf] = [["-pm", "local"], ["-bc", "conf/broker.conf"]];
    const namesrv = ["-n", `127.0.0.1:${this.#namesrvPort}`];
    const proxy = java(this.folder, 512, "proxy.ProxyStartup", ...mode, ...namesrv, ...brokerConf);
    this.process = proxy;
    await proxy.ready(
      () => proxy.output.includes("startup successfully"),
      { what: `RocketMQ's proxy on port ${this.port}` },
    );
  }

  /** A topic of type FIFO with this many queues. The broker keeps it. */
  async createTopic(topic: string, queues = 4): Promise<void> {
    // Fails as long as the broker is not known to the name server.
    await waitFor(async () => {
      const output = await this.admin(
        ...["updateTopic", "-c", "DefaultCluster", "-t", topic, "-a", "+message.type=FIFO"],
        ...["-r", `${queues}`, "-w", `${queues}`],
      );
      return output.includes(" success");
    }, { what: `topic ${topic} in RocketMQ` });
  }

  /** Runs a command of RocketMQ's own tool. @returns what it printed; it tells a failure nowhere else. */
  async admin(...args: readonly string[]): Promise<string> {
    const namesrv = ["-n", `127.0.0.1:${this.#namesrvPort}`];
    await using tool = java(this.folder, 128, "tools.command.MQAdminStartup", ...args, ...namesrv);
    await tool.ended;
    // Waits until all it printed is read.
    await tool.kill();
    return tool.output;
  }

  /** The consumer groups that the broker knows, without its own. */
  async consumerGroups(): Promise<string[]> {
    const file = `${this.folder}/store/config/subscriptionGroup.json`;
    return Object.keys(JSON.parse(await Deno.readTextFile(file)).subscriptionGroupTable);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.kill(), this.#namesrv?.kill()]);
    await super[Symbol.asyncDispose]();
  }

  async configure(): Promise<void> {
    await Deno.mkdir(`${this.folder}/conf`);
    const write = (file: string, settings: Record<string, string | number | boolean>) =>
      Deno.writeTextFile(
        `${this.folder}/conf/${file}`,
        Object.entries(settings).map(([key, value]) => `${key}=${value}\n`).join(""),
      );
    await write("namesrv.conf", { bindAddress: "127.0.0.1", listenPort: this.#namesrvPort });
    await write("broker.conf", {
      brokerClusterName: "DefaultCluster",
      brokerName: "broker-a",
      brokerId: 0,
      brokerIP1: "127.0.0.1",
      bindAddress: "127.0.0.1",
      listenPort: this.#brokerPort,
      haListenPort: this.#brokerPort + 1,
      storePathRootDir: `${this.folder}/store`,
      storePathCommitLog: `${this.folder}/store/commitlog`,
      mappedFileSizeCommitLog: 64 * 1024 * 1024,
      // The test machine's disk may be fuller than a server's should be.
      diskMaxUsedSpaceRatio: 95,
    });
    await Deno.writeTextFile(
      `${this.folder}/conf/rmq-proxy.json`,
      JSON.stringify({
        rocketMQClusterName: "DefaultCluster",
        grpcServerPort: this.port,
        remotingListenPort: this.#remotingPort,
      }),
    );
  }
}

/** Resolves when it serves; takes about six seconds. The topics are made. */
export async function startRocketmq(
  options: { readonly topics?: readonly string[] } = {},
): Promise<RocketmqServer> {
  const folder = await Deno.makeTempDir({ prefix: "gru_rocketmq_" });
  return await started(new RocketmqServer(folder), async (server) => {
    await server.configure();
    await server.start();
    for (const topic of options.topics ?? []) await server.createTopic(topic);
  });
}

/** Besides the port it is given the broker takes those at +1 (replicas) and -2 (a faster lane). */
function brokerPort(): number {
  while (true) {
    const port = freePort();
    try {
      for (const near of [port + 1, port - 2]) {
        Deno.listen({ hostname: "127.0.0.1", port: near }).close();
      }
      return port;
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

function java(folder: string, heapMb: number, main: string, ...args: string[]): ServerProcess {
  return new ServerProcess("java", {
    args: [
      ...[`-Xmx${heapMb}m`, "-XX:MaxDirectMemorySize=512m", "-XX:TieredStopAtLevel=1"],
      // It writes its logs under the home directory, and leaves its keys among the temporary files when it is killed.
      ...[`-Duser.home=${folder}`, `-Djava.io.tmpdir=${folder}`],
      ...["-cp", `${jarsFolder()}/*`, `org.apache.rocketmq.${main}`],
      ...args,
    ],
    cwd: folder,
    env: { ROCKETMQ_HOME: folder },
  });
}

function jarsFolder(): string {
  const cache = Deno.env.get("XDG_CACHE_HOME") || `${Deno.env.get("HOME")}/.cache`;
  return `${cache}/gru/rocketmq-${version}`;
}

function jarsAreThere(): boolean {
  try {
    return Deno.statSync(jarsFolder()).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
