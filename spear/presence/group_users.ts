/**
 * The users of a group, read once for all clients that ask at about the same time: reading and encoding a large group
 * takes milliseconds, while a request has 90 bytes.
 */
import { encodedSuccess, type Result, wireId } from "../wire.ts";

export interface GroupUsersOptions {
  readonly read: (groupId: string) => Promise<string[]>;
  /** How long an answer is shared with others, counted from the start of its read; 0: only while it is being read. */
  readonly keepMs: number;
}

/** An answer to `online`. */
export interface Online {
  readonly result: Result;
  readonly users: readonly string[];
  /** The size of the encoded answer. */
  readonly bytes: number;
}

interface Reading {
  readonly beganAt: number;
  readonly users: Promise<string[]>;
  online: Promise<Online> | undefined;
}

const maxKept = 1000;

export class GroupUsers {
  readonly #options: GroupUsersOptions;
  /** The latest read of each group, in the order of their start. */
  readonly #readings = new Map<string, Reading>();

  constructor(options: GroupUsersOptions) {
    this.#options = options;
  }

  /** Reads now. From now on nobody gets the result of an earlier read. */
  fresh(groupId: string): Promise<string[]> {
    return this.#begin(groupId).users;
  }

  /** `shared`: another request caused the read. */
  async online(groupId: string): Promise<Online & { readonly shared: boolean }> {
    const known = this.#readings.get(groupId);
    const shared = known !== undefined && this.#isFresh(known);
    const reading = shared ? known : this.#begin(groupId);
    reading.online ??= reading.users.then(encode);
    return { ...await reading.online, shared };
  }

  /** What {@linkcode online} would have. */
  recent(groupId: string): Promise<readonly string[]> {
    const known = this.#readings.get(groupId);
    return known !== undefined && this.#isFresh(known) ? known.users : this.fresh(groupId);
  }

  #isFresh({ beganAt }: Reading): boolean {
    return performance.now() - beganAt <= this.#options.keepMs;
  }

  #begin(groupId: string): Reading {
    const users = this.#options.read(groupId);
    const reading: Reading = { beganAt: performance.now(), users, online: undefined };
    this.#readings.delete(groupId);
    this.#readings.set(groupId, reading);
    users.then(
      () => this.#forget(),
      () => {
        if (this.#readings.get(groupId) === reading) this.#readings.delete(groupId);
      },
    );
    return reading;
  }

  /** Removes results that are too old, and the oldest of too many. */
  #forget(): void {
    for (const [groupId, reading] of this.#readings) {
      if (this.#isFresh(reading) && this.#readings.size <= maxKept) return;
      this.#readings.delete(groupId);
    }
  }
}

function encode(users: readonly string[]): Online {
  const { result, bytes } = encodedSuccess({ userIds: users.map(wireId) });
  return { result, users, bytes };
}
