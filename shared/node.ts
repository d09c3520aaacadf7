/**
 * What every program of a cluster is and has: a name, an address, a place in the registry, a log, metrics, and one
 * inner HTTP port with its RPC service, `/healthz`, `/readyz` and `/metrics`.
 */
import { Registry as MetricsRegistry } from "prom-client";
import { z } from "zod";
import { type Logger, logger, logSchema } from "./log.ts";
import { openRegistry, registryShape } from "./registry_open.ts";
import type { Registry } from "./registry.ts";
import { rpcShape } from "./rpc/options.ts";

/** The keys that all five profiles have. */
export const nodeShape = {
  id: z.number().int().min(1).max(1_000_000).describe(
    "with the program's name, the node's name: spear1",
  ),
  host: z.string().min(1).describe("the address to listen on"),
  port: z.number().int().min(0).max(65_535).describe("the port to listen on; 0: any free one"),
  ...registryShape,
  rpc: rpcShape,
  log: logSchema,
};

const nodeSchema = z.object(nodeShape);
export type NodeConfig = z.output<typeof nodeSchema>;

/** Given by whoever runs several programs in one process; what is given is not closed. */
export interface NodeOverrides {
  readonly registry?: Registry;
  readonly metrics?: MetricsRegistry;
  readonly log?: Logger;
}

export interface Node extends AsyncDisposable {
  /** `spear1` */
  readonly name: string;
  readonly registry: Registry;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
}

export async function openNode(
  program: string,
  config: NodeConfig,
  overrides: NodeOverrides = {},
): Promise<Node> {
  const log = overrides.log ?? logger(program);
  const registry = overrides.registry ?? await openRegistry(config, log);
  return {
    name: `${program}${config.id}`,
    registry,
    metrics: overrides.metrics ?? new MetricsRegistry(),
    log,
    [Symbol.asyncDispose]: async () => {
      if (overrides.registry === undefined) await registry[Symbol.asyncDispose]();
    },
  };
}
