/**
 * Which cluster the state in a Redis belongs to: its identity, `gru:{cluster}:id`, made once and kept beside the state,
 * and the nodes that are there, `gru:{cluster}:nodes`. Two clusters in one database of one Redis would take each other's
 * groups and users for their own, so the node that comes later and finds nodes there that its registry does not know does
 * not start.
 */
import { ConfigError } from "@gru/shared/config";
import type { Logger } from "@gru/shared/log";
import { pause } from "@gru/shared/pause";
import { parseRedisAddress } from "@gru/shared/redis/address";
import { openTopology, type RedisTopology } from "@gru/shared/redis/topology";
import identityScript from "./lua/identity.lua" with { type: "text" };

export interface ClusterIdentityOptions {
  /** See {@linkcode parseRedisAddress}. */
  readonly url: string;
  readonly password?: string | undefined;
  readonly node: string;
  /** Another one after each start; the registry shows it to the others. */
  readonly session: string;
  /** The sessions of the nodes that the registry knows now. */
  readonly known: () => ReadonlySet<string>;
  readonly log: Logger;
}

const tag = "cluster";
const beatMs = 1000;
/** A node that was not here for so long does not live. */
const silentMs = 2500;
/** A node may be here for so long before the registry shows it. */
const registryLagMs = 5000;
const forgottenMs = 60_000;
/** A start waits no longer for a Redis that is out of reach. */
const startMs = 3000;
const retryMs = 100;

interface Present {
  readonly session: string;
  readonly since: number;
  readonly silenceMs: number;
  readonly name: string;
}

export class ClusterIdentity implements AsyncDisposable {
  readonly #options: ClusterIdentityOptions;
  readonly #servers: RedisTopology;
  readonly #closing = new AbortController();
  readonly #found = Promise.withResolvers<string>();
  readonly #beating: Promise<void>;
  #id: string | undefined;
  /** When a node that is unknown to the registry was first seen here; on the clock of `performance.now()`. */
  readonly #unknown = new Map<string, number>();

  /** @throws {TypeError} for an address that is none. */
  constructor(options: ClusterIdentityOptions) {
    this.#options = options;
    const { url, password, node, log } = options;
    this.#servers = openTopology(parseRedisAddress(url), {
      ...{ password, log, name: `gru-${node}-identity` },
    });
    this.#found.promise.catch(() => {});
    this.#beating = this.#beat();
  }

  /** Rejects with {@linkcode ConfigError} when this Redis belongs to another cluster. Never settles without Redis. */
  get found(): Promise<string> {
    return this.#found.promise;
  }

  /**
   * Resolves to the identity, or to undefined where Redis is out of reach for long: then it is found later.
   * @throws {ConfigError} this Redis belongs to another cluster.
   */
  async atStart(): Promise<string | undefined> {
    const waited = new AbortController();
    const patience = (async () => {
      await pause(startMs, waited.signal);
      // While it answers, it is only waited whether the others are strangers.
      while (this.#unknown.size > 0 && !waited.signal.aborted) await pause(retryMs, waited.signal);
      return undefined;
    })();
    try {
      return await Promise.race([this.found, patience]);
    } finally {
      waited.abort();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await this.#beating;
    await this.#call("leave").catch(() => {});
    await this.#servers[Symbol.asyncDispose]();
  }

  async #beat(): Promise<void> {
    const { signal } = this.#closing;
    while (!signal.aborted) {
      let wait = retryMs;
      try {
        // A node that was frozen and has lost its name is no longer one of its cluster, and must not look like one of another.
        const { known, session } = this.#options;
        const answer = known().has(session) ? await this.#call() : undefined;
        if (answer !== undefined) {
          const settled = this.#id !== undefined || this.#judge(answer);
          wait = settled ? beatMs : 2 * retryMs;
          if (settled && this.#id === undefined) {
            this.#id = answer.id;
            this.#options.log.info("this node is one of cluster {id}", { id: answer.id });
            this.#found.resolve(answer.id);
          }
        }
      } catch (error) {
        if (error instanceof ConfigError) return this.#found.reject(error);
        this.#options.log.debug("Redis did not tell the cluster's identity: {error}", { error });
      }
      await pause(wait, signal);
    }
  }

  /**
   * @returns true: all others that live here are in the registry too.
   * @throws {ConfigError} one is not, and was here first.
   */
  #judge(
    { id, since, others }: { id: string; since: number; others: readonly Present[] },
  ): boolean {
    const { known, session, url, node } = this.#options;
    const ours = known();
    const now = performance.now();
    const strangers = others.filter((other) =>
      other.silenceMs < silentMs && !ours.has(other.session) &&
      (other.since < since || other.since === since && other.session < session)
    );
    const present = new Set(strangers.map((other) => other.session));
    for (const one of [...this.#unknown.keys()]) if (!present.has(one)) this.#unknown.delete(one);
    for (const other of strangers) {
      const seen = this.#unknown.getOrInsertComputed(other.session, () => now);
      if (now - seen < registryLagMs) continue;
      throw new ConfigError(
        `redis: ${
          withoutPassword(url)
        } belongs to another cluster, ${id}: its ${other.name} is there now, and is not in ` +
          `the registry of this ${node}. Give each cluster its own Redis, or its own database (redis://host:6379/1)`,
      );
    }
    return strangers.length === 0;
  }

  async #call(leave = "") {
    const redis = this.#servers.serverOf(tag)?.commands;
    if (!redis?.usable) return undefined;
    const { session, node } = this.#options;
    const fresh = this.#id ?? crypto.randomUUID().slice(0, 8);
    const [id, since, flat] = await redis.redis.eval(
      ...[identityScript, 2, `gru:{${tag}}:id`, `gru:{${tag}}:nodes`],
      ...[fresh, session, node, forgottenMs, leave],
    ) as [string, number, string[]];
    const others: Present[] = [];
    for (let i = 0; i + 3 < flat.length; i += 4) {
      const [session = "", from, silence, name = ""] = flat.slice(i, i + 4);
      others.push({ session, since: Number(from), silenceMs: Number(silence), name });
    }
    return { id, since, others };
  }
}

function withoutPassword(url: string): string {
  return url.replace(/\/\/[^@/]*@/, "//");
}
