/** Several real Redis servers that work together: a Cluster, or a primary with a replica and Sentinels. */
import { slotOf } from "../redis/cluster.ts";
import { freePort, ServerProcess, waitFor } from "./harness.ts";
import { type RedisServer, startRedis, withRedis } from "./redis.ts";

/** Three primaries, and a replica for each if requested. */
export class RedisClusterServers implements AsyncDisposable {
  readonly servers: readonly RedisServer[];
  readonly #running: AsyncDisposable;

  private constructor(servers: readonly RedisServer[], running: AsyncDisposable) {
    this.servers = servers;
    this.#running = running;
  }

  static async start(options: { readonly replicas: boolean }): Promise<RedisClusterServers> {
    await using stack = new AsyncDisposableStack();
    const start = async () => {
      const busPort = freePort();
      const server = await startRedis({
        appendOnly: true,
        args: [
          ...["--cluster-enabled", "yes", "--cluster-port", `${busPort}`],
          ...["--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"],
        ],
      });
      return { server: stack.use(server), busPort };
    };
    const nodes = await Promise.all(
      Array.from({ length: options.replicas ? 6 : 3 }, start),
    );
    await form(nodes);
    return new RedisClusterServers(nodes.map(({ server }) => server), stack.move());
  }

  get url(): string {
    return `cluster:${this.servers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  }

  /** The primary that has the target, as reported by the servers. */
  async ownerOf(target: string): Promise<RedisServer> {
    const slot = slotOf(target);
    for (const { port } of this.servers) {
      const ranges = await ask(port, "CLUSTER", "SLOTS").catch(() => []) as Range[];
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      const owner = this.servers.find((server) => server.port === range?.[2][1]);
      if (owner !== undefined) return owner;
    }
    throw new Error(`no server has slot ${slot}`);
  }

  async loseData(): Promise<void> {
    await Promise.all(this.servers.map(({ port }) => ask(port, "FLUSHALL")));
  }

  /** Moves the target's slot with all its keys to another primary, as redis-cli does. */
  async move(target: string, to: RedisServer): Promise<void> {
    const slot = slotOf(target);
    const from = await this.ownerOf(target);
    const fromId = String(await ask(from.port, "CLUSTER", "MYID"));
    const toId = String(await ask(to.port, "CLUSTER", "MYID"));
    await ask(to.port, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromId);
    await ask(from.port, "CLUSTER", "SETSLOT", slot, "MIGRATING", toId);
    for (;;) {
      const keys = await ask(from.port, "CLUSTER", "GETKEYSINSLOT", slot, 10) as string[];
      if (keys.length === 0) break;
      await ask(from.port, "MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", ...keys);
    }
    for (const { port } of [to, from]) await ask(port, "CLUSTER", "SETSLOT", slot, "NODE", toId);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running[Symbol.asyncDispose]();
  }
}

type Range = [from: number, to: number, owner: [host: string, port: number]];

function ask(port: number, command: string, ...args: (string | number)[]): Promise<unknown> {
  return withRedis(port, (redis) => redis.call(command, ...args));
}

async function form(
  nodes: readonly { readonly server: RedisServer; readonly busPort: number }[],
): Promise<void> {
  const ports = nodes.map(({ server }) => server.port);
  const everywhere = (pattern: RegExp, count: number, subcommand: string) =>
    waitFor(async () => {
      const texts = await Promise.all(ports.map((port) => ask(port, "CLUSTER", subcommand)));
      return texts.every((text) => (String(text).match(pattern) ?? []).length === count);
    }, { what: `CLUSTER ${subcommand} with ${count} times ${pattern} at every node` });

  for (const [i, port] of ports.entries()) {
    const slots = [[0, 5460], [5461, 10_922], [10_923, 16_383]][i];
    if (slots !== undefined) await ask(port, "CLUSTER", "ADDSLOTSRANGE", ...slots);
    // Equal epochs would have to be resolved first.
    await ask(port, "CLUSTER", "SET-CONFIG-EPOCH", i + 1);
  }
  const [first = 0] = ports;
  for (const { server, busPort } of nodes.slice(1)) {
    await ask(first, "CLUSTER", "MEET", "127.0.0.1", server.port, busPort);
  }
  await everywhere(/ connected/g, nodes.length, "NODES");
  await everywhere(/cluster_state:ok/g, 1, "INFO");
  const replicas = ports.slice(3);
  for (const [i, port] of replicas.entries()) {
    const primaryId = String(await ask(ports[i] ?? 0, "CLUSTER", "MYID"));
    // The replica must know the primary first.
    await waitFor(() => ask(port, "CLUSTER", "REPLICATE", primaryId).then(() => true, () => false));
  }
  await everywhere(/slave/g, replicas.length, "NODES");
  for (const port of replicas) await isInStep(port);
}

async function isInStep(port: number): Promise<void> {
  await waitFor(async () => String(await ask(port, "INFO")).includes("master_link_status:up"), {
    what: "a replica in step with its primary",
  });
}

/** A primary, a replica and three Sentinels that fail over within a few seconds. */
export class SentinelServers implements AsyncDisposable {
  readonly primary: RedisServer;
  readonly replica: RedisServer;
  readonly url: string;
  readonly #running: AsyncDisposable;

  private constructor(
    primary: RedisServer,
    replica: RedisServer,
    sentinelPorts: readonly number[],
    running: AsyncDisposable,
  ) {
    this.primary = primary;
    this.replica = replica;
    this.url = `sentinel:${sentinelPorts.map((port) => `127.0.0.1:${port}`).join(",")}/gru`;
    this.#running = running;
  }

  static async start(): Promise<SentinelServers> {
    await using stack = new AsyncDisposableStack();
    const primary = stack.use(await startRedis({ appendOnly: true }));
    const replica = stack.use(
      await startRedis({
        appendOnly: true,
        args: [
          ...["--replicaof", "127.0.0.1", `${primary.port}`, "--repl-diskless-sync-delay", "0"],
        ],
      }),
    );
    await isInStep(replica.port);
    const ports = await Promise.all([1, 2, 3].map(() => startSentinel(primary.port, stack)));
    for (const port of ports) {
      await waitFor(async () => {
        const state = String(await ask(port, "SENTINEL", "MASTER", "gru"));
        return /num-slaves,1,/.test(state) && /num-other-sentinels,2,/.test(state);
      }, { what: "a sentinel that knows the replica and the other sentinels" });
    }
    return new SentinelServers(primary, replica, ports, stack.move());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#running[Symbol.asyncDispose]();
  }
}

async function startSentinel(primaryPort: number, stack: AsyncDisposableStack): Promise<number> {
  const port = freePort();
  const folder = await Deno.makeTempDir({ prefix: "gru_sentinel_" });
  stack.defer(() => Deno.remove(folder, { recursive: true }));
  const file = `${folder}/sentinel.conf`;
  await Deno.writeTextFile(
    file,
    [
      ...[`port ${port}`, "bind 127.0.0.1", `dir ${folder}`],
      `sentinel monitor gru 127.0.0.1 ${primaryPort} 2`,
      "sentinel down-after-milliseconds gru 1000",
      "sentinel failover-timeout gru 5000",
    ].join("\n"),
  );
  const process = stack.use(
    new ServerProcess("redis-server", { args: [file, "--sentinel"], cwd: folder }),
  );
  await process.ready(
    () => ask(port, "PING").then(() => true, () => false),
    { what: `a sentinel on port ${port}` },
  );
  return port;
}
