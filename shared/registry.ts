/**
 * Who is alive, and who holds what: the one thing all programs of a cluster agree on.
 * Engines: `registry_memory.ts` (one process) and `registry_zookeeper.ts`; both pass
 * `registry_conformance.ts`.
 */

/** One running program, as others see it. */
export interface Instance {
  /** `spear`, `stat`, `idgen`, `ticket` or `minions`. */
  readonly service: string;
  /** Unique within the service, e.g. `spear1`. */
  readonly name: string;
  /** Absolute URLs by purpose: `rpc` (inside), `client` (told to clients), `http` (people and business systems). */
  readonly addresses: Readonly<Record<string, string>>;
  /** Unix milliseconds. */
  readonly startedAt: number;
  /** Whatever else the service tells of itself. */
  readonly meta: Readonly<Record<string, string | number | boolean>>;
}

export interface View {
  /** Sorted by name. */
  readonly instances: readonly Instance[];
  /**
   * Not all of this is known to be so now: the registry is out of reach and this is what was last known, or it is back
   * after an outage and some are given the time to come back as well.
   */
  readonly stale: boolean;
}

/**
 * - `connected`: what is written and watched is current.
 * - `suspended`: out of reach; registrations may or may not still stand.
 * - `closed`: by us.
 */
export type RegistryState = "connected" | "suspended" | "closed";

export interface Registry extends AsyncDisposable {
  readonly state: RegistryState;

  /**
   * Announces an instance until the registration is disposed. Comes back by itself whenever the registry lost it
   * (expired session, restart). While another live process holds the name it waits for that one's
   * session to end, and rejects with {@linkcode NameTakenError} when it has not ended in time.
   */
  register(instance: Instance): Promise<Registration>;

  /**
   * Calls `onView` with the full set of live instances, at first before the promise resolves and then
   * after every change. Views are never partial, and never empty merely because the connection is
   * gone: the last one is repeated with `stale: true`.
   */
  watch(service: string, onView: (view: View) => void): Promise<Disposable>;

  /**
   * Exclusive ownership of `key` (a path of names joined by `/`) until disposed or lost. Resolves to
   * undefined when another holds it. A holder that dies loses it with its session.
   */
  acquire(key: string, value: string): Promise<Lease | undefined>;

  /** A value that outlives everyone, changed only by compare-and-set. */
  cell(key: string): Cell;
}

export interface Registration extends AsyncDisposable {
  /** Replaces what others see of this instance. */
  update(changes: Partial<Pick<Instance, "addresses" | "meta">>): Promise<void>;
}

export interface Lease extends AsyncDisposable {
  readonly key: string;
  /**
   * Until this moment on the clock of `performance.now()` nobody else can have been given the lease,
   * whatever happened to this process or its connection meanwhile. Moves on as the session is
   * confirmed. Ask before every use: a process that slept finds it in the past.
   */
  validUntil(): number;
  /** Aborted when the lease is known to be lost; acquire anew. */
  readonly lost: AbortSignal;
}

export interface Cell {
  /** undefined: never written. Always the current value, never one from a lagging copy. */
  read(): Promise<{ readonly value: string; readonly version: number } | undefined>;
  /**
   * Writes if the cell still has this version (undefined: does not exist yet) and gives the new one.
   * Rejects with {@linkcode ConflictError} when it has not, and with {@linkcode RegistryUnavailableError}
   * when the outcome is unknown: read before trying again.
   */
  write(value: string, expected: number | undefined): Promise<number>;
}

export class NameTakenError extends Error {
  override readonly name = "NameTakenError";
}

export class ConflictError extends Error {
  override readonly name = "ConflictError";
}

/** No answer within the time limit, or no connection. The operation may still have happened. */
export class RegistryUnavailableError extends Error {
  override readonly name = "RegistryUnavailableError";
}

/**
 * Services, instances, leases and cells have names of 1 to 256 characters, anything but `.` and `..`.
 * @throws TypeError that gives the name.
 */
export function assertName(what: string, name: string): void {
  if (name === "" || name === "." || name === ".." || name.length > 256 || !name.isWellFormed()) {
    throw new TypeError(`Not a name for a ${what}: ${JSON.stringify(name)}`);
  }
}
