/**
 * Tells those who ask for it who comes into a group and who leaves it, over the whole cluster. A user counts once, with
 * however many connections and nodes. Asking who is there, again and again, and telling the difference cannot drift, and
 * costs nothing for the groups that nobody watches.
 */
import type { Logger } from "@gru/shared/log";
import { wireId } from "./wire.ts";

/** The argument of the event `presence`. */
export interface PresenceChange {
  readonly groupId: number | string;
  readonly joined: readonly (number | string)[];
  readonly left: readonly (number | string)[];
}

export interface Watcher {
  presence(change: PresenceChange): void;
}

export interface PresenceOptions {
  readonly usersOfGroup: (groupId: string) => Promise<readonly string[]>;
  readonly periodMs: number;
  readonly log: Logger;
}

interface Watched {
  readonly watchers: Set<Watcher>;
  /** As they were told last; empty until `known`. */
  users: ReadonlySet<string>;
  readonly known: Promise<void>;
}

export class Presence implements AsyncDisposable {
  readonly #options: PresenceOptions;
  readonly #groups = new Map<string, Watched>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #round: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
  }

  /**
   * The watcher is told of all changes from now on: who asks for the whole after this has resolved misses none.
   * Rejects when it cannot be found out who is there now; then nothing is watched.
   */
  async watch(groupId: string, watcher: Watcher): Promise<void> {
    const watched = this.#groups.getOrInsertComputed(groupId, () => {
      const fresh: Watched = {
        watchers: new Set(),
        users: new Set(),
        known: this.#options.usersOfGroup(groupId).then((users) => {
          fresh.users = new Set(users);
        }),
      };
      return fresh;
    });
    watched.watchers.add(watcher);
    try {
      await watched.known;
    } catch (error) {
      if (this.#groups.get(groupId) === watched) this.#groups.delete(groupId);
      throw error;
    }
    this.#schedule();
  }

  unwatch(groupId: string, watcher: Watcher): void {
    const watched = this.#groups.get(groupId);
    if (watched?.watchers.delete(watcher) && watched.watchers.size === 0) {
      this.#groups.delete(groupId);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#round;
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#closed || this.#groups.size === 0) return;
    this.#timer = setTimeout(() => {
      this.#round = this.#ask().then(() => {
        this.#timer = undefined;
        this.#schedule();
      });
    }, this.#options.periodMs);
  }

  async #ask(): Promise<void> {
    for (const [groupId, watched] of [...this.#groups]) {
      try {
        await watched.known;
        const users = new Set(await this.#options.usersOfGroup(groupId));
        tell(groupId, watched.watchers, watched.users, users);
        watched.users = users;
      } catch (error) {
        // The next answer makes up for it: what is told is the difference to what was told last.
        this.#options.log.debug("presence of group {groupId}: {error}", { groupId, error });
      }
      if (this.#closed) return;
    }
  }
}

function tell(
  groupId: string,
  watchers: ReadonlySet<Watcher>,
  before: ReadonlySet<string>,
  users: ReadonlySet<string>,
): void {
  const joined = [...users.difference(before)].map(wireId);
  const left = [...before.difference(users)].map(wireId);
  if (joined.length === 0 && left.length === 0) return;
  for (const watcher of watchers) {
    watcher.presence({ groupId: wireId(groupId), joined, left });
  }
}
