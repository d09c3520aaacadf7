/**
 * What every program of a cluster is and has: a name, a place in the registry, a log, metrics, clients to the other
 * programs, and one inner HTTP port with its RPC service, `/healthz`, `/readyz` and `/metrics`.
 */
import { z } from "zod";
import { bracketed, hostSchema } from "./address.ts";
import { type AgreementOptions, publishedClaim, watchAgreement } from "./agreement.ts";
import { type ClockWatch, watchClock } from "./clock_watch.ts";
import { ConfigError } from "./config.ts";
import { isLoopback, missingGuards } from "./http/exposure.ts";
import manifest from "./deno.json" with { type: "json" };
import { recordOrderlyStop } from "./registry/orderly_stop.ts";
import { instanceKey, type Logger, logger, logSchema } from "./log.ts";
import { openMetrics, Registry as MetricsRegistry } from "./metrics.ts";
import { opsHandler, type OpsOptions } from "./http/ops.ts";
import type { Instance, Registration, Registry } from "./registry/registry.ts";
import { openRegistry, registryShape } from "./open_registry.ts";
import { connectRpc, type RpcClient } from "./rpc/client.ts";
import type { Contract } from "./rpc/contract.ts";
import { readTls, rpcShape } from "./rpc/options.ts";
import { rpcHandler, type Service } from "./rpc/server.ts";
import { sameOrigin } from "./http/same_origin.ts";
import { type BodyLimit, type HttpHandler, serveHttp } from "./http/serve.ts";
import { Readiness } from "./readiness.ts";

export const version: string = manifest.version;

/** The keys that all five profiles have. @param defaultPort of the program, as in Gru's sample profiles */
export function nodeShape(defaultPort: number) {
  return {
    id: z.int().min(1).max(1_000_000).default(1).describe(
      "makes the node's name together with the program's: spear1; each running node of a program needs its own",
    ),
    host: hostSchema().default("127.0.0.1").describe(
      "the address to listen on; 0.0.0.0 and :: stand for all addresses of the machine",
    ),
    port: z.int().min(0).max(65_535).default(defaultPort).describe(
      "the port to listen on; 0: any free one",
    ),
    keepAliveMs: z.int().min(1000).max(3_600_000).default(75_000).describe(
      "milliseconds that an idle HTTP connection stays open; set it longer than a load balancer's own, often 60 s",
    ),
    httpConnections: z.int().min(10).max(1_000_000).default(10_000).describe(
      "connections that an HTTP port holds; one more closes the connection that has been idle longest",
    ),
    allowedHosts: z.array(hostSchema()).default([]).describe(
      "more names under which browsers reach this program's ports, e.g. a proxy's; host, rpc.advertise and localhost are known",
    ),
    requireSecrets: z.enum(["exposed", "always"]).default("exposed").describe(
      "when the secrets that protect a cluster must be set; exposed: if other machines can reach host; always: on any host",
    ),
    ...registryShape,
    rpc: rpcShape,
    log: logSchema,
  };
}

export const nodeMetrics = {
  gru_registry_connected: { type: "gauge", help: "1 while the registry answers" },
} as const;

type InstanceMeta = Instance["meta"];

const nodeSchema = z.object(nodeShape(0));
export type NodeConfig = z.output<typeof nodeSchema>;

/** How calls travel between the programs; by default over HTTP/2. */
export interface NodeCalls {
  connect<C extends Contract>(contract: C): Promise<RpcClient<C>>;
  serve(services: readonly Service[]): Promise<NodeServer>;
}

/** Given by whoever runs several programs in one process; what is given is not closed. */
export interface NodeOverrides {
  readonly registry?: Registry;
  readonly log?: Logger;
  /** Aborted: the program is stopping; the registry is no longer waited for, or not for long. */
  readonly stop?: AbortSignal;
  readonly calls?: NodeCalls;
}

export interface ServeNodeOptions {
  readonly port: number;
  readonly services?: readonly Service[];
  /** More reasons to be ready or not, besides the registry. */
  readonly ready?: OpsOptions["ready"];
  readonly notes?: OpsOptions["notes"];
  /**
   * Makes the port one for the outside: this handler, health and metrics, no RPC. In plain HTTP/1.1: the certificates of a
   * profile are for the inside, TLS for clients is the front's.
   */
  readonly app?: PublicApp;
}

