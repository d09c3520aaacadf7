/**
 * What kind of Redis there is: one server, one behind Sentinel, a Cluster, or several servers that share the keys. Its
 * users see only which server has a key.
 */
import type { RedisAddress, RedisEndpoint } from "@gru/shared/redis/address";
import { ClusterRedisTopology } from "./cluster.ts";
import {
  closeServer,
  isUsable,
  openServer,
  reconnectServer,
  type RedisServer,
  type RedisTopology,
  type RedisTopologyOptions,
  troubleOf,
} from "./server.ts";
import { ShardsRedisTopology } from "./shards.ts";

export type { RedisServer, RedisTopology, RedisTopologyOptions };

/** Begins to connect; where that fails it goes on trying until it is disposed. */
export function openTopology(
  address: RedisAddress,
  options: Omit<RedisTopologyOptions, "username" | "admit">,
): RedisTopology {
  const all = { ...options, username: address.username };
  switch (address.kind) {
    case "cluster":
      return new ClusterRedisTopology(address.nodes, all);
    case "shards":
      return new ShardsRedisTopology(address.nodes, all);
    case "one":
      return new SingleRedisTopology(address.place, all);
  }
}

/** One server for all keys, or the one that Sentinel calls the primary. */
class SingleRedisTopology implements RedisTopology {
  readonly sharded = false;
  readonly #server: RedisServer;

  constructor(place: RedisEndpoint, options: RedisTopologyOptions) {
    this.#server = openServer(place, options);
  }

  get usable(): boolean {
    return isUsable(this.#server);
  }

  get trouble(): string {
    return troubleOf(this.#server);
  }

  serverOf(): RedisServer {
    return this.#server;
  }

  /** It has become a replica: a new connection goes to the present primary. */
  refresh(server: RedisServer): void {
    reconnectServer(server);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return closeServer(this.#server);
  }
}
