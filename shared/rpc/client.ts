/** The client over HTTP/2. It finds the instances of a service in the registry and distributes calls over them. */
import type { Registry as MetricsRegistry } from "prom-client";
import type { Logger } from "../log.ts";
import { openMetrics } from "../metrics.ts";
import type { Instance, Registry } from "../registry/registry.ts";
import type { TlsFiles } from "../http/serve.ts";
import { bindClient, type OutgoingCall, type RpcClient } from "./bind.ts";
import { type Client, type Contract, RpcError } from "./contract.ts";
import { observeCalls, rpcMetrics } from "./metrics.ts";
import { Outgoing, type Pool } from "./outgoing.ts";
import { Peer } from "./peer.ts";

export type { RpcClient } from "./bind.ts";

export interface RpcClientOptions {
  readonly registry: Pick<Registry, "watch">;
  /** The time limit of a whole call, including retries. */
  readonly timeoutMs: number;
  readonly clusterKey?: string | undefined;
  /** For `https:` addresses: the trusted authorities, and this client's certificate. */
  readonly tls?: Partial<TlsFiles> | undefined;
  /**
   * When an instance sends nothing at all for this long, it gets no new calls, and an idempotent call that waits for it
   * is sent to another instance too. Default: a fifth of `timeoutMs`, at most 1000.
   */
  readonly patienceMs?: number;
  /** How long a call waits for an instance to appear when no instance is known. Default 3000. */
  readonly appearMs?: number;
  /**
   * The most calls under way at one instance; further calls wait. Default 200: the number of streams of a connection.
   */
  readonly maxUnderWay?: number;
  /** The most calls that may wait for an instance; one more is rejected as `overloaded`. Default 20 000. */
  readonly maxWaiting?: number;
  readonly metrics?: MetricsRegistry;
  readonly log?: Logger;
}

/**
 * Resolves when the registry has reported the instances, even if there are none. Disposing rejects the calls under way
 * as `unavailable`.
 */
export async function connectRpc<C extends Contract>(
  contract: C,
  options: RpcClientOptions,
): Promise<RpcClient<C>> {
  const pool = new PeerPool(contract.service, options);
  const watch = await options.registry.watch(
    contract.service,
    (view) => pool.show(view.instances),
  );
  const clientTo = (only?: string): Client<C> =>
    bindClient(contract, options.timeoutMs, (call) => pool.carry(call, only));
  let closing: Promise<void> | undefined;
  return {
    any: clientTo(),
    at: (instance) => clientTo(instance),
    [Symbol.asyncDispose]: () => {
      watch[Symbol.dispose]();
      return closing ??= pool.close();
    },
  };
}

class PeerPool implements Pool {
  readonly service: string;
  readonly patienceMs: number;
  readonly appearMs: number;
  readonly waiting = new Set<() => void>();
  readonly queue = new Set<(at?: Peer) => boolean>();
  readonly queueLimit: number;
  readonly onRetry: () => void;

  answerMs = 0;

  readonly #options: RpcClientOptions;
  readonly #observe;
  readonly #onEjected: () => void;
  readonly #calls = new Set<Outgoing>();
  readonly #leaving = new Set<Promise<void>>();
  #peers = new Map<string, Peer>();
  #closed = false;
  readonly #maxUnderWay: number;

  constructor(service: string, options: RpcClientOptions) {
    this.service = service;
    this.#options = options;
    this.patienceMs = options.patienceMs ?? Math.min(1000, options.timeoutMs / 5);
    this.appearMs = options.appearMs ?? 3000;
    this.queueLimit = options.maxWaiting ?? 20_000;
    this.#maxUnderWay = options.maxUnderWay ?? 200;
    this.#observe = observeCalls("client", options.metrics);
    this.onRetry = this.#count("gru_rpc_client_retries_total");
    this.#onEjected = this.#count("gru_rpc_client_ejections_total");
  }

