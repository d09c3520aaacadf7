/**
 * A real RocketMQ server for tests, from the jars that `.ci/rocketmq.sh` downloads, with its own ports and folder; it
 * ends with the test.
 */
import {
  freePort,
  type ServerName,
  ServerProcess,
  type ServerTest,
  serverTest,
  started,
  TestServerWithFolder,
  testWith,
  waitFor,
} from "./harness.ts";

const version = "5.3.3";
/** Java takes a minute of a busy machine. */
const startMs = 180_000;

export interface RocketmqTest extends Omit<ServerTest, "needs"> {
  /** Servers that the test needs besides RocketMQ. */
  readonly needs?: readonly ServerName[];
}

/**
 * A test that starts RocketMQ. Without the jars it is ignored, and its title gives the reason and the command; with
 * `CI` set it fails.
 */
export function rocketmqTest(test: RocketmqTest): void {
  const { needs = [], ...definition } = test;
  if (jarsAreThere()) serverTest({ ...definition, needs });
  else testWith("RocketMQ's jars are missing: run .ci/rocketmq.sh", definition);
}

export interface RocketmqSettings {
  /** Created once the server runs, of type FIFO. */
  readonly topics?: readonly string[];
  /** More lines of broker.conf. */
  readonly broker?: Settings;
  /** More keys of rmq-proxy.json. */
  readonly proxy?: Settings;
  /** Users must sign; the admin tool is this one. */
  readonly admin?: { readonly accessKey: string; readonly secretKey: string };
}

type Settings = Readonly<Record<string, string | number | boolean>>;

/** What makes broker and proxy ask each caller who it is, and what it may do. */
function guardSettings(
  admin: NonNullable<RocketmqSettings["admin"]>,
): { readonly broker: Settings; readonly proxy: Settings } {
  const auth = "org.apache.rocketmq.auth";
  const common = {
    authenticationEnabled: true,
    authenticationProvider: `${auth}.authentication.provider.DefaultAuthenticationProvider`,
    authorizationEnabled: true,
    authorizationProvider: `${auth}.authorization.provider.DefaultAuthorizationProvider`,
    innerClientAuthenticationCredentials: JSON.stringify(admin),
  };
  const { accessKey: username, secretKey: password } = admin;
  return {
    broker: {
      ...common,
      initAuthenticationUser: JSON.stringify({ username, password }),
      authenticationMetadataProvider:
        `${auth}.authentication.provider.LocalAuthenticationMetadataProvider`,
      authorizationMetadataProvider:
        `${auth}.authorization.provider.LocalAuthorizationMetadataProvider`,
    },
    proxy: {
      ...common,
      authenticationMetadataProvider:
        "org.apache.rocketmq.proxy.auth.ProxyAuthenticationMetadataProvider",
      authorizationMetadataProvider:
        "org.apache.rocketmq.proxy.auth.ProxyAuthorizationMetadataProvider",
    },
  };
}

/**
 * A name server, and a proxy that contains a broker. Freezing and killing affects the proxy; the name server stays.
 * Disposing kills both and removes the folder.
 */
export class RocketmqServer extends TestServerWithFolder {
  /** The gRPC port for clients. */
  readonly port = freePort();
  readonly #namesrvPort = freePort();
  readonly #brokerPort = brokerPort();
  readonly #remotingPort = freePort();
  #namesrv: ServerProcess | undefined;

  /** `host:port` of the proxy. */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts what is not running; after {@linkcode kill} or {@linkcode stop} with the same ports and data. */
  async start(): Promise<void> {
    if (!this.#namesrv?.running) {
      this.#namesrv = java(this.folder, 128, "namesrv.NamesrvStartup", "-c", "conf/namesrv.conf");
      await this.#namesrv.ready(
        () => this.#namesrv?.output.includes("boot success") ?? false,
        { what: `RocketMQ's name server on port ${this.#namesrvPort}`, timeoutMs: startMs },
      );
    }
    if (this.process?.running) return;
    const [mode, brokerConf] = [["-pm", "local"], ["-bc", "conf/broker.conf"]];
    const namesrv = ["-n", `127.0.0.1:${this.#namesrvPort}`];
    const proxy = java(this.folder, 512, "proxy.ProxyStartup", ...mode, ...namesrv, ...brokerConf);
    this.process = proxy;
    await proxy.ready(
      () => proxy.output.includes("startup successfully"),
      { what: `RocketMQ's proxy on port ${this.port}`, timeoutMs: startMs },
    );
  }

  /** Creates a topic of type FIFO with this many queues. The broker keeps it. */
  async createTopic(topic: string, queues = 4): Promise<void> {
    // Fails until the name server knows the broker.
    await waitFor(async () => {
      const output = await this.admin(
        ...["updateTopic", "-c", "DefaultCluster", "-t", topic, "-a", "+message.type=FIFO"],
        ...["-r", `${queues}`, "-w", `${queues}`],
      );
      return output.includes(" success");
    }, { what: `topic ${topic} in RocketMQ`, timeoutMs: startMs });
  }

  /** Runs a command of RocketMQ's admin tool. @returns its output, which is the only sign of a failure */
  async admin(...args: readonly string[]): Promise<string> {
    const namesrv = ["-n", `127.0.0.1:${this.#namesrvPort}`];
    await using tool = java(this.folder, 128, "tools.command.MQAdminStartup", ...args, ...namesrv);
    await tool.ended;
    // Waits until all its output is read.
    await tool.kill();
    return tool.output;
  }

  /** The consumer groups that the broker knows, except its internal ones. */
  async consumerGroups(): Promise<string[]> {
    const file = `${this.folder}/store/config/subscriptionGroup.json`;
    return Object.keys(JSON.parse(await Deno.readTextFile(file)).subscriptionGroupTable);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.kill(), this.#namesrv?.kill()]);
    await super[Symbol.asyncDispose]();
  }

  async configure({ admin, broker, proxy }: RocketmqSettings = {}): Promise<void> {
    await Deno.mkdir(`${this.folder}/conf`);
    const guard = admin && guardSettings(admin);
    if (admin !== undefined) {
      const { accessKey, secretKey } = admin;
      await Deno.writeTextFile(
        `${this.folder}/conf/tools.yml`,
        `accessKey: ${accessKey}\nsecretKey: ${secretKey}\n`,
      );
    }
    const write = (file: string, settings: Settings) =>
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
      ...guard?.broker,
      ...broker,
    });
    await Deno.writeTextFile(
      `${this.folder}/conf/rmq-proxy.json`,
      JSON.stringify({
        rocketMQClusterName: "DefaultCluster",
        grpcServerPort: this.port,
        remotingListenPort: this.#remotingPort,
        ...guard?.proxy,
        ...proxy,
      }),
    );
  }
}

/** Resolves when the server serves and the topics exist; takes about six seconds. */
export async function startRocketmq(
  options: RocketmqSettings = {},
): Promise<RocketmqServer> {
  const folder = await Deno.makeTempDir({ prefix: "gru_rocketmq_" });
  return await started(new RocketmqServer(folder), async (server) => {
    await server.configure(options);
    await server.start();
    for (const topic of options.topics ?? []) await server.createTopic(topic);
  });
}

/** Besides its port the broker uses port +1 (replicas) and port -2 (a second listener). */
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
      // It writes its logs under the home directory, and leaves its keys in the temporary folder when killed.
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