export interface PublicApp {
  readonly handler: HttpHandler;
  /**
   * `any`: pages of all sites may ask, and the handler itself says what they may read (CORS). `own`: only pages that come
   * from this port. `own-unkeyed`: likewise, and nobody shows a key or a password here, so that its name counts, too.
   */
  readonly pages: "any" | "own" | "own-unkeyed";
  /** Paths that links of other sites may open. Default: none. */
  readonly linked?: readonly string[];
  /** Default 65 536. */
  readonly bodyBytes?: BodyLimit;
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
  readonly clock: Pick<ClockWatch, "now" | "offsetSeconds">;
  /** What the program needs to serve. The program says when all needs are known (`start`). */
  readonly readiness: Readiness;
  /** Makes agreement with the cluster a need, and publishes the claim with what is announced from then on. */
  agree(options: Pick<AgreementOptions, "claim" | "services" | "secret">): Promise<Disposable>;
  /** {@linkcode agree} on the cluster key, for programs that call others or are called. */
  agreeOnClusterKey(): Promise<Disposable>;
  connect<C extends Contract>(contract: C): Promise<RpcClient<C>>;
  /** Disposing refuses new calls, lets those under way finish, and closes the port. */
  serve(options: ServeNodeOptions): Promise<NodeServer>;
  /**
   * Takes the name, and tells the others the addresses; to be disposed before anything that they might still use.
   * Without addresses it only takes the name: a program that acts under its name does so before it begins, and gives its
   * addresses (`update`) when it can serve. It is not ready before.
   *
   * The others see none of the addresses before the program serves ({@linkcode Readiness}). When it no longer does, they see
   * all but the one for clients: commands still reach it, and calls are answered with the reason.
   */
  announce(
    addresses: Readonly<Record<string, string>>,
    meta?: Instance["meta"],
  ): Promise<Registration>;
}

/** What the schema cannot see: the files that keys name. @throws {ConfigError} */
export function checkNode({ rpc }: NodeConfig): void {
  readTls(rpc);
}