  #count(name: "gru_rpc_client_retries_total" | "gru_rpc_client_ejections_total"): () => void {
    const { metrics } = this.#options;
    if (metrics === undefined) return () => {};
    const { [name]: total } = openMetrics(metrics, { [name]: rpcMetrics[name] });
    return () => total?.inc({ service: this.service });
  }

  /** Instances that stay keep their connections. Instances that left finish their calls. */
  show(instances: readonly Instance[]): void {
    if (this.#closed) return;
    const before = this.#peers;
    this.#peers = new Map();
    for (const { name, addresses, startedAt } of instances) {
      const origin = addresses.rpc?.replace(/\/$/, "");
      if (origin === undefined) continue;
      const key = `${name} ${origin} ${startedAt}`;
      this.#peers.set(key, before.get(key) ?? this.#open(name, origin));
      before.delete(key);
    }
    for (const peer of before.values()) this.#leave(peer);
    for (const wake of [...this.waiting]) wake();
    this.#serveQueue();
  }

  onAnswer(ms: number): void {
    this.answerMs = this.answerMs === 0 ? ms : this.answerMs + (ms - this.answerMs) / 16;
  }

  /** The oldest waiting calls are sent first. */
  #serveQueue(): void {
    for (const take of this.queue) take();
  }

  /** An instance can take one more call: the oldest waiting call that may use it takes it. */
  #onFreed(at: Peer): void {
    for (const take of this.queue) if (take(at)) return;
  }

  #open(name: string, origin: string): Peer {
    const { tls, clusterKey, log } = this.#options;
    return new Peer({
      service: this.service,
      name,
      origin,
      ...{ clusterKey, tls },
      openHttp: () =>
        Deno.createHttpClient({
          http1: false,
          http2: true,
          // Shorter than the server's own limit (`keepAliveMs`), so that no call is sent on a connection that is just
          // being closed.
          poolIdleTimeout: 60_000,
          ...(tls?.ca === undefined ? {} : { caCerts: [tls.ca] }),
          ...(tls?.cert === undefined || tls.key === undefined
            ? {}
            : { cert: tls.cert, key: tls.key }),
        }),
      onEjected: this.#onEjected,
      onFreed: (peer) => this.#onFreed(peer),
      onReconnected: () => this.#serveQueue(),
      log,
    });
  }

  #leave(peer: Peer): void {
    const left = peer.close();
    this.#leaving.add(left);
    left.finally(() => this.#leaving.delete(left));
  }

  pick(
    only: string | undefined,
    spent: (peer: Peer) => boolean,
    waits: boolean,
  ): Peer | "full" | undefined {
    let best: Peer | undefined;
    let fullGrade = Infinity;
    let bestGrade = 2;
    let equals = 0;
    for (const peer of this.#peers.values()) {
      if (only !== undefined && peer.name !== only) continue;
      const grade = peer.grade;
      if (spent(peer)) {
        // While there are fit instances, tried already or not, unfit ones are not used.
        if (grade < 2 && bestGrade === 2) [best, bestGrade] = [undefined, 1];
        continue;
      }
      if (!waits && peer.underWay >= this.#maxUnderWay) {
        fullGrade = Math.min(fullGrade, grade);
        continue;
      }
      if (grade > bestGrade) continue;
      const better = grade < bestGrade || best === undefined || peer.underWay < best.underWay;
      const equal = !better && peer.underWay === best?.underWay;
      if (better) equals = 1;
      // The n-th of several equal peers is chosen with a probability of 1/n.
      if (better || (equal && Math.random() * ++equals < 1)) [best, bestGrade] = [peer, grade];
    }
    if (best === undefined) return fullGrade < Infinity ? "full" : undefined;
    // Waiting for a fit instance is better than calling an unfit one.
    return bestGrade === 2 && fullGrade < 2 ? "full" : best;
  }

  async carry(call: OutgoingCall, only: string | undefined): Promise<unknown> {
    if (this.#closed) throw this.#closedError();
    const outgoing = new Outgoing(this, call, only);
    this.#calls.add(outgoing);
    let code: RpcError["code"] | "ok" = "ok";
    try {
      return await outgoing.run();
    } catch (error) {
      code = (error as RpcError).code;
      throw error;
    } finally {
      this.#calls.delete(outgoing);
      this.#observe(this.service, call.method, code, performance.now() - call.started);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const call of [...this.#calls]) call.fail(this.#closedError());
    for (const peer of this.#peers.values()) this.#leave(peer);
    this.#peers.clear();
    await Promise.all(this.#leaving);
  }

  #closedError(): RpcError {
    return new RpcError("unavailable", `The client of ${this.service} is closed`, {
      retryable: false,
    });
  }
}
