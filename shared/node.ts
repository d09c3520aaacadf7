/**
 * What every program of a cluster is and has: a name, a place in the registry, a log, metrics, clients to the other
 * programs, and one inner HTTP port with its RPC service, `/healthz`, `/readyz` and `/metrics`.
 */
import { z } from "zod";
import { ConfigError } from "./config.ts";
import manifest from "./deno.json" with { type: "json" };
import { sayFarewell } from "./farewell.ts";
import { type Logger, logger, logSchema } from "./log.ts";
import { Gauge, Registry as MetricsRegistry } from "./metrics.ts";
import { opsHandler, type OpsOptions } from "./ops.ts";
import type { Registration, Registry } from "./registry.ts";
import { openRegistry, registryShape } from "./registry_open.ts";
import { connectRpc, type RpcClient } from "./rpc/client.ts";
import type { Contract } from "./rpc/contract.ts";
import { readTls, rpcShape } from "./rpc/options.ts";
import { rpcHandler, type Service } from "./rpc/server.ts";
import type { HttpHandler } from "./serve.ts";
import { servePublic } from "./serve_public.ts";
import { openHttp } from "./serve_tls.ts";

export const version: string = manifest.version;

/** The keys that all five profiles have. */
export const nodeShape = {
  id: z.int().min(1).max(1_000_000).describe("with the program's name, the node's name: spear1"),
  host: z.string().min(1).describe("the address to listen on"),
  port: z.int().min(0).max(65_535).describe("the port to listen on; 0: any free one"),
  ...registryShape,
  rpc: rpcShape,
  log: logSchema,
};

const nodeSchema = z.object(nodeShape);
export type NodeConfig = z.output<typeof nodeSchema>;

/** Given by whoever runs several programs in one process; what is given is not closed. */
export interface NodeOverrides {
  readonly registry?: Registry;
  readonly log?: Logger;
}

export interface ServeNodeOptions {
  readonly port: number;
  readonly services?: readonly Service[];
  /** More reasons to be ready or not, besides the registry. */
  readonly ready?: OpsOptions["ready"];
  /**
   * Makes the port one for the outside: this handler, health and metrics, no RPC, no patience with slow requests. In plain
   * HTTP/1.1: the certificates of a profile are for the inside, TLS for clients is the front's.
   */
  readonly app?: HttpHandler;
}

export interface NodeServer extends AsyncDisposable {
  readonly port: number;
  /** Where the others reach it. */
  readonly address: string;
}

export interface Node extends AsyncDisposable {
  /** `spear1` */
  readonly name: string;
  readonly registry: Registry;
  readonly metrics: MetricsRegistry;
  readonly log: Logger;
  connect<C extends Contract>(contract: C): Promise<RpcClient<C>>;
  /** Disposing refuses new calls, lets those under way finish, and closes the port. */
  serve(options: ServeNodeOptions): Promise<NodeServer>;
  /** Tells the others; to be disposed before anything that they might still use. */
  announce(
    addresses: Readonly<Record<string, string>>,
    meta?: Readonly<Record<string, string | number | boolean>>,
  ): Promise<Registration>;
}

/** @throws {ConfigError} RegistryUnavailableError */
export async function openNode(
  program: string,
  config: NodeConfig,
  overrides: NodeOverrides = {},
): Promise<Node> {
  const { rpc, host } = config;
  const name = `${program}${config.id}`;
  const log = overrides.log ?? logger(program);
  const reachableAt = rpc.advertise ?? host;
  if (isWildcard(reachableAt)) {
    throw new ConfigError(
      `${program}: rpc.advertise: missing; with host ${host} the others cannot guess where to reach this program`,
    );
  }
  if (rpc.clusterKey === undefined && !isLoopback(host)) {
    throw new ConfigError(
      `${program}: host: is ${host}, which other machines can reach; set the environment variable GRU_CLUSTER_KEY`,
    );
  }
  const tls = readTls(rpc);
  const registry = overrides.registry ?? await openRegistry(config, log);
  let announced = false;
  const metrics = new MetricsRegistry();
  metrics.setDefaultLabels({ node: name });
  new Gauge({
    name: "gru_registry_connected",
    help: "1 while the registry answers",
    registers: [metrics],
    collect() {
      this.set(registry.state === "connected" ? 1 : 0);
    },
  });

  return {
    name,
    registry,
    metrics,
    log,
    connect: (contract) =>
      connectRpc(contract, {
        registry,
        timeoutMs: rpc.timeoutMs,
        clusterKey: rpc.clusterKey,
        tls,
        metrics,
        log,
      }),
    serve: async ({ port, services = [], ready, app }) => {
      const calls = rpcHandler(services, {
        clusterKey: rpc.clusterKey,
        maxConcurrent: rpc.maxConcurrent,
        metrics,
        log,
      });
      const ops = opsHandler({
        metrics,
        ready: async () => ({
          announced,
          registry: registry.state === "connected",
          ...await ready?.(),
        }),
      });
      const server = app === undefined
        ? await openHttp({
          ...{ host, port, tls },
          // Calls first: nothing else comes thousands of times a second.
          handler: (request) =>
            request.method === "POST" ? calls(request) : ops(request) ?? calls(request),
        })
        : await servePublic({
          ...{ host, port, log },
          handler: (request, caller) => ops(request) ?? app(request, caller),
        });
      const scheme = new URL(server.origin).protocol;
      return {
        port: server.port,
        address: `${scheme}//${bracketed(reachableAt)}:${server.port}`,
        [Symbol.asyncDispose]: () => {
          calls.drain();
          return server[Symbol.asyncDispose]();
        },
      };
    },
    announce: async (addresses, meta = {}) => {
      const life = { service: program, name, startedAt: Date.now() };
      const registration = await registry.register({
        ...life,
        addresses,
        meta: { version, ...meta },
      });
      announced = true;
      return {
        update: ({ meta, ...changes }) =>
          registration.update({
            ...changes,
            ...(meta === undefined ? {} : { meta: { version, ...meta } }),
          }),
        [Symbol.asyncDispose]: async () => {
          announced = false;
          await sayFarewell(registry, life);
          await registration[Symbol.asyncDispose]();
        },
      };
    },
    [Symbol.asyncDispose]: async () => {
      if (overrides.registry === undefined) await registry[Symbol.asyncDispose]();
    },
  };
}

function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** Only this machine reaches it. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(\.\d+){3}$/.test(host);
}

function bracketed(host: string): string {
  return host.includes(":") ? `[${host}]` : host;
}
