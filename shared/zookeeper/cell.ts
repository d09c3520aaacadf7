/** A registry's cell: a persistent ZooKeeper node. The cell's version is ZooKeeper's own and starts at 0. */
import {
  type Cell,
  ConflictError,
  conflictOf,
  RegistryUnavailableError,
  type Stored,
} from "../registry/registry.ts";
import type { ZookeeperConnection } from "./connection.ts";
import { ZookeeperError, type ZookeeperSession } from "./session.ts";

/** The connection through which each value was read or written. */
const knownThrough = new WeakMap<Stored, string>();

export class ZookeeperCell implements Cell {
  readonly #connection: ZookeeperConnection;
  readonly #path: string;

  constructor(connection: ZookeeperConnection, path: string) {
    this.#connection = connection;
    this.#path = path;
  }

  read(): Promise<Stored | undefined> {
    return this.#connection.attempt((session) => this.#read(session));
  }

  async write(value: string, expected: Stored | undefined): Promise<Stored> {
    let doubt: unknown;
    const outcome = await this.#connection.attempt(async (session) => {
      // ZooKeeper compares versions only. Another connection may serve data from a backup, whose versions start again.
      const isKnown = expected === undefined || knownThrough.get(expected) === nameOf(session);
      if (doubt !== undefined || !isKnown) {
        const found = await this.#read(session);
        const conflict = conflictOf(this.#path, found, expected);
        if (conflict !== undefined) return this.#verdict(value, expected, found, conflict, doubt);
      }
      try {
        if (expected === undefined) {
          await session.createIn(this.#path, value, "persistent");
          return keep({ value, version: 0 }, session);
        }
        const version = await session.write(this.#path, value, expected.version);
        return keep({ value, version }, session);
      } catch (error) {
        if (isRefusal(error)) {
          const found = await this.#read(session);
          const conflict = new ConflictError(`${this.#path} was changed: ${error}`);
          const named = conflictOf(this.#path, found, expected) ?? conflict;
          return this.#verdict(value, expected, found, named, doubt);
        }
        if (!(error instanceof ZookeeperError)) doubt = error;
        throw error;
      }
    });
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  async #read(session: ZookeeperSession): Promise<Stored | undefined> {
    await session.barrier();
    const node = await session.read(this.#path);
    return node && keep({ value: node.data, version: node.version }, session);
  }

  /**
   * Decides about a write when the cell does not hold the expected value. After an attempt with an unknown outcome,
   * another value with the very next version means that another writer was first. The same value may be the other
   * writer's too, and later versions hide it.
   */
  #verdict(
    value: string,
    expected: Stored | undefined,
    found: Stored | undefined,
    conflict: ConflictError,
    doubt: unknown,
  ): Error {
    const beaten = found?.version === (expected?.version ?? -1) + 1 && found.value !== value;
    if (doubt === undefined || beaten) return conflict;
    const message = `It is not known whether ${this.#path} was written`;
    return new RegistryUnavailableError(message, { cause: doubt });
  }
}

function nameOf(session: ZookeeperSession): string {
  return `${session.id} ${session.connectedAt}`;
}

function keep(stored: Stored, session: ZookeeperSession): Stored {
  knownThrough.set(stored, nameOf(session));
  return stored;
}

function isRefusal(error: unknown): boolean {
  return error instanceof ZookeeperError &&
    (error.code === "BAD_VERSION" || error.code === "NODE_EXISTS" || error.code === "NO_NODE");
}
