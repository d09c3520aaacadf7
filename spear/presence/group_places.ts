/**
 * Keeps a group from having more users than it may have, on all nodes together. Exact for this node; what others report
 * comes through stat and is about a second old, so users that enter by several nodes within it may be some too many.
 */
import { code, EventError } from "../wire.ts";

export interface GroupPlacesOptions {
  /** Each once. */
  readonly usersHere: (groupId: string) => readonly string[];
  /** An upper bound of them that costs nothing. */
  readonly connectionsHere: (groupId: string) => number;
  /** Of all nodes, about a second old. */
  readonly usersOfGroup: (groupId: string) => Promise<readonly string[]>;
}

export class GroupPlaces {
  readonly #options: GroupPlacesOptions;
  /** How often each user is about to enter, by group. */
  readonly #entering = new Map<string, Map<string, number>>();

  constructor(options: GroupPlacesOptions) {
    this.#options = options;
  }

  /**
   * A place for a user, who may have one already. Dispose it when the user has become a member here, or has not.
   * @throws {EventError} when all `most` places are taken; {@linkcode RpcError} when stat cannot be asked
   */
  async take(
    event: string,
    groupId: string,
    { userId, most }: { readonly userId: string; readonly most: number },
  ): Promise<Disposable> {
    const known = await this.#options.usersOfGroup(groupId);
    const others = this.#entering.get(groupId);
    const atMost = known.length + this.#options.connectionsHere(groupId) + (others?.size ?? 0);
    if (atMost >= most) {
      const here = this.#options.usersHere(groupId);
      const all = new Set([...known, ...here, ...(others?.keys() ?? [])]);
      if (!all.has(userId) && all.size >= most) {
        throw new EventError(
          code.logicError,
          `${event}: group ${groupId} is full: it has ${all.size} users, of ${most} at most`,
        );
      }
    }
    const entering = others ?? new Map<string, number>();
    this.#entering.set(groupId, entering);
    entering.set(userId, (entering.get(userId) ?? 0) + 1);
    return { [Symbol.dispose]: () => this.#giveBack(groupId, entering, userId) };
  }

  #giveBack(groupId: string, entering: Map<string, number>, userId: string): void {
    const left = (entering.get(userId) ?? 0) - 1;
    if (left > 0) entering.set(userId, left);
    else entering.delete(userId);
    if (entering.size === 0 && this.#entering.get(groupId) === entering) {
      this.#entering.delete(groupId);
    }
  }
}
