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
  TestServer,
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
  /** Default 1, which the proxy contains. */
  readonly brokers?: number;
  /** Of type FIFO, with four queues on each broker; there from the start. */
  readonly topics?: readonly string[];
  /** More lines of each broker's file. */
  readonly broker?: Settings;
  /** More keys of rmq-proxy.json. */
  readonly proxy?: Settings;
  /** Users must sign; the admin tool is this one. */
  readonly admin?: Credentials;
}

interface Credentials {
  readonly accessKey: string;
  readonly secretKey: string;
}

type Settings = Readonly<Record<string, string | number | boolean>>;

/** What makes broker and proxy ask each caller who it is, and what it may do. */
function guardSettings(
  admin: Credentials,
): { readonly broker: Settings; readonly proxy: Settings } {
  const auth = "org.apache.rocketmq.auth";
  const common = {
    authenticationEnabled: true,
    authenticationProvider: `${auth}.authentication.provider.DefaultAuthenticationProvider`,
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
      authorizationEnabled: true,
      // Without this a proxy in cluster mode signs nothing that it asks its brokers, and does not start.
      enableAclRpcHookForClusterMode: true,
      authenticationMetadataProvider:
        "org.apache.rocketmq.proxy.auth.ProxyAuthenticationMetadataProvider",
      authorizationMetadataProvider:
        "org.apache.rocketmq.proxy.auth.ProxyAuthorizationMetadataProvider",
    },
  };
}

/**
 * A name server, and a proxy that contains a broker; or, with more brokers than one, a proxy in cluster mode in front of
 * them. Freezing and killing affects the proxy and a broker that it contains; the name server stays. Disposing kills all
 * and removes the folder.
 */
export class RocketmqServer extends TestServerWithFolder {
  /** The gRPC port for clients. */
  readonly port = freePort();
  /** In front of which there is a proxy in cluster mode; none where the proxy contains the only one. */
  readonly brokers: readonly RocketmqBrokerServer[];
  readonly #settings: RocketmqSettings;
  readonly #namesrvPort = freePort();
  #namesrv: ServerProcess | undefined;

  constructor(folder: string, settings: RocketmqSettings = {}) {
    super(folder);
    this.#settings = settings;
    const names = this.#brokerNames;
    this.brokers = names.length === 1
      ? []
      : names.map((name) => new RocketmqBrokerServer(folder, name));
  }

  get #brokerNames(): readonly string[] {
    return Array.from({ length: this.#settings.brokers ?? 1 }, (_, i) => brokerName(i));
  }

  /** `host:port` of the proxy. */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts what is not running; after {@linkcode kill} or {@linkcode stop} with the same ports and data. */
  async start(): Promise<void> {
    await this.#startNamesrv();
    // A proxy in cluster mode ends at its start unless the name server knows the brokers.
    await Promise.all(this.brokers.map((broker) => broker.start()));
    await this.#startProxy();
  }

  async #startNamesrv(): Promise<void> {
    if (this.#namesrv?.running) return;
    const namesrv = java(this.folder, 128, "namesrv.NamesrvStartup", "-c", "conf/namesrv.conf");
    this.#namesrv = namesrv;
    await namesrv.ready(
      () => namesrv.output.includes("boot success"),
      { what: `RocketMQ's name server on port ${this.#namesrvPort}`, timeoutMs: startMs },
    );
  }

  async #startProxy(): Promise<void> {
    if (this.process?.running) return;
    const mode = this.brokers.length > 0
      ? ["-pm", "cluster"]
      : ["-pm", "local", "-bc", `conf/${brokerName(0)}.conf`];
    const namesrv = ["-n", `127.0.0.1:${this.#namesrvPort}`];
    const proxy = java(this.folder, 512, "proxy.ProxyStartup", ...mode, ...namesrv);
    this.process = proxy;
    await proxy.ready(
      () => proxy.output.includes("startup successfully"),
      { what: `RocketMQ's proxy on port ${this.port}`, timeoutMs: startMs },
    );
  }

  /** Creates a topic of type FIFO with this many queues on each broker. The brokers keep it. */
  async createTopic(topic: string, queues = 4): Promise<void> {
    const size = ["-r", `${queues}`, "-w", `${queues}`];
    await this.#onEachBroker("updateTopic", "-t", topic, "-a", "+message.type=FIFO", ...size);
  }

  /** Makes a user on each broker, with the rights that a spear needs. */
  async allow({ accessKey, secretKey }: Credentials, topic: string): Promise<void> {
    await this.#onEachBroker("createUser", "-u", accessKey, "-p", secretKey, "-t", "Normal");
    const rights = ["-r", `Topic:${topic},Group:*`, "-a", "Pub,Sub,Get", "-d", "Allow"];
    await this.#onEachBroker("createAcl", "-s", `User:${accessKey}`, ...rights);
  }

