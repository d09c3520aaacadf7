/** Real Redis for the broker's tests: one server, a Cluster, a primary with a replica and Sentinels. */
import { Redis } from "ioredis";
import { logger } from "@gru/shared/log";
import { freePort, waitFor } from "@gru/shared/testing";
import { type RedisServer, startRedis } from "@gru/shared/testing_redis";
import { RedisBroker } from "./broker_redis.ts";
import type { BrokerCluster } from "./broker_testing.ts";
import { slotOf } from "./redis_cluster.ts";

/** Asks a server something over a connection of its own. */
export async function withRedis<T>(
  port: number,
  work: (redis: Redis) => Promise<T>,
): Promise<T> {
  const redis = new Redis({ port, lazyConnect: true });
  const ended = new Promise((resolve) => redis.once("end", resolve));
  try {
    await redis.connect();
    return await work(redis);
  } finally {
    redis.disconnect();
    await ended;
  }
}

/** The nodes of a broker over the Redis at `url`; `through` may give each another way there. */
export function brokersOver(
  url: string,
  options: {
    readonly through?: () => { readonly port: number } & AsyncDisposable;
    readonly loseData?: () => Promise<void>;
  } = {},
): BrokerCluster {
  const stack = new AsyncDisposableStack();
  const received = new Map<unknown, CountingProxy>();
  let opened = 0;
  return {
    open: async (sink, settings) => {
      const way = options.through && stack.use(options.through());
      const broker = new RedisBroker({
        url: way === undefined ? url : `redis://127.0.0.1:${way.port}`,
        node: `spear${++opened}`,
        log: logger("spear"),
        ...settings,
      }, sink);
      if (way instanceof CountingProxy) received.set(broker, way);
      await waitFor(() => broker.connected, { what: "a broker that is connected" });
      return broker;
    },
    received: (broker) => received.get(broker)?.received ?? NaN,
    ...(options.loseData === undefined ? {} : { loseData: options.loseData }),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Passes everything on, counts the bytes that come from the server, and can hold one request back. */
export class CountingProxy implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections = new Set<Deno.Conn>();
  readonly #serving: Promise<void>;
  #held: Held | undefined;
  received = 0;

  constructor(port: number) {
    this.#serving = this.#serve(port);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  /** Keeps the next request that contains the word to itself and ends the client's side of that connection. */
  holdNext(word: string): { readonly sprung: () => boolean; deliver(): Promise<string> } {
    const answer = Promise.withResolvers<string>();
    const held: Held = this.#held = { word, request: undefined, server: undefined, answer };
    return {
      sprung: () => held.server !== undefined,
      /** Resolves to what the server answers to it. */
      deliver: async () => {
        await held.server?.write(held.request ?? new Uint8Array());
        return await answer.promise;
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) connection.close();
    this.#connections.clear();
    await this.#serving;
  }

  async #serve(port: number): Promise<void> {
    const pumps: Promise<void>[] = [];
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname: "127.0.0.1", port });
      this.#connections.add(client).add(server);
      pumps.push(this.#toServer(client, server), this.#toClient(server, client));
    }
    await Promise.all(pumps);
  }

  #toServer(client: Deno.Conn, server: Deno.Conn): Promise<void> {
    return this.#pump(client, server, (chunk) => {
      const held = this.#held;
      if (held === undefined || held.server !== undefined) return true;
      if (!new TextDecoder().decode(chunk).includes(held.word)) return true;
      held.request = chunk.slice();
      held.server = server;
      this.#end(client);
      return false;
    });
  }

  #toClient(server: Deno.Conn, client: Deno.Conn): Promise<void> {
    return this.#pump(server, client, (chunk) => {
      this.received += chunk.length;
      if (this.#held?.server !== server) return true;
      this.#held.answer.resolve(new TextDecoder().decode(chunk));
      return false;
    });
  }

  /** Passes on what `look` wants to be passed on, until either side ends. */
  async #pump(
    from: Deno.Conn,
    to: Deno.Conn,
    look: (chunk: Uint8Array) => boolean,
  ): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (let length; (length = await from.read(buffer)) !== null;) {
        const chunk = buffer.subarray(0, length);
        if (!look(chunk)) continue;
        for (let sent = 0; sent < length;) sent += await to.write(chunk.subarray(sent));
      }
    } catch {
      // Either side went away.
    }
    for (const connection of [from, to]) {
      if (connection !== this.#held?.server) this.#end(connection);
    }
  }

  #end(connection: Deno.Conn): void {
    if (this.#connections.delete(connection)) connection.close();
  }
}

interface Held {
  readonly word: string;
  readonly answer: PromiseWithResolvers<string>;
  request: Uint8Array | undefined;
  /** Set from when it is held back. */
  server: Deno.Conn | undefined;
}

/** Three primaries, and for each a replica where wanted. */
export class RedisClusterServers implements AsyncDisposable {
  readonly servers: readonly RedisServer[];

  private constructor(servers: readonly RedisServer[]) {
    this.servers = servers;
  }

