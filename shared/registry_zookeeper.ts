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
  ConflictError,
  type Instance,
  type Lease,
  NameTakenError,
  type Registration,
  type Registry,
  type RegistryState,
  RegistryUnavailableError,
  type View,
} from "./registry.ts";
import { ServiceWatch } from "./registry_zookeeper_watch.ts";
import {
  type SessionState,
  unless,
  ZookeeperError,
  ZookeeperSession,
} from "./zookeeper_session.ts";

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
 * Operations wait for a connection and are tried again for up to one session's time, {@linkcode Registry.register} for
 * two. Closing ends the session, and so everything held is gone at once.
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
  readonly #duties = new Set<Duty>();
  readonly #watches = new Map<string, ServiceWatch>();
  /** Paths of registrations and leases, from the first attempt until they are surely gone. */
  readonly #taken = new Set<string>();
  readonly #leases = new Set<HeldLease>();
  /** Their nodes, should any be left, are ours to remove. */
  readonly #formerSessions = new Set<string>();
  readonly #upkeep: ReturnType<typeof setInterval>;
  #recheckAt = performance.now() + recheckMs;
  #session: ZookeeperSession;
  /** Replaced at every change of the session's state. */
  #change = Promise.withResolvers<void>();
  /** When a server was heard of last, while none is connected. */
  #outageSince: number | undefined;
  #closing = false;
  #closed: Promise<void> | undefined;

  constructor(options: ZookeeperOptions) {
    this.#options = options;
    this.#session = this.#newSession();
    this.#upkeep = setInterval(() => this.#keepUp(), upkeepMs);
  }

  get state(): RegistryState {
    if (this.#closing) return "closed";
    return this.#session.state === "connected" ? "connected" : "suspended";
  }

  async open(): Promise<void> {
    const { connectMs = 15_000 } = this.#options;
    await this.#attempt(async (session) => {
      for (const kind of ["services", "leases", "cells"]) {
        await session.createPath(this.#path(kind));
      }
    }, connectMs);
  }

  async register(instance: Instance): Promise<Registration> {
    const { service, name } = instance;
    assertName("service", service);
    assertName("instance", name);
    this.#assertOpen();
    const path = this.#path("services", service, name);
    if (this.#taken.has(path)) throw new NameTakenError(`${service} ${name} is already registered`);
    this.#taken.add(path);

    let current: Instance | undefined = instance;
    const onChange = () => duty.kick();
    const duty = this.#duty(`register ${path}`, async () => {
      if (current === undefined) return;
      const data = JSON.stringify(current);
      const owner = await this.#claim(this.#connected(), path, data, onChange);
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

    const giveUpAt = performance.now() + 2 * this.#session.timeoutMs;
    for (;;) {
      try {
        await this.#attempt(() => duty.settle(), giveUpAt - performance.now());
        break;
      } catch (error) {
        if (!(error instanceof NameTakenError) || performance.now() > giveUpAt) {
          await withdraw();
          throw error;
        }
        await pause(this.#session.timeoutMs / 40);
      }
    }
    let disposed: Promise<void> | undefined;
    return {
      update: async (changes) => {
        if (current === undefined) return;
        current = { ...current, ...changes };
        await this.#attempt(() => duty.settle());
      },
      [Symbol.asyncDispose]: () => disposed ??= withdraw(),
    };
  }

  async watch(service: string, onView: (view: View) => void): Promise<Disposable> {
    assertName("service", service);
    const watch = this.#watches.getOrInsertComputed(service, () => {
      const path = this.#path("services", service);
      const { log } = this.#options;
      return new ServiceWatch(path, () => this.#connected(), log, this.#reporter(`watch ${path}`));
    });
    if (!watch.current) await this.#attempt(() => watch.duty.settle());
    this.#assertOpen();
    return watch.listen(onView);
  }

  async acquire(key: string, value: string): Promise<Lease | undefined> {
    assertName("lease", key);
    this.#assertOpen();
    const path = this.#path("leases", key);
    if (this.#taken.has(path)) return undefined;
    this.#taken.add(path);
    try {
      const lease = await this.#attempt((session) => this.#take(session, key, path, value));
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
      await this.#create(session, path, value, "ephemeral").catch(unless("NODE_EXISTS"));
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
    const path = this.#path("cells", key);
    return {
      read: () => this.#attempt((session) => readCell(session, path)),
      write: async (value, expected) => {
        let doubt: unknown;
        const outcome = await this.#attempt(async (session) => {
          if (doubt !== undefined) {
            const found = await readCell(session, path);
            if (found?.version !== expected) return verdict(key, value, expected, found, doubt);
          }
          try {
            if (expected !== undefined) return await session.write(path, value, expected);
            await this.#create(session, path, value, "persistent");
            return 0;
          } catch (error) {
            if (isConflict(error)) {
              return verdict(key, value, expected, await readCell(session, path), doubt);
            }
            if (!(error instanceof ZookeeperError)) doubt = error;
            throw error;
          }
        });
        if (outcome instanceof Error) throw outcome;
        return outcome;
      },
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#closed ??= this.#close();
  }

  async #close(): Promise<void> {
    this.#closing = true;
    clearInterval(this.#upkeep);
    for (const lease of this.#leases) this.#end(lease);
    if (this.#taken.size > 0 && this.#session.state === "suspended") {
      // Worth a moment: without a connection what we hold stays until the session expires.
      await within(this.#change.promise, this.#session.timeoutMs / 3);
    }
    await this.#session.close();
    this.#change.resolve();
  }

  #newSession(): ZookeeperSession {
    const { servers, sessionMs, credentials, log } = this.#options;
    const session: ZookeeperSession = new ZookeeperSession({
      servers,
      sessionMs,
      credentials,
      log,
      onState: (state) => this.#onState(session, state),
    });
    return session;
  }

  #onState(session: ZookeeperSession, state: SessionState): void {
    const { log } = this.#options;
    if (state === "connected") {
      log.info("ZooKeeper session {id} is connected", { id: session.id });
      const awayMs = performance.now() - (this.#outageSince ?? Infinity);
      this.#outageSince = undefined;
      const { timeoutMs } = session;
      // An outage that was shorter for us cannot have been a whole session for others.
      for (const watch of this.#watches.values()) {
        watch.resume(awayMs < timeoutMs / 2 ? 0 : timeoutMs);
      }
      for (const duty of this.#duties) duty.kick();
    } else {
      this.#outageSince ??= session.heardAt;
      for (const watch of this.#watches.values()) watch.suspend();
    }
    if (state === "ended" && !this.#closing) {
      this.#outageSince = -Infinity;
      this.#formerSessions.add(session.id);
      for (const lease of this.#leases) {
        this.#end(lease);
        this.#taken.delete(lease.path);
      }
      // One that was never let in is not followed at once by the next.
      if (session.heardAt > -Infinity) this.#session = this.#newSession();
    }
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  #keepUp(): void {
    const now = performance.now();
    const all = now >= this.#recheckAt;
    if (all) this.#recheckAt = now + recheckMs;
    if (this.#session.state === "ended") this.#session = this.#newSession();
    if (this.#session.state !== "connected") return;
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
      const node = await session.read(path, onChange);
      if (node === undefined) {
        await this.#create(session, path, data, "ephemeral").catch(unless("NODE_EXISTS"));
      } else if (this.#formerSessions.has(node.owner)) {
        await session.remove(path, node.version).catch(unless("NO_NODE"));
      } else if (node.owner !== session.id) {
        return node.owner;
      } else if (node.data !== data) {
        await session.write(path, data, node.version).catch(unless("NO_NODE"));
      } else {
        return undefined;
      }
    }
  }

  async #create(
    session: ZookeeperSession,
    path: string,
    data: string,
    kind: "persistent" | "ephemeral",
  ): Promise<void> {
    try {
      await session.create(path, data, kind);
    } catch (error) {
      unless("NO_NODE")(error);
      await session.createPath(path.slice(0, path.lastIndexOf("/")));
      await session.create(path, data, kind);
    }
  }

  /** Resolves when the node is gone or time is up; in that case it goes on by itself. */
  async #withdraw(path: string): Promise<void> {
    const duty = this.#duty(`remove ${path}`, async () => {
      const session = this.#connected();
      await session.barrier();
      const node = await session.read(path);
      if (
        node !== undefined && (node.owner === session.id || this.#formerSessions.has(node.owner))
      ) {
        await session.remove(path, node.version).catch(unless("NO_NODE"));
      }
      this.#duties.delete(duty);
      this.#taken.delete(path);
    });
    await this.#attempt(() => duty.settle()).catch(() => {});
  }

  /** Runs the action on a connected session; for up to `limitMs` again when the connection is lost. */
  async #attempt<T>(
    action: (session: ZookeeperSession) => Promise<T>,
    limitMs = this.#session.timeoutMs,
  ): Promise<T> {
    const giveUpAt = performance.now() + limitMs;
    for (;;) {
      const leftMs = giveUpAt - performance.now();
      try {
        if (this.#session.state === "connected" || leftMs <= 0) {
          return await action(this.#connected());
        }
      } catch (error) {
        if (!(error instanceof RegistryUnavailableError) || leftMs <= 0) throw error;
      }
      this.#assertOpen();
      if (this.#session.state !== "connected") await within(this.#change.promise, leftMs);
    }
  }

  #connected(): ZookeeperSession {
    this.#assertOpen();
    if (this.#session.state === "connected") return this.#session;
    throw new RegistryUnavailableError(
      `No ZooKeeper server answers: ${this.#options.servers.join(", ")}`,
    );
  }

  #assertOpen(): void {
    if (this.#closing) throw new RegistryUnavailableError("The registry is closed");
  }

  #path(...names: readonly string[]): string {
    return [this.#options.root, ...names.map(encodeURIComponent)].join("/");
  }
}

class HeldLease implements Lease {
  readonly key: string;
  readonly path: string;
  /** Notices that the node is gone. */
  readonly duty: Duty;
  readonly #session: ZookeeperSession;
  readonly #proof: Disposable;
  readonly #release: () => Promise<void>;
  readonly #lost = new AbortController();
  #released: Promise<void> | undefined;

  constructor(
    key: string,
    path: string,
    session: ZookeeperSession,
    duty: Duty,
    release: () => Promise<void>,
  ) {
    this.key = key;
    this.path = path;
    this.duty = duty;
    this.#session = session;
    this.#proof = session.prove();
    this.#release = release;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  validUntil(): number {
    return this.#lost.signal.aborted ? -Infinity : this.#session.validUntil();
  }

  end(): void {
    if (this.#lost.signal.aborted) return;
    this.#proof[Symbol.dispose]();
    this.#lost.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A lost one may be held by another, also by another of ours.
    if (!this.#lost.signal.aborted) this.#released ??= this.#release();
    await this.#released;
  }
}

async function readCell(session: ZookeeperSession, path: string) {
  await session.barrier();
  const node = await session.read(path);
  return node && { value: node.data, version: node.version };
}

function isConflict(error: unknown): boolean {
  return error instanceof ZookeeperError &&
    (error.code === "BAD_VERSION" || error.code === "NODE_EXISTS" || error.code === "NO_NODE");
}

/**
 * What a cell that is not at the expected version says about a write. After a try whose outcome is unknown, another value
 * at the very next version means that somebody else was first; the same value may be theirs too, and later versions hide it.
 */
function verdict(
  key: string,
  value: string,
  expected: number | undefined,
  found: { readonly value: string; readonly version: number } | undefined,
  doubt: unknown,
): Error {
  const beaten = found?.version === (expected ?? -1) + 1 && found.value !== value;
  if (doubt !== undefined && !beaten) {
    return new RegistryUnavailableError(`It is not known whether ${key} was written`, {
      cause: doubt,
    });
  }
  return new ConflictError(
    `${key} is at version ${found?.version ?? "none"}, not ${expected ?? "none"}`,
  );
}

/** Waits for the promise, but no longer than this. */
async function within(promise: Promise<void>, limitMs: number): Promise<void> {
  const limit = Promise.withResolvers<void>();
  const timer = setTimeout(limit.resolve, Math.max(0, limitMs));
  await Promise.race([promise, limit.promise]);
  clearTimeout(timer);
}

function pause(durationMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, durationMs));
}
