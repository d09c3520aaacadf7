/** The client over HTTP/2: finds the instances of a service in the registry and spreads calls over them. */
import type { Registry as MetricsRegistry } from "prom-client";
import type { Logger } from "../log.ts";
import { counter } from "../metrics.ts";
import type { Instance, Registry } from "../registry.ts";
import type { TlsFiles } from "../serve.ts";
import { bindClient, type OutgoingCall, type RpcClient } from "./bind.ts";
import { type Client, type Contract, RpcError } from "./contract.ts";
import { observeCalls } from "./metrics.ts";
import { Outgoing, type Pool } from "./outgoing.ts";
import { Peer } from "./peer.ts";

export type { RpcClient } from "./bind.ts";

export interface RpcClientOptions {
  readonly registry: Pick<Registry, "watch">;
  /** For a whole call, its retries included. */
  readonly timeoutMs: number;
  readonly clusterKey?: string | undefined;
  /** For `https:` addresses: whom to trust, and who we are. */
  readonly tls?: Partial<TlsFiles> | undefined;
  /**
   * An instance that says nothing at all for so long is passed over, and an idempotent call that waits for it is sent to
   * another one too. Default: a fifth of `timeoutMs`, 1000 at most.
   */
  readonly patienceMs?: number;
  /** How long a call waits for an instance to appear when none is known. Default 3000. */
  readonly appearMs?: number;
  readonly metrics?: MetricsRegistry;
  readonly log?: Logger;
}

/**
 * Resolves once the registry has told which instances there are, be it none. Disposing rejects the calls under way
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
  readonly onRetry: () => void;

  readonly #options: RpcClientOptions;
  readonly #observe;
  readonly #onBenched: () => void;
  readonly #calls = new Set<Outgoing>();
  readonly #leaving = new Set<Promise<void>>();
  #peers = new Map<string, Peer>();
  #closed = false;

  constructor(service: string, options: RpcClientOptions) {
    this.service = service;
    this.#options = options;
    this.patienceMs = options.patienceMs ?? Math.min(1000, options.timeoutMs / 5);
    this.appearMs = options.appearMs ?? 3000;
    this.#observe = observeCalls("client", options.metrics);
    this.onRetry = this.#count("gru_rpc_client_retries_total", "Attempts beyond a call's first");
    this.#onBenched = this.#count(
      "gru_rpc_client_ejections_total",
      "How often an instance was passed over for a while",
    );
  }

  #count(name: string, help: string): () => void {
    const { metrics } = this.#options;
    if (metrics === undefined) return () => {};
    const total = counter(metrics, { name, help, labels: ["service"] });
    return () => total.inc({ service: this.service });
  }

  /** Instances that stay keep their connections; those that left finish what they have. */
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
  }

  #open(name: string, origin: string): Peer {
    const { tls, clusterKey, log } = this.#options;
    return new Peer({
      service: this.service,
      name,
      origin,
      clusterKey,
      openHttp: () =>
        Deno.createHttpClient({
          http1: false,
          http2: true,
          ...(tls?.ca === undefined ? {} : { caCerts: [tls.ca] }),
          ...(tls?.cert === undefined || tls.key === undefined
            ? {}
            : { cert: tls.cert, key: tls.key }),
        }),
      onBenched: this.#onBenched,
      log,
    });
  }

  #leave(peer: Peer): void {
    const left = peer.close();
    this.#leaving.add(left);
    left.finally(() => this.#leaving.delete(left));
  }

  pick(only: string | undefined, spent: (peer: Peer) => boolean): Peer | undefined {
    let best: Peer | undefined;
    let bestGrade = 2;
    let equals = 0;
    for (const peer of this.#peers.values()) {
      if (only !== undefined && peer.name !== only) continue;
      const grade = peer.grade;
      if (spent(peer)) {
        // While there are fit instances, tried already or not, the unfit ones stay out of it.
        if (grade < 2 && bestGrade === 2) [best, bestGrade] = [undefined, 1];
        continue;
      }
      if (grade > bestGrade) continue;
      const better = grade < bestGrade || best === undefined || peer.underWay < best.underWay;
      const equal = !better && peer.underWay === best?.underWay;
      if (better) equals = 1;
      // The n-th among equals is taken with a chance of one in n.
      if (better || (equal && Math.random() * ++equals < 1)) [best, bestGrade] = [peer, grade];
    }
    return best;
  }

  async carry(call: OutgoingCall, only: string | undefined): Promise<string> {
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
