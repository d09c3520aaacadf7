/** Real ZooKeeper servers for tests, from Debian's package: own ports, own folders, ended with the test. */
import { ask, freePort, ServerProcess, started, TestServerWithFolder } from "./testing.ts";

export interface ZookeeperServerOptions {
  /** Sessions may be as short as two ticks. Default 500; a server as people run it has 2000. */
  readonly tickMs?: number;
}

/** Disposing kills it and removes its folder. */
export class ZookeeperServer extends TestServerWithFolder {
  readonly port: number;

  constructor(port: number, folder: string) {
    super(folder);
    this.port = port;
  }

  /** `host:port` */
  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  /** Starts it, again with the same port and data after {@linkcode kill}. Resolves before it serves. */
  spawn(): void {
    if (this.process?.running) return;
    this.process = new ServerProcess("java", {
      args: [
        ...["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"],
        // A killed process leaves its writes to the kernel, so tests lose nothing by not waiting for the disk.
        ...["-Dzookeeper.forceSync=no", "-Dzookeeper.admin.enableServer=false"],
        ...["-Dzookeeper.4lw.commands.whitelist=srvr"],
        ...["-cp", "/usr/share/java/zookeeper.jar"],
        ...["org.apache.zookeeper.server.quorum.QuorumPeerMain", `${this.folder}/zoo.cfg`],
      ],
      cwd: this.folder,
    });
  }

  /** Resolves when it serves clients. */
  async serving(): Promise<void> {
    await this.process?.ready(
      async () => await this.role() !== undefined,
      { what: `ZooKeeper on port ${this.port}` },
    );
  }

  async start(): Promise<void> {
    this.spawn();
    await this.serving();
  }

  /** `standalone`, `leader` or `follower`; undefined while it does not serve. */
  async role(): Promise<string | undefined> {
    const answer = await ask(this.port, "srvr");
    return /^Mode: (\w+)$/m.exec(answer ?? "")?.[1];
  }
}

export async function startZookeeper(
  options: ZookeeperServerOptions = {},
): Promise<ZookeeperServer> {
  return await started(await prepare(freePort(), options, []), (server) => server.start());
}

export interface ZookeeperEnsemble extends AsyncDisposable {
  readonly servers: readonly ZookeeperServer[];
  readonly addresses: readonly string[];
  leader(): Promise<ZookeeperServer | undefined>;
}

export interface EnsembleOptions extends ZookeeperServerOptions {
  /** Gives the port at which server `by` finds the port of server `of` for followers: that one's own, or a proxy's. */
  readonly link?: (by: number, of: number, port: number) => number;
}

/** Three servers, 1 to 3, that vote; resolves when all serve. Of equals, the third leads. */
export async function startEnsemble(options: EnsembleOptions = {}): Promise<ZookeeperEnsemble> {
  const { link = (_by, _of, port) => port } = options;
  const ids = [1, 2, 3];
  const ports = ids.map((id) => ({ id, quorum: freePort(), election: freePort() }));
  await using started = new AsyncDisposableStack();
  const servers: ZookeeperServer[] = [];
  for (const by of ids) {
    const members = ports.map(({ id, quorum, election }) =>
      `server.${id}=127.0.0.1:${link(by, id, quorum)}:${election}`
    );
    servers.push(started.use(await prepare(freePort(), options, members, by)));
  }
  for (const server of servers) server.spawn();
  await Promise.all(servers.map((server) => server.serving()));
  const owned = started.move();
  return {
    servers,
    addresses: servers.map((server) => server.address),
    leader: async () => {
      const roles = await Promise.all(servers.map((server) => server.role()));
      return servers[roles.indexOf("leader")];
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  };
}

async function prepare(
  port: number,
  options: ZookeeperServerOptions,
  members: readonly string[],
  id?: number,
): Promise<ZookeeperServer> {
  const { tickMs = 500 } = options;
  const folder = await Deno.makeTempDir({ prefix: "gru_zookeeper_" });
  const lines = [
    `tickTime=${tickMs}`,
    "initLimit=20",
    "syncLimit=5",
    `dataDir=${folder}/data`,
    "clientPortAddress=127.0.0.1",
    `clientPort=${port}`,
    "maxClientCnxns=0",
    ...members,
  ];
  await Deno.mkdir(`${folder}/data`);
  await Deno.writeTextFile(`${folder}/zoo.cfg`, `${lines.join("\n")}\n`);
  if (id !== undefined) await Deno.writeTextFile(`${folder}/data/myid`, `${id}\n`);
  return new ZookeeperServer(port, folder);
}
