/**
 * Which programs are alive, and which program holds which lease: the state that all programs of a cluster agree on.
 * Engines: `memory.ts` (one process) and `../zookeeper/registry.ts`; both pass `conformance.ts`.
 */

/** One running program, as others see it. */
export interface Instance {
  /** `spear`, `stat`, `idgen`, `ticket` or `minions`. */
  readonly service: string;
  /** Unique within the service, e.g. `spear1`. */
  readonly name: string;
  /**
   * Absolute URLs by purpose: `rpc` (for programs), `client` (for clients), `http` (for people and business systems).
   */
  readonly addresses: Readonly<Record<string, string>>;
  /** Unix milliseconds. */
  readonly startedAt: number;
  /** More that the service publishes about itself. */
  readonly meta: Readonly<Record<string, string | number | boolean>>;
}

export interface View {
  /** Sorted by name. */
  readonly instances: readonly Instance[];
  /**
   * True: some of this may be out of date. The registry cannot be reached and this is the last known view; or it is
   * back after an outage, and instances still have time to reconnect.
   */
  readonly stale: boolean;
}

/**
 * - `connected`: writes and watches are current.
 * - `suspended`: cannot be reached; registrations may or may not still exist.
 * - `closed`: by this program.
 */
export type RegistryState = "connected" | "suspended" | "closed";

export interface Registry extends AsyncDisposable {
  readonly state: RegistryState;

  /**
   * Announces an instance until the registration is disposed. The registration is restored by itself whenever the
   * registry lost it (expired session, restart). While another live process holds the name it waits for that process's
   * session to end, and rejects with {@linkcode NameTakenError} if it does not end in time.
   */
  register(instance: Instance): Promise<Registration>;

  /**
   * Calls `onView` with the full set of live instances: first before the promise resolves, then after every change.
   * Views are never partial. When the connection is lost, the last view is repeated with `stale: true`, never an empty
   * one.
   */
  watch(service: string, onView: (view: View) => void): Promise<Disposable>;

  /**
   * Exclusive ownership of `key` (names joined by `/`) until disposed or lost. Resolves to undefined when another
   * holder has it. A holder that dies loses it with its session.
   */
  acquire(key: string, value: string): Promise<Lease | undefined>;

  /** A value that outlives every process and is changed only by compare-and-set. */
  cell(key: string): Cell;

  /** Unix milliseconds on the registry's own clock, at a moment between call and answer. Costs a write. */
  now(): Promise<number>;
}

export interface Registration extends AsyncDisposable {
  /**
   * False when another live process was found to have the name, e.g. after this process was frozen for longer than the
   * session, until the name is held here again. Stays true while the registry cannot be reached, because nobody can
   * take a name then.
   */
  readonly held: boolean;
  /** Replaces what others see of this instance. */
  update(changes: Partial<Pick<Instance, "addresses" | "meta">>): Promise<void>;
}

export interface Lease extends AsyncDisposable {
  readonly key: string;
  /**
   * After this time on the clock of `performance.now()` no other process can still believe that it holds the lease.
   * This is so even if the registry lost its data (it came back empty or from a backup, or another one answers at its
   * address) and granted the lease while the old holder lived. It is in the past when the registry has been connected
   * without a break for long enough.
   */
  readonly validFrom: number;
  /**
   * Until this time on the clock of `performance.now()` no other process can have got the lease, whatever happened to
   * this process or its connection. It advances as the session is confirmed. Check it before every use: after a freeze
   * it is in the past.
   */
  validUntil(): number;
  /** Aborted when the lease is known to be lost; then acquire again. */
  readonly lost: AbortSignal;
}

/**
 * The value of a cell and its version. The version alone is not enough: a registry restored from a backup counts from
 * an older version again.
 */
export interface Stored {
  readonly value: string;
  readonly version: number;
}

export interface Cell {
  /** undefined: never written. Always the current value, never one from a lagging replica. */
  read(): Promise<Stored | undefined>;
  /**
   * Writes if the cell still has the expected value and version (undefined: the cell does not exist yet), and returns
   * what the cell holds then. Rejects with {@linkcode ConflictError} if it does not, and with {@linkcode
   * RegistryUnavailableError} when the outcome is unknown: read before you try again.
   */
  write(value: string, expected: Stored | undefined): Promise<Stored>;
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
 * Names of services, instances, leases and cells have 1 to 256 characters, and are not `.` or `..`.
 * @throws TypeError that contains the name.
 */
export function assertName(what: string, name: string): void {
  if (name === "" || name === "." || name === ".." || name.length > 256 || !name.isWellFormed()) {
    throw new TypeError(`Not a name for a ${what}: ${JSON.stringify(name)}`);
  }
}

/** Why a cell cannot be written; undefined when it holds what is expected. */
export function conflictOf(
  key: string,
  current: Stored | undefined,
  expected: Stored | undefined,
): ConflictError | undefined {
  if (current?.version !== expected?.version) {
    const [is, not] = [current?.version ?? "none", expected?.version ?? "none"];
    return new ConflictError(`${key} is at version ${is}, not ${not}`);
  }
  if (current?.value === expected?.value) return undefined;
  return new ConflictError(`${key} holds another value at version ${current?.version}`);
}
