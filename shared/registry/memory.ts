/** The registry of one process: all programs in the process share the same object. */
import { logger } from "../log.ts";
import {
  assertName,
  type Cell,
  conflictOf,
  type Instance,
  type Lease,
  NameTakenError,
  type Registration,
  type Registry,
  type RegistryState,
  RegistryUnavailableError,
  type Stored,
  type View,
} from "./registry.ts";

interface Listener {
  readonly onView: (view: View) => void;
}

export class MemoryRegistry implements Registry {
  readonly #services = new Map<string, Map<string, Instance>>();
  readonly #watchers = new Map<string, Set<Listener>>();
  readonly #leases = new Map<string, AbortController>();
  readonly #cells = new Map<string, Stored>();
  #state: RegistryState = "connected";

  get state(): RegistryState {
    return this.#state;
  }

  async register(instance: Instance): Promise<Registration> {
    assertName("service", instance.service);
    assertName("instance", instance.name);
    this.#assertOpen();
    const live = this.#services.getOrInsertComputed(instance.service, () => new Map());
    if (live.has(instance.name)) {
      throw new NameTakenError(`${instance.service} ${instance.name} is already registered`);
    }
    const put = (next: Instance) => {
      live.set(instance.name, next);
      this.#publish(instance.service);
    };
    let current: Instance | undefined = instance;
    put(instance);
    return {
      held: true,
      update: async (changes) => {
        this.#assertOpen();
        if (current !== undefined) put(current = { ...current, ...changes });
      },
      [Symbol.asyncDispose]: async () => {
        if (current === undefined) return;
        current = undefined;
        live.delete(instance.name);
        this.#publish(instance.service);
      },
    };
  }

  async watch(service: string, onView: (view: View) => void): Promise<Disposable> {
    assertName("service", service);
    this.#assertOpen();
    const watchers = this.#watchers.getOrInsertComputed(service, () => new Set());
    const listener = { onView };
    watchers.add(listener);
    notify(listener, this.#view(service));
    return { [Symbol.dispose]: () => void watchers.delete(listener) };
  }

  async acquire(key: string): Promise<Lease | undefined> {
    assertName("lease", key);
    this.#assertOpen();
    if (this.#leases.has(key)) return undefined;
    const lost = new AbortController();
    this.#leases.set(key, lost);
    return {
      key,
      // The registry ends with the process, and so does everything that holds something in it.
      validFrom: -Infinity,
      validUntil: () => lost.signal.aborted ? -Infinity : Infinity,
      lost: lost.signal,
      [Symbol.asyncDispose]: async () => {
        if (this.#leases.get(key) === lost) this.#leases.delete(key);
        lost.abort();
      },
    };
  }

  cell(key: string): Cell {
    assertName("cell", key);
    return {
      read: async () => {
        this.#assertOpen();
        return this.#cells.get(key);
      },
      write: async (value, expected) => {
        this.#assertOpen();
        const current = this.#cells.get(key);
        const conflict = conflictOf(key, current, expected);
        if (conflict !== undefined) throw conflict;
        const stored = { value, version: (current?.version ?? -1) + 1 };
        this.#cells.set(key, stored);
        return stored;
      },
    };
  }

  async now(): Promise<number> {
    this.#assertOpen();
    return Date.now();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#state = "closed";
    for (const lost of this.#leases.values()) lost.abort();
    this.#leases.clear();
    this.#watchers.clear();
    this.#services.clear();
  }

  #view(service: string): View {
    const live = [...this.#services.get(service)?.values() ?? []];
    return { instances: live.sort((a, b) => a.name < b.name ? -1 : 1), stale: false };
  }

  #publish(service: string): void {
    const view = this.#view(service);
    for (const listener of [...this.#watchers.get(service) ?? []]) notify(listener, view);
  }

  #assertOpen(): void {
    if (this.#state === "closed") throw new RegistryUnavailableError("The registry is closed");
  }
}

/** An error of one listener must not reach the writer or the other listeners. */
function notify(listener: Listener, view: View): void {
  try {
    listener.onView(view);
  } catch (error) {
    logger("registry").error("A listener threw {error}", { error });
  }
}