/** @throws {ConfigError} RegistryUnavailableError */
export async function openNode(
  program: string,
  config: NodeConfig,
  overrides: NodeOverrides = {},
): Promise<Node> {
  const { rpc, host } = config;
  const name = `${program}${config.id}`;
  const log = (overrides.log ?? logger(program)).with({ [instanceKey]: name });
  const reachableAt = rpc.advertise ?? host;
  const missing = missingGuards(
    overrides.registry === undefined ? config : { ...config, registry: "memory:" },
  );
  if (missing.length > 0) {
    throw new ConfigError(
      missing.map(({ path, message }) => `${program}: ${path.join(".")}: ${message}`).join("\n"),
    );
  }
  const tls = readTls(rpc);
  const registry = overrides.registry ?? await openRegistry(config, log, overrides.stop);
  const readiness = new Readiness(name, log);
  const claims: Record<string, string> = {};
  let announced = () => false;
  const tellings = new Set<() => void>();
  const metrics = new MetricsRegistry();
  metrics.setDefaultLabels({ node: name });
  openMetrics(metrics, nodeMetrics, {
    gru_registry_connected: () => registry.state === "connected" ? 1 : 0,
  });

  const clock = await watchClock({
    ...{ registry, metrics, log, stop: overrides.stop },
    onMeasured: () => {
      for (const tell of tellings) tell();
    },
  });

  async function agree(options: Pick<AgreementOptions, "claim" | "services" | "secret">) {
    claims[options.claim.key] = publishedClaim(options.claim);
    return await watchAgreement({ registry, name, readiness, ...options });
  }

  return {
    name,
    registry,
    metrics,
    log,
    clock,
    readiness,
    agree,
    agreeOnClusterKey: () =>
      agree({
        claim: {
          key: "clusterKey",
          use: "key",
          secrets: rpc.clusterKey === undefined ? [] : [rpc.clusterKey],
        },
        services: ["idgen", "stat", "spear"],
        secret: "the cluster key (GRU_CLUSTER_KEY)",
      }),
    connect: (contract) =>
      overrides.calls?.connect(contract) ?? connectRpc(contract, {
        registry,
        timeoutMs: rpc.timeoutMs,
        clusterKey: rpc.clusterKey,
        tls,
        metrics,
        log,
      }),
    serve: async ({ port, services = [], ready, notes, app }) => {
      if (overrides.calls !== undefined) return await overrides.calls.serve(services);
      let address = "";
      const calls = rpcHandler(services, {
        clusterKey: rpc.clusterKey,
        address: () => address,
        maxConcurrent: rpc.maxConcurrent,
        metrics,
        log,
      });
      const own = { names: [host, rpc.advertise ?? host], allowedHosts: config.allowedHosts };
      const callers = sameOrigin({ ...own, namesOnly: rpc.clusterKey === undefined });
      const pages = app === undefined || app.pages === "any" ? undefined : sameOrigin({
        ...own,
        namesOnly: app.pages === "own-unkeyed",
        ...(app.linked === undefined ? {} : { linked: app.linked }),
      });
      const ops = opsHandler({
        metrics,
        guard: sameOrigin({ ...own, namesOnly: isLoopback(host) }),
        notes,
        ready: async () => ({
          announced: announced(),
          registry: registry.state === "connected",
          ...readiness.checks,
          ...await ready?.(),
        }),
        // The reasons name addresses and variables of the inside.
        missing: () => app === undefined ? readiness.missing : {},
      });
      const limits = { keepAliveMs: config.keepAliveMs, connections: config.httpConnections };
      const server = app === undefined
        ? await serveHttp({
          ...{ host, port, tls, limits, log },
          upgrade: calls.upgrade,
          // A call's body is bounded where it is read: after the key was checked.
          bodyBytes: Infinity,
          // Calls first: nothing else comes thousands of times a second.
          handler: (request) =>
            request.method === "POST"
              ? callers(request) ?? calls(request)
              : ops(request) ?? callers(request) ?? calls(request),
        })
        : await serveHttp({
          ...{ host, port, limits, log },
          http2: false,
          ...(app.bodyBytes === undefined ? {} : { bodyBytes: app.bodyBytes }),
          handler: (request, caller) =>
            ops(request) ?? pages?.(request) ?? app.handler(request, caller),
        });
      const scheme = new URL(server.origin).protocol;
      address = `${scheme}//${bracketed(reachableAt)}:${server.port}`;
      return {
        port: server.port,
        address,
        [Symbol.asyncDispose]: () => {
          calls.drain();
          return server[Symbol.asyncDispose]();
        },
      };
    },
    announce: async (addresses, meta = {}) => {
      const life = { service: program, name, startedAt: clock.now() };
      let known = { addresses, meta };
      let toldOffset = clock.offsetSeconds;
      const full = (meta: InstanceMeta): InstanceMeta => {
        toldOffset = clock.offsetSeconds;
        const offset = toldOffset === undefined ? {} : { clockOffsetSeconds: toldOffset };
        const missing = readiness.serving ? "" : Object.keys(readiness.missing).join(", ");
        return { version, ...meta, ...claims, ...offset, ...(missing === "" ? {} : { missing }) };
      };
      const shown = (addresses: Readonly<Record<string, string>>) => {
        if (readiness.serving) return addresses;
        if (!readiness.served) return {};
        const { client: _withheld, ...others } = addresses;
        return others;
      };
      const wasServing = readiness.serving;
      const registration = await registry.register({
        ...{ ...life, addresses: shown(addresses), meta: full(meta) },
      });
      const show = () => {
        const changes = { addresses: shown(known.addresses), meta: full(known.meta) };
        // The registration keeps the change and makes it when the registry answers again.
        registration.update(changes).catch(() => {});
      };
      const showing = readiness.listen(show);
      if (readiness.serving !== wasServing) show();

      const tellOffset = () => {
        if (clock.offsetSeconds === toldOffset) return;
        // Tried again after the next measurement.
        registration.update({ meta: full(known.meta) }).catch(() => toldOffset = undefined);
      };
      tellings.add(tellOffset);
      announced = () => registration.held && Object.keys(known.addresses).length > 0;
      return {
        get held() {
          return registration.held;
        },
        update: async ({ addresses, meta }) => {
          known = { addresses: addresses ?? known.addresses, meta: meta ?? known.meta };
          await registration.update({
            ...(addresses === undefined ? {} : { addresses: shown(addresses) }),
            ...(meta === undefined ? {} : { meta: full(meta) }),
          });
        },
        [Symbol.asyncDispose]: async () => {
          showing[Symbol.dispose]();
          tellings.delete(tellOffset);
          announced = () => false;
          await recordOrderlyStop(registry, life);
          await registration[Symbol.asyncDispose]();
        },
      };
    },
    [Symbol.asyncDispose]: async () => {
      clock[Symbol.dispose]();
      readiness[Symbol.dispose]();
      if (overrides.registry === undefined) await registry[Symbol.asyncDispose]();
    },
  };
}
