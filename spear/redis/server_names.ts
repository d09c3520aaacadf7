/**
 * Which server each connection leads to, as its targets' state names it. One that may know less than the one before it
 * must have another name: behind Sentinel or without an append-only file each process has its own; any other may keep
 * its name if it has lost nothing.
 */
import { parseView, slotOf } from "@gru/shared/redis/cluster";
import type { Redis } from "ioredis";
import { type Incarnation, Incarnations, type IncarnationsOptions } from "./incarnation.ts";

export interface ServerNamesOptions extends IncarnationsOptions {
  /** Sentinel may put another server in its place. */
  readonly isOneOfMany: boolean;
  /** The servers are a Cluster. */
  readonly isSharded: () => boolean;
  /** Rejects where this user may not do what a publication does; `tag`: a hash tag of which the server has the slot. */
  readonly tryToPublish: (redis: Redis, tag: string) => Promise<void>;
}

export class ServerNames implements Disposable {
  readonly #options: ServerNamesOptions;
  readonly #incarnations: Incarnations;
  readonly #found = new WeakMap<Redis, { readonly name: string; readonly since: number }>();

  constructor(options: ServerNamesOptions) {
    this.#options = options;
    this.#incarnations = new Incarnations(options);
  }

  /** "" where it is not known. */
  of(redis: Redis): string {
    return this.#found.get(redis)?.name ?? "";
  }

  /** When the present connection was found to lead there, on the clock of `performance.now()`. */
  since(redis: Redis): number | undefined {
    return this.#found.get(redis)?.since;
  }

  /**
   * @param server names it among several that share the keys without a Cluster
   * @param info what it says of itself
   */
  async find(redis: Redis, server: string, info: string): Promise<void> {
    const { isSharded, isOneOfMany, tryToPublish } = this.#options;
    const run = /^run_id:(\w{12})/m.exec(info)?.[1] ?? "";
    const incarnation = isSharded() ? await nameInCluster(redis) : { home: server, tag: "one" };
    if (incarnation !== undefined) await tryToPublish(redis, incarnation.tag);
    const keeps = /^aof_enabled:1/m.test(info) && !isOneOfMany;
    const name = keeps && incarnation !== undefined
      ? await this.#incarnations.judge(redis, {
        ...{ run, ...incarnation },
        syncsAlways: await syncsAlways(redis),
      })
      : run;
    this.#found.set(redis, { name, since: performance.now() });
  }

  [Symbol.dispose](): void {
    this.#incarnations[Symbol.dispose]();
  }
}

/** Its name, and a hash tag of which it has the slot; undefined: it has none. */
async function nameInCluster(redis: Redis): Promise<Pick<Incarnation, "home" | "tag"> | undefined> {
  const [id, nodes] = await Promise.all([
    redis.call("CLUSTER", "MYID"),
    redis.call("CLUSTER", "NODES"),
  ]);
  const mine = String(nodes).split("\n").filter((line) => /\bmyself\b/.test(line));
  const claims = parseView(mine.join("\n"), "");
  if (claims.length === 0) return undefined;
  for (let n = 0;; n++) {
    const slot = slotOf(`${n}`);
    if (claims.some(({ from, to }) => from <= slot && slot <= to)) {
      return { home: String(id).slice(0, 12), tag: `${n}` };
    }
  }
}

/** Not where it is not known: many a user of Redis may not ask. */
async function syncsAlways(redis: Redis): Promise<boolean> {
  const answer = await redis.config("GET", "appendfsync").catch(() => []);
  return [answer].flat().includes("always") ||
    (answer as { appendfsync?: string }).appendfsync === "always";
}
