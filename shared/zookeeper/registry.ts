/**
 * The registry in ZooKeeper. Below the root: `services/<service>/<instance>` and `leases/<key>`, ephemeral, and
 * `cells/<key>`, persistent. Names are escaped as in URLs, so that a key is one node whatever it contains.
 *
 * Each registration, watch, lease and removal has a reconciler, which runs again after every fault: the code that first
 * made a node also compares and repairs it.
 */
import { Reconciler } from "./reconciler.ts";
import type { Logger } from "../log.ts";
import { pause } from "../pause.ts";
import {
  assertName,
  type Cell,
  type Instance,
  type Lease,
  NameTakenError,
  type Registration,
  type Registry,
  type RegistryState,
  RegistryUnavailableError,
  type View,
} from "../registry/registry.ts";
import { ZookeeperCell } from "./cell.ts";
import { HeldLease } from "./lease.ts";
import { ServiceWatch } from "./watch.ts";
import { ZookeeperConnection } from "./connection.ts";
import { unless, type ZookeeperSession } from "./session.ts";

export interface ZookeeperOptions {
  /** `host:port` of each server of the ensemble. */
  readonly servers: readonly string[];
  /** The path above all nodes of the registry, e.g. `/gru`; created when missing. */
  readonly root: string;
  /** A server may grant more: it requires at least two of its ticks. */
  readonly sessionMs: number;
  /** `user:password`: authenticates by digest, and gives access to these credentials only. */
  readonly credentials?: string;
  /** How long to search for a server at the start. Default 15 000. */
  readonly connectMs?: number;
  /**
   * When aborted before a server was found: stop searching. When aborted later: the program is stopping, and waits only
   * briefly for servers that do not answer.
   */
  readonly stop?: AbortSignal;
  readonly log: Logger;
}

/**
 * Operations wait for a connection and are retried for up to one session timeout. A name that another session holds is
 * waited for up to two. Closing ends the session, so everything it held is released at once.
 *
 * @throws RegistryUnavailableError naming the servers when none accepts us within `connectMs`, or when `stop` is
 * aborted before.
 */
export async function connectZookeeper(options: ZookeeperOptions): Promise<Registry> {
  const registry = new ZookeeperRegistry(options);
  const close = () => registry[Symbol.asyncDispose]();
  options.stop?.addEventListener("abort", close);
  try {
    if (options.stop?.aborted) await close();
    await registry.open();
    options.stop?.addEventListener("abort", () => registry.hurry());
    if (options.stop?.aborted) registry.hurry();
    return registry;
  } catch (error) {
    await close();
    throw error;
  } finally {
    options.stop?.removeEventListener("abort", close);
  }
}

const upkeepMs = 1000;
const recheckMs = 30_000;
/** So many nodes of a kind show whether this program may use what the others have made. */
const accessTries = 20;
/** A node beside the cells; everybody writes it and nobody reads it. */
const clockName = "clock";

class ZookeeperRegistry implements Registry {
  readonly #options: ZookeeperOptions;
  readonly #connection: ZookeeperConnection;
  readonly #reconcilers = new Set<Reconciler>();
  readonly #watches = new Map<string, ServiceWatch>();
  /** Paths of registrations and leases, from the first attempt until they are certainly gone. */
  readonly #taken = new Set<string>();
  readonly #leases = new Set<HeldLease>();
  readonly #upkeep: ReturnType<typeof setInterval>;
  #recheckAt = performance.now() + recheckMs;
  #disposed: Promise<void> | undefined;

