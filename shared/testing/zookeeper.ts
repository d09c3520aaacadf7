/**
 * Real ZooKeeper servers for tests, from Debian's package, with their own ports and folders; they end with the test.
 */
import { cp } from "node:fs/promises";
import { formatHostAndPort } from "../address.ts";
// @ts-types="../zookeeper/client.d.ts"
import zookeeper from "node-zookeeper-client";
import { ask, freePort, ServerProcess, started, TestServerWithFolder } from "./harness.ts";

export interface ZookeeperServerOptions {
  /** The shortest session is two ticks. Default 500; a server in production has 2000. */
  readonly tickMs?: number;
  /** The address to listen on. Default 127.0.0.1. */
  readonly host?: string;
}

export interface ZookeeperCounts {
  readonly all: number;
  readonly ephemeral: number;
  readonly watches: number;
  readonly connections: number;
}

/** Disposing kills it and removes its folder. */
export class ZookeeperServer extends TestServerWithFolder {
  readonly port: number;
  readonly #host: string;

  constructor(port: number, folder: string, host: string) {
    super(folder);
    this.port = port;
    this.#host = host;
  }

  /** `host:port` */
  get address(): string {
    return formatHostAndPort({ host: this.#host, port: this.port });
  }

  /** Starts the server; after {@linkcode kill} with the same port and data. Resolves before it serves. */
  spawn(): void {
    if (this.process?.running) return;
    this.process = new ServerProcess("java", {
      args: [
        ...["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"],
        // A killed process has passed its writes to the kernel, so tests lose nothing without waiting for the disk.
        ...["-Dzookeeper.forceSync=no", "-Dzookeeper.admin.enableServer=false"],
        ...["-Dzookeeper.4lw.commands.whitelist=srvr,mntr"],
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

  /** Removes everything that clients have written. Only while the server is down, as for the next two methods. */
  async empty(): Promise<void> {
    for await (const { name } of Deno.readDir(`${this.folder}/data`)) {
      if (name !== "myid") await Deno.remove(`${this.folder}/data/${name}`, { recursive: true });
    }
  }

  /** Copies the server's data, replacing the last copy. */
  async backUp(): Promise<void> {
    await replace(`${this.folder}/backup`, `${this.folder}/data`);
  }

  async restore(): Promise<void> {
    await replace(`${this.folder}/data`, `${this.folder}/backup`);
  }

  /** The number of nodes, and of the ephemeral ones among them. */
  async nodes(): Promise<{ readonly all: number; readonly ephemeral: number }> {
    const { all, ephemeral } = await this.counts();
    return { all, ephemeral };
  }

  /** The number of nodes, of watches on them, and of connections without the asking one. */
  async counts(): Promise<ZookeeperCounts> {
    const answer = await ask(this.port, "mntr", { hostname: this.#host }) ?? "";
    const count = (name: string) => Number(new RegExp(`^${name}\\s(\\d+)$`, "m").exec(answer)?.[1]);
    return {
      all: count("zk_znode_count"),
      ephemeral: count("zk_ephemerals_count"),
      watches: count("zk_watch_count"),
      connections: count("zk_num_alive_connections") - 1,
    };
  }

  /** The paths of all nodes below `path`, which begins with `/`. */
  async pathsBelow(path: string): Promise<string[]> {
    const options = { sessionTimeout: 10_000, retries: 0 };
    const client = zookeeper.createClient(this.address, options);
    client.connect();
    async function below(parent: string): Promise<string[]> {
      const { promise, resolve } = Promise.withResolvers<string[]>();
      // A node removed in the meantime has no children.
      client.getChildren(parent, undefined, (_, names = []) => resolve(names));
      const paths = (await promise).map((name) => `${parent}/${name}`);
      return [...paths, ...(await Promise.all(paths.map(below))).flat()];
    }
    try {
      return await below(path);
    } finally {
      client.close();
    }
  }

  /** `standalone`, `leader` or `follower`; undefined while the server does not serve. */
  async role(): Promise<string | undefined> {
    const answer = await ask(this.port, "srvr", { hostname: this.#host });
    return /^Mode: (\w+)$/m.exec(answer ?? "")?.[1];
  }
}

async function replace(to: string, from: string): Promise<void> {
  await Deno.remove(to, { recursive: true }).catch(() => {});
  await cp(from, to, { recursive: true });
}

/** Kills all servers, runs `change` on each while all are down, and starts them again. Resolves when they serve. */
export async function whileDown(
  servers: readonly ZookeeperServer[],
  act: (server: ZookeeperServer) => Promise<void>,
): Promise<void> {
  await Promise.all(servers.map((server) => server.kill()));
  await Promise.all(servers.map(act));
  for (const server of servers) server.spawn();
  await Promise.all(servers.map((server) => server.serving()));
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
  /** Returns the port at which server `by` finds the follower port of server `of`: the real one, or a proxy's. */
  readonly link?: (by: number, of: number, port: number) => number;
}

/** Three servers, 1 to 3, that vote; resolves when all serve. When all are equal, the third one leads. */
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
  const { tickMs = 500, host = "127.0.0.1" } = options;
  const folder = await Deno.makeTempDir({ prefix: "gru_zookeeper_" });
  const lines = [
    `tickTime=${tickMs}`,
    "initLimit=20",
    "syncLimit=5",
    `dataDir=${folder}/data`,
    `clientPortAddress=${host}`,
    `clientPort=${port}`,
    "maxClientCnxns=0",
    ...members,
  ];
  await Deno.mkdir(`${folder}/data`);
  await Deno.writeTextFile(`${folder}/zoo.cfg`, `${lines.join("\n")}\n`);
  if (id !== undefined) await Deno.writeTextFile(`${folder}/data/myid`, `${id}\n`);
  return new ZookeeperServer(port, folder, host);
}