  /**
   * Waits until the name server knows each broker, which may be later than the broker serves: the tool passes over one
   * that it does not know, and says nothing.
   */
  async #onEachBroker(...command: readonly string[]): Promise<void> {
    const names = this.#brokerNames;
    await waitFor(async () => {
      const known = await this.admin("clusterList");
      return names.every((name) => known.includes(name));
    }, { what: "brokers known to RocketMQ's name server", timeoutMs: startMs });
    const output = await this.admin(...command, "-c", clusterName);
    if (output.split(" success").length > names.length) return;
    throw new Error(`RocketMQ's ${command[0]} did not succeed on each broker: ${output}`);
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
    const file = `${this.folder}/${brokerName(0)}/config/subscriptionGroup.json`;
    return Object.keys(JSON.parse(await Deno.readTextFile(file)).subscriptionGroupTable);
  }

  override async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.brokers, this.#namesrv].map((it) => it?.kill()));
    await super[Symbol.asyncDispose]();
  }

  /** So that the tool is not needed, whose start takes seconds. */
  async #writeTopics(folder: string): Promise<void> {
    await Deno.mkdir(folder, { recursive: true });
    const topics = (this.#settings.topics ?? []).map((name) => [name, fifoTopic(name)]);
    await Deno.writeTextFile(
      `${folder}/topics.json`,
      JSON.stringify({
        dataVersion: { counter: 1, stateVersion: 0, timestamp: Date.now() },
        topicConfigTable: Object.fromEntries(topics),
      }),
    );
  }

  async configure(): Promise<void> {
    const { admin, broker, proxy } = this.#settings;
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
    const names = this.#brokerNames;
    for (const name of names) {
      const port = brokerPort();
      await write(`${name}.conf`, {
        brokerClusterName: clusterName,
        brokerName: name,
        brokerId: 0,
        brokerIP1: "127.0.0.1",
        bindAddress: "127.0.0.1",
        listenPort: port,
        haListenPort: port + 1,
        namesrvAddr: `127.0.0.1:${this.#namesrvPort}`,
        storePathRootDir: `${this.folder}/${name}`,
        storePathCommitLog: `${this.folder}/${name}/commitlog`,
        mappedFileSizeCommitLog: 64 * 1024 * 1024,
        // The test machine's disk may be fuller than a server's should be.
        diskMaxUsedSpaceRatio: 95,
        ...guard?.broker,
        ...broker,
      });
    }
    for (const name of names) await this.#writeTopics(`${this.folder}/${name}/config`);
    await Deno.writeTextFile(
      `${this.folder}/conf/rmq-proxy.json`,
      JSON.stringify({
        rocketMQClusterName: clusterName,
        grpcServerPort: this.port,
        remotingListenPort: freePort(),
        namesrvAddr: `127.0.0.1:${this.#namesrvPort}`,
        ...guard?.proxy,
        ...proxy,
      }),
    );
  }
}

/** As the broker's file of topics has it. */
function fifoTopic(topicName: string) {
  return {
    topicName,
    attributes: { "message.type": "FIFO" },
    order: false,
    perm: 6,
    readQueueNums: 4,
    writeQueueNums: 4,
    topicFilterType: "SINGLE_TAG",
    topicSysFlag: 0,
  };
}

/** A broker in a process of its own. */
class RocketmqBrokerServer extends TestServer {
  readonly name: string;
  readonly #folder: string;

  constructor(folder: string, name: string) {
    super();
    this.#folder = folder;
    this.name = name;
  }

  /** Resolves when the name server knows it. */
  async start(): Promise<void> {
    if (this.process?.running) return;
    const conf = `conf/${this.name}.conf`;
    const broker = java(this.#folder, 384, "broker.BrokerStartup", "-c", conf);
    this.process = broker;
    await broker.ready(
      () => broker.output.includes("boot success"),
      { what: `RocketMQ's ${this.name}`, timeoutMs: startMs },
    );
  }
}

const clusterName = "DefaultCluster";

function brokerName(index: number): string {
  return `broker-${"abcdefgh"[index]}`;
}

/** Resolves when the server serves and the topics exist; takes about six seconds. */
export async function startRocketmq(
  options: RocketmqSettings = {},
): Promise<RocketmqServer> {
  const folder = await Deno.makeTempDir({ prefix: "gru_rocketmq_" });
  return await started(new RocketmqServer(folder, options), async (server) => {
    await server.configure();
    await server.start();
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
