/** The registry over ZooKeeper. */
import type { Logger } from "./log.ts";
import type { Registry } from "./registry.ts";

export interface ZookeeperOptions {
  /** `host:port` of each server of the ensemble. */
  readonly servers: readonly string[];
  /** The path below which everything lives, e.g. `/gru`. */
  readonly root: string;
  readonly sessionMs: number;
  /** `user:password`: authenticates by digest and gives only these credentials access. */
  readonly credentials?: string;
  readonly log: Logger;
}

export function connectZookeeper(_options: ZookeeperOptions): Promise<Registry> {
  throw new Error("being written");
}
