/**
 * Notifies watchers of users that join or leave a group, over the whole cluster. A user counts once, whatever the
 * number of its connections and nodes. The full list is polled and compared with the last one, so the result cannot
 * drift. Groups without watchers cost nothing.
 */
import type { Logger } from "@gru/shared/log";
import { wireId } from "../wire.ts";

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
  /** The users in the last notification; undefined until they are known. */
  lastUsers: readonly string[] | undefined;
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
   * The watcher is notified of all changes from now on: it misses none if it asks for the full list after this has
   * resolved. Rejects when the present users cannot be read; then nothing is watched.
   * @returns false: {@linkcode unwatch} was called meanwhile
   */
  async watch(groupId: string, watcher: Watcher): Promise<boolean> {
    const watched = this.#groups.getOrInsertComputed(groupId, () => {
      const fresh: Watched = {
        watchers: new Set(),
        lastUsers: undefined,
        known: this.#options.usersOfGroup(groupId).then((users) => notify(groupId, fresh, users)),
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
    return watched.watchers.has(watcher);
  }

  unwatch(groupId: string, watcher: Watcher): void {
    const watched = this.#groups.get(groupId);
    if (watched?.watchers.delete(watcher) && watched.watchers.size === 0) {
      this.#groups.delete(groupId);
    }
  }

  /**
   * A full list was read and may have been sent to a watcher: the next change starts from this list. The list may
   * differ from what the polls saw: it can contain a user that joined and left between two polls, or be older than the
   * last poll.
   */
  sentList(groupId: string, users: readonly string[]): void {
    const watched = this.#groups.get(groupId);
    if (watched !== undefined) notify(groupId, watched, users);
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
        notify(groupId, watched, await this.#options.usersOfGroup(groupId));
      } catch (error) {
        // The next poll corrects it, because it is compared with the last notification.
        this.#options.log.debug("presence of group {groupId}: {error}", { groupId, error });
      }
      if (this.#closed) return;
    }
  }
}

function notify(groupId: string, watched: Watched, users: readonly string[]): void {
  const { lastUsers } = watched;
  // Several groups of callers may get the same list.
  if (lastUsers === users) return;
  watched.lastUsers = users;
  if (lastUsers === undefined) return;
  const [before, now] = [new Set(lastUsers), new Set(users)];
  const joined = [...now.difference(before)].map(wireId);
  const left = [...before.difference(now)].map(wireId);
  if (joined.length === 0 && left.length === 0) return;
  for (const watcher of watched.watchers) {
    watcher.presence({ groupId: wireId(groupId), joined, left });
  }
}