  static async start(options: { readonly replicas: boolean }): Promise<RedisClusterServers> {
    const count = options.replicas ? 6 : 3;
    await using stack = new AsyncDisposableStack();
    const servers = await Promise.all(
      Array.from({ length: count }, async () =>
        stack.use(
          await startRedis({
            appendOnly: true,
            args: [
              ...["--cluster-enabled", "yes", "--cluster-port", `${freePort()}`],
              ...["--cluster-node-timeout", "2000", "--repl-diskless-sync-delay", "0"],
            ],
          }),
        )),
    );
    const cluster = new RedisClusterServers(servers);
    await cluster.#form(options.replicas);
    const running = stack.move();
    return Object.assign(cluster, { [Symbol.asyncDispose]: () => running.disposeAsync() });
  }

  get url(): string {
    return `cluster:${this.servers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  }

  /** The one that has the target, as most of them see it. */
  async ownerOf(target: string): Promise<RedisServer> {
    const slot = slotOf(target);
    for (const asked of this.servers) {
      const ranges = await withRedis(asked.port, (redis) => redis.call("CLUSTER", "SLOTS"))
        .catch(() => []) as [number, number, [string, number]][];
      const range = ranges.find(([from, to]) => from <= slot && slot <= to);
      const owner = this.servers.find(({ port }) => port === range?.[2][1]);
      if (owner !== undefined) return owner;
    }
    throw new Error(`nobody has slot ${slot}`);
  }

  async flush(): Promise<void> {
    for (const { port } of this.servers) await withRedis(port, (redis) => redis.flushall());
  }

  /** Moves the slot of a target with all its keys to another server. */
  async move(target: string, from: RedisServer, to: RedisServer): Promise<void> {
    const slot = String(slotOf(target));
    const [fromId, toId] = await Promise.all(
      [from, to].map(({ port }) =>
        withRedis(port, async (redis) => String(await redis.call("CLUSTER", "MYID")))
      ),
    ) as [string, string];
    const setSlot = (server: RedisServer, ...args: string[]) =>
      withRedis(server.port, (redis) => redis.call("CLUSTER", "SETSLOT", slot, ...args));
    await setSlot(to, "IMPORTING", fromId);
    await setSlot(from, "MIGRATING", toId);
    await withRedis(from.port, async (redis) => {
      while (true) {
        const keys = await redis.call("CLUSTER", "GETKEYSINSLOT", slot, "10") as string[];
        if (keys.length === 0) return;
        await redis.call(
          ...["MIGRATE", "127.0.0.1", `${to.port}`, "", "0", "5000", "KEYS", ...keys] as [
            string,
            ...string[],
          ],
        );
      }
    });
    for (const server of [to, from, ...this.servers]) {
      await setSlot(server, "NODE", toId).catch(() => {});
    }
  }

  async #form(replicas: boolean): Promise<void> {
    const [first, ...others] = this.servers;
    const busPorts = await Promise.all(
      others.map(({ port }) =>
        withRedis(port, async (redis) =>
          /cluster-port\n?,?(\d+)/.exec(
            String(await redis.config("GET", "cluster-port")),
          )?.[1] ?? "")
      ),
    );
    const ids = await Promise.all(
      this.servers.map(({ port }) =>
        withRedis(port, async (redis) => String(await redis.call("CLUSTER", "MYID")))
      ),
    );
    for (const [i, { port }] of this.servers.entries()) {
      await withRedis(port, async (redis) => {
        if (i < 3) {
          const range = [[0, 5460], [5461, 10_922], [10_923, 16_383]][i] ?? [];
          await redis.call("CLUSTER", "ADDSLOTSRANGE", ...range);
        }
        // Alike epochs would have to be sorted out first.
        await redis.call("CLUSTER", "SET-CONFIG-EPOCH", i + 1);
      });
    }
    await withRedis(first?.port ?? 0, async (redis) => {
      for (const [i, { port }] of others.entries()) {
        await redis.call("CLUSTER", "MEET", "127.0.0.1", port, busPorts[i] ?? "");
      }
    });
    const everywhere = (pattern: RegExp, count: number, ...question: [string, ...string[]]) =>
      waitFor(
        async () =>
          (await Promise.all(
            this.servers.map(({ port }) =>
              withRedis(port, async (redis) => String(await redis.call(...question)))
            ),
          )).every((text) => (text.match(pattern) ?? []).length === count),
        {
          what: `${question.join(" ")} with ${count} times ${pattern} at every node`,
        },
      );
    await everywhere(/ connected/g, this.servers.length, "CLUSTER", "NODES");
    if (replicas) {
      for (const [i, { port }] of this.servers.slice(3).entries()) {
        await withRedis(port, (redis) => redis.call("CLUSTER", "REPLICATE", ids[i] ?? ""));
      }
      await everywhere(/ slave /g, 0 + 3, "CLUSTER", "NODES").catch(() => {});
      await everywhere(/slave/g, 3, "CLUSTER", "NODES");
      for (const { port } of this.servers.slice(3)) {
        await waitFor(() =>
          withRedis(port, async (redis) => /master_link_status:up/.test(await redis.info()))
        );
      }
    }
    await everywhere(/cluster_state:ok/g, 1, "CLUSTER", "INFO");
  }

  // Replaced by the one that ends the servers.
  [Symbol.asyncDispose](): Promise<void> {
    return Promise.resolve();
  }
}
