/**
 * The registry over ZooKeeper. Below the root: `services/<service>/<instance>` and `leases/<key>`, ephemeral, and
 * `cells/<key>`, persistent; names are escaped as in URLs, so that a key is one node whatever it contains.
 *
 * What should be in ZooKeeper is kept here as duties (registrations, watches, leases, removals), which are settled again after
 * every fault: the same code that made something compares and mends it.
 */
import { Duty } from "./duty.ts";
import type { Logger } from "./log.ts";
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
} from "./registry.ts";
import { ZookeeperCell } from "./registry_zookeeper_cell.ts";
import { HeldLease } from "./registry_zookeeper_lease.ts";
import { ServiceWatch } from "./registry_zookeeper_watch.ts";
import { ZookeeperConnection } from "./zookeeper_connection.ts";
import { unless, type ZookeeperSession } from "./zookeeper_session.ts";

export interface ZookeeperOptions {
  /** `host:port` of each server of the ensemble. */
  readonly servers: readonly string[];
  /** The path below which everything lives, e.g. `/gru`; made when missing. */
  readonly root: string;
  /** A server may grant more: it wants at least two of its ticks. */
  readonly sessionMs: number;
  /** `user:password`: authenticates by digest and gives only these credentials access. */
  readonly credentials?: string;
  /** How long to look for a server at first. Default 15 000. */
  readonly connectMs?: number;
  readonly log: Logger;
}

/**
 * Operations wait for a connection and are tried again for up to one session's time; a name that another
 * session holds is waited for as long as two. Closing ends the session, and so everything held is gone at once.
 *
 * @throws RegistryUnavailableError naming the servers when none lets us in within `connectMs`.
 */
export async function connectZookeeper(options: ZookeeperOptions): Promise<Registry> {
  const registry = new ZookeeperRegistry(options);
  try {
    await registry.open();
    return registry;
  } catch (error) {
    await registry[Symbol.asyncDispose]();
    throw error;
  }
}

const upkeepMs = 1000;
const recheckMs = 30_000;

class ZookeeperRegistry implements Registry {
  readonly #options: ZookeeperOptions;
  readonly #connection: ZookeeperConnection;
  readonly #duties = new Set<Duty>();
  readonly #watches = new Map<string, ServiceWatch>();
  /** Paths of registrations and leases, from the first attempt until they are surely gone. */
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
      }
    }, connectMs);
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
    const onChange = () => duty.kick();
    const duty = this.#duty(`register ${path}`, async () => {
      if (current === undefined) return;
      const data = JSON.stringify(current);
      const owner = await this.#claim(this.#connection.session, path, data, onChange);
      if (owner !== undefined) {
        throw new NameTakenError(`${service} ${name} is held by ZooKeeper session ${owner}`);
      }
    });
    const withdraw = async () => {
      current = undefined;
      this.#duties.delete(duty);
      // A run under way could make the node again.
      await duty.settle().catch(() => {});
      await this.#withdraw(path);
    };

    const giveUpAt = performance.now() + 2 * this.#connection.timeoutMs;
    for (;;) {
      try {
        await this.#connection.attempt(() => duty.settle());
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
      update: async (changes) => {
        if (current === undefined) return;
        current = { ...current, ...changes };
        await this.#connection.attempt(() => duty.settle());
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
    if (!watch.current) await this.#connection.attempt(() => watch.duty.settle());
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
      // It may have been made all the same.
      void this.#withdraw(path);
      throw error;
    }
  }

  async #take(session: ZookeeperSession, key: string, path: string, value: string) {
    const onChange = () => duty.kick();
    const duty = this.#duty(`hold ${path}`, async () => {
      if (lease.lost.aborted) return;
      const node = await session.read(path, onChange);
      if (node?.owner === session.id || lease.lost.aborted) return;
      this.#end(lease);
      this.#taken.delete(path);
    });
    const lease: HeldLease = new HeldLease(key, path, session, duty, async () => {
      this.#end(lease);
      await this.#withdraw(path);
    });
    this.#leases.add(lease);
    try {
      // Reading first might find the last holder's node on a server that lags behind.
      await session.createIn(path, value, "ephemeral").catch(unless("NODE_EXISTS"));
      if (await this.#claim(session, path, value, onChange) === undefined) {
        await session.barrier();
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
    this.#duties.delete(lease.duty);
    lease.end();
  }

  cell(key: string): Cell {
    assertName("cell", key);
    return new ZookeeperCell(this.#connection, this.#path("cells", key));
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
    // An outage that was shorter for us cannot have been a whole session for others.
    const lingerMs = awayMs < timeoutMs / 2 ? 0 : timeoutMs;
    for (const watch of this.#watches.values()) watch.resume(lingerMs);
    for (const duty of this.#duties) duty.kick();
  }

  #onDisconnected(ended: boolean): void {
    for (const watch of this.#watches.values()) watch.suspend();
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
    for (const duty of this.#duties) if (all || !duty.settled) duty.kick();
    for (const watch of this.#watches.values()) {
      watch.expire();
      if (all || !watch.duty.settled) watch.recheck();
    }
  }

  #duty(what: string, job: () => Promise<void>): Duty {
    const duty = new Duty(job, this.#reporter(what));
    this.#duties.add(duty);
    return duty;
  }

  #reporter(what: string): (error: unknown) => void {
    let last: string | undefined;
    return (error) => {
      // The next connection settles it.
      if (error instanceof RegistryUnavailableError || last === String(error)) return;
      last = String(error);
      this.#options.log.warn("Could not {what} and will try again: {error}", { what, error });
    };
  }

  /** Makes an ephemeral node ours, with this data, and watches it. Gives the other session that has it, if so. */
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

  /** Resolves when the node is gone or time is up; in that case it goes on by itself. */
  async #withdraw(path: string): Promise<void> {
    const duty = this.#duty(`remove ${path}`, async () => {
      const session = this.#connection.session;
      await session.barrier();
      const node = await session.read(path);
      if (node !== undefined && this.#connection.owns(node.owner)) {
        await session.remove(path, node.version).catch(unless("NO_NODE"));
      }
      this.#duties.delete(duty);
      this.#taken.delete(path);
    });
    await this.#connection.attempt(() => duty.settle()).catch(() => {});
  }

  #path(...names: readonly string[]): string {
    return [this.#options.root, ...names.map(encodeURIComponent)].join("/");
  }
}

function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}
