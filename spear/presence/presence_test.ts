import assert from "node:assert/strict";
import { setImmediate as turn, setTimeout as pause } from "node:timers/promises";
import { logger } from "@gru/shared/log";
import fc from "fast-check";
import { GroupUsers } from "./group_users.ts";
import { Presence, type PresenceChange } from "./presence.ts";
import { slowTest } from "@gru/shared/testing/harness";

const actions = [
  "a user comes or goes",
  "online",
  "the period ends",
  "stat reads",
  "an answer arrives",
] as const;
type Action = typeof actions[number];

interface Asked {
  /** The users that stat had when it read them; undefined: the request is under way. */
  seen: string[] | undefined;
  readonly arrive: (users: string[]) => void;
}

/**
 * One group, a watcher that asks for the full list and is notified of changes, and calls to stat that overtake each
 * other.
 */
class Scene implements AsyncDisposable {
  /** The group as the watcher sees it; undefined until it has the full list. */
  view: Set<string> | undefined;
  readonly #asked: Asked[] = [];
  readonly #truth = new Set<string>();
  readonly #groupUsers: GroupUsers;
  readonly #presence: Presence;
  readonly #watching: Promise<void>;
  #isWatching = false;
  #onAsked = () => {};

  constructor(keepMs: number) {
    const read = () => {
      const { promise, resolve } = Promise.withResolvers<string[]>();
      this.#asked.push({ seen: undefined, arrive: resolve });
      this.#onAsked();
      return promise;
    };
    const groupUsers = this.#groupUsers = new GroupUsers({ keepMs, read });
    this.#presence = new Presence({
      ...{ usersOfGroup: (id) => groupUsers.fresh(id), periodMs: 0, log: logger("test") },
    });
    this.#watching = this.#presence.watch("10", this).then(() => {
      this.#isWatching = true;
    });
  }

  get truth(): string[] {
    return [...this.#truth].sort();
  }

  presence({ joined, left }: PresenceChange): void {
    for (const user of joined) this.view?.add(String(user));
    for (const user of left) this.view?.delete(String(user));
  }

  async do(action: Action, which: number): Promise<void> {
    const asked = this.#asked;
    const some = asked.filter(({ seen }) => (seen === undefined) === (action === "stat reads"));
    const one = some[which % some.length];
    if (action === "the period ends") await pause(1);
    else if (action === "a user comes or goes") {
      const user = String(which % 3);
      if (!this.#truth.delete(user)) this.#truth.add(user);
    } else if (action === "online") {
      if (this.#isWatching) void this.#online();
    } else if (one !== undefined && action === "stat reads") one.seen = this.truth;
    else if (one !== undefined) {
      asked.splice(asked.indexOf(one), 1);
      one.arrive(one.seen ?? []);
    }
  }

  async #online(): Promise<void> {
    const { users } = await this.#groupUsers.online("10");
    this.#presence.sentList("10", users);
    this.view = new Set(users);
  }

  async #answerAll(): Promise<void> {
    while (this.#asked.length > 0) {
      await this.do("stat reads", 0);
      await this.do("an answer arrives", 0);
    }
    await turn();
  }

  /** Waits until all calls under way, and calls made after them, have been answered. */
  async rest(): Promise<void> {
    await this.#answerAll();
    await this.#watching;
    for (let round = 0; round < 2; round++) {
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onAsked = resolve;
      if (this.#asked.length === 0) await promise;
      await this.#answerAll();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#presence.unwatch("10", this);
    await this.#presence[Symbol.asyncDispose]();
  }
}

slowTest(
  "a watcher that asks for the full list ends with the right users, however calls and answers overtake each other",
  async () => {
    const action = fc.record({
      action: fc.constantFrom(...actions),
      which: fc.nat(11),
      /** Answers of one turn come before anybody who waits for them has gone on. */
      sameTurn: fc.boolean(),
    });
    const history = fc.array(action, { minLength: 20, maxLength: 60 });
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(0, 1e6), history, async (keepMs, history) => {
        await using scene = new Scene(keepMs);
        for (const { action, which, sameTurn } of history) {
          await scene.do(action, which);
          if (!sameTurn) await turn();
        }
        await scene.rest();
        if (scene.view !== undefined) assert.deepEqual([...scene.view].sort(), scene.truth);
      }),
      { numRuns: 300 },
    );
  },
);