  constructor(options: ZookeeperOptions) {
    this.#options = options;
    const { servers, sessionMs, credentials, log } = options;
    this.#connection = new ZookeeperConnection({
      servers,
      sessionMs,
      credentials,
      log,
      onConnected: (awayMs) => this.#onConnected(awayMs),
      onDisconnected: (ended) => this.#onDisconnected(ended),
    });
    this.#upkeep = setInterval(() => this.#keepUp(), upkeepMs);
  }

  get state(): RegistryState {
    if (this.#disposed !== undefined) return "closed";
    return this.#connection.connected ? "connected" : "suspended";
  }

  async open(): Promise<void> {
    const { connectMs = 15_000 } = this.#options;
    await this.#connection.attempt(async (session) => {
      for (const kind of ["services", "leases", "cells"]) {
        await session.createPath(this.#path(kind));
        await this.#proveAccess(session, this.#path(kind));
      }
    }, connectMs);
  }

  /** Rejects when nodes that others have made here belong to other credentials: a root can be open and they are not. */
  async #proveAccess(session: ZookeeperSession, path: string): Promise<void> {
    const names = await session.children(path, () => {});
    for (const name of names.slice(0, accessTries)) await session.read(`${path}/${name}`);
  }

  /** See {@linkcode ZookeeperConnection.hurry}. */
  hurry(): void {
    this.#connection.hurry();
  }

  async register(instance: Instance): Promise<Registration> {
    const { service, name } = instance;
    assertName("service", service);
    assertName("instance", name);
    this.#connection.assertOpen();
    const path = this.#path("services", service, name);
    if (this.#taken.has(path)) throw new NameTakenError(`${service} ${name} is already registered`);
    this.#taken.add(path);

    let current: Instance | undefined = instance;
    let held = false;
    const onChange = () => reconciler.kick();
    const reconciler = this.#reconciler(`register ${path}`, async () => {
      if (current === undefined) return;
      const data = JSON.stringify(current);
      const owner = await this.#claim(this.#connection.session, path, data, onChange);
      held = owner === undefined;
      if (owner !== undefined) {
        throw new NameTakenError(`${service} ${name} is held by ZooKeeper session ${owner}`);
      }
    });
    const withdraw = async () => {
      current = undefined;
      this.#reconcilers.delete(reconciler);
      // A run under way could create the node again.
      await this.#connection.attempt(() => reconciler.settle(), 0).catch(() => {});
      await this.#withdraw(path);
    };

    const giveUpAt = performance.now() + 2 * this.#connection.timeoutMs;
    for (;;) {
      try {
        await this.#connection.attempt(() => reconciler.settle());
        break;
      } catch (error) {
        if (!(error instanceof NameTakenError) || performance.now() > giveUpAt) {
          await withdraw();
          throw error;
        }
        await pause(this.#connection.timeoutMs / 40);
      }
    }
    let disposed: Promise<void> | undefined;
    return {
      get held() {
        return held;
      },
      update: async (changes) => {
        if (current === undefined) return;
        current = { ...current, ...changes };
        await this.#connection.attempt(() => reconciler.settle());
      },
      [Symbol.asyncDispose]: () => disposed ??= withdraw(),
    };
  }

  async watch(service: string, onView: (view: View) => void): Promise<Disposable> {
    assertName("service", service);
    const watch = this.#watches.getOrInsertComputed(service, () => {
      const path = this.#path("services", service);
      const { log } = this.#options;
      return new ServiceWatch(
        path,
        () => this.#connection.session,
        log,
        this.#reporter(`watch ${path}`),
      );
    });
    if (!watch.current) await this.#connection.attempt(() => watch.reconciler.settle());
    this.#connection.assertOpen();
    return watch.listen(onView);
  }

  async acquire(key: string, value: string): Promise<Lease | undefined> {
    assertName("lease", key);
    this.#connection.assertOpen();
    const path = this.#path("leases", key);
    if (this.#taken.has(path)) return undefined;
    this.#taken.add(path);
    try {
      const lease = await this.#connection.attempt((session) =>
        this.#take(session, key, path, value)
      );
      if (lease === undefined) this.#taken.delete(path);
      return lease;
    } catch (error) {
      // The node may have been created all the same.
      void this.#withdraw(path);
      throw error;
    }
  }

  async #take(session: ZookeeperSession, key: string, path: string, value: string) {
    const onChange = () => reconciler.kick();
    // Not one of the registry's reconcilers before the lease is held: it would set a watch on the holder's node at
    // every attempt.
    const reconciler = new Reconciler(async () => {
      if (lease.lost.aborted) return;
      const node = await session.read(path, onChange);
      if (lease.lost.aborted) return;
      const isOurs = node?.owner === session.id;
      if (isOurs && lease.confirm()) return;
      this.#end(lease);
      if (isOurs) void this.#withdraw(path);
      else this.#taken.delete(path);
    }, this.#reporter(`hold ${path}`));
    const lease: HeldLease = new HeldLease(key, path, session, reconciler, async () => {
      this.#end(lease);
      await this.#withdraw(path);
    });
    this.#leases.add(lease);
    try {
      // Not read first: a lagging server might still show the last holder's node.
      await session.createIn(path, value, "ephemeral").catch(unless("NODE_EXISTS"));
      if (await this.#claim(session, path, value, onChange) === undefined) {
        await session.barrier();
        this.#reconcilers.add(reconciler);
        return lease;
      }
      this.#end(lease);
      return undefined;
    } catch (error) {
      this.#end(lease);
      throw error;
    }
  }

  #end(lease: HeldLease): void {
    this.#leases.delete(lease);
    this.#reconcilers.delete(lease.reconciler);
    lease.end();
  }

  cell(key: string): Cell {
    assertName("cell", key);
    return new ZookeeperCell(this.#connection, this.#path("cells", key));
  }

  /** A server shows its time only in what it writes: the leader's time is the time of a node's last change. */
  now(): Promise<number> {
    const path = this.#path("cells", clockName);
    return this.#connection.attempt(async (session) => {
      try {
        return await session.touch(path);
      } catch (error) {
        unless("NO_NODE")(error);
        await session.createIn(path, "", "persistent").catch(unless("NODE_EXISTS"));
        return await session.touch(path);
      }
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#disposed ??= this.#close();
  }

  async #close(): Promise<void> {
    clearInterval(this.#upkeep);
    for (const lease of this.#leases) this.#end(lease);
    await this.#connection.close(this.#taken.size > 0);
  }

  #onConnected(awayMs: number): void {
    const { timeoutMs } = this.#connection;
    // If the outage was shorter than this for us, it cannot have lasted a whole session for others.
    const lingerMs = awayMs < timeoutMs / 2 ? 0 : timeoutMs;
    for (const watch of this.#watches.values()) watch.resume(lingerMs);
    for (const reconciler of this.#reconcilers) reconciler.kick();
  }

  #onDisconnected(ended: boolean): void {
    for (const watch of this.#watches.values()) watch.suspend();
    for (const lease of this.#leases) lease.suspend();
    if (!ended) return;
    for (const lease of this.#leases) {
      this.#end(lease);
      this.#taken.delete(lease.path);
    }
  }

  #keepUp(): void {
    this.#connection.revive();
    if (!this.#connection.connected) return;
    const all = performance.now() >= this.#recheckAt;
    if (all) this.#recheckAt = performance.now() + recheckMs;
    for (const reconciler of this.#reconcilers) if (all || !reconciler.settled) reconciler.kick();
    for (const watch of this.#watches.values()) {
      watch.expire();
      if (all || !watch.reconciler.settled) watch.recheck();
    }
  }

  #reconciler(what: string, job: () => Promise<void>): Reconciler {
    const reconciler = new Reconciler(job, this.#reporter(what));
    this.#reconcilers.add(reconciler);
    return reconciler;
  }

  #reporter(what: string): (error: unknown) => void {
    let last: string | undefined;
    return (error) => {
      // The next connection runs it again.
      if (error instanceof RegistryUnavailableError || last === String(error)) return;
      last = String(error);
      this.#options.log.warn("Could not {what} and will try again: {error}", { what, error });
    };
  }

  /**
   * Creates an ephemeral node of ours with this data, and watches it. Returns the other session that owns it, if any.
   */
  async #claim(
    session: ZookeeperSession,
    path: string,
    data: string,
    onChange: () => void,
  ): Promise<string | undefined> {
    for (;;) {
      const node = await session.read(path);
      if (node === undefined) {
        await session.createIn(path, data, "ephemeral").catch(unless("NODE_EXISTS"));
      } else if (node.owner !== session.id) {
        if (!this.#connection.owns(node.owner)) return node.owner;
        await session.remove(path, node.version).catch(unless("NO_NODE"));
      } else if (node.data !== data) {
        await session.write(path, data, node.version).catch(unless("NO_NODE"));
      } else if ((await session.read(path, onChange))?.revision === node.revision) {
        return undefined;
      }
    }
  }

  /** Resolves when the node is gone or the time is up; then the removal continues by itself. */
  async #withdraw(path: string): Promise<void> {
    const reconciler = this.#reconciler(`remove ${path}`, async () => {
      const session = this.#connection.session;
      await session.barrier();
      const node = await session.read(path);
      if (node !== undefined && this.#connection.owns(node.owner)) {
        await session.remove(path, node.version).catch(unless("NO_NODE"));
      }
      this.#reconcilers.delete(reconciler);
      this.#taken.delete(path);
    });
    await this.#connection.attempt(() => reconciler.settle()).catch(() => {});
  }

  #path(...names: readonly string[]): string {
    return [this.#options.root, ...names.map(encodeURIComponent)].join("/");
  }
}
