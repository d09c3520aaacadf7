/** A registry's cell: a persistent node whose version is ZooKeeper's own, the first being 0. */
import { type Cell, ConflictError, RegistryUnavailableError } from "./registry.ts";
import type { ZookeeperConnection } from "./zookeeper_connection.ts";
import { ZookeeperError, type ZookeeperSession } from "./zookeeper_session.ts";

export class ZookeeperCell implements Cell {
  readonly #connection: ZookeeperConnection;
  readonly #path: string;

  constructor(connection: ZookeeperConnection, path: string) {
    this.#connection = connection;
    this.#path = path;
  }

  read(): ReturnType<Cell["read"]> {
    return this.#connection.attempt((session) => this.#read(session));
  }

  async write(value: string, expected: number | undefined): Promise<number> {
    let doubt: unknown;
    const outcome = await this.#connection.attempt(async (session) => {
      if (doubt !== undefined) {
        const found = await this.#read(session);
        if (found?.version !== expected) return this.#verdict(value, expected, found, doubt);
      }
      try {
        if (expected !== undefined) return await session.write(this.#path, value, expected);
        await session.createIn(this.#path, value, "persistent");
        return 0;
      } catch (error) {
        if (isConflict(error)) {
          return this.#verdict(value, expected, await this.#read(session), doubt);
        }
        if (!(error instanceof ZookeeperError)) doubt = error;
        throw error;
      }
    });
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }

  async #read(session: ZookeeperSession) {
    await session.barrier();
    const node = await session.read(this.#path);
    return node && { value: node.data, version: node.version };
  }

  /**
   * What a cell that is not at the expected version says about a write. After a try whose outcome is unknown, another value
   * at the very next version means that somebody else was first; the same value may be theirs too, and later versions
   * hide it.
   */
  #verdict(
    value: string,
    expected: number | undefined,
    found: { readonly value: string; readonly version: number } | undefined,
    doubt: unknown,
  ): Error {
    const beaten = found?.version === (expected ?? -1) + 1 && found.value !== value;
    if (doubt === undefined || beaten) {
      return new ConflictError(
        `${this.#path} is at version ${found?.version ?? "none"}, not ${expected ?? "none"}`,
      );
    }
    const message = `It is not known whether ${this.#path} was written`;
    return new RegistryUnavailableError(message, { cause: doubt });
  }
}

function isConflict(error: unknown): boolean {
  return error instanceof ZookeeperError &&
    (error.code === "BAD_VERSION" || error.code === "NODE_EXISTS" || error.code === "NO_NODE");
}
