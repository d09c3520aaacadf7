/** A receiver of hooks in a simulated cluster: from the events alone it rebuilds who is where. */
import { pause } from "@gru/shared/pause";
import type { HookEvent } from "../../stat/hooks/event.ts";
import { beginning, type Outbox } from "../../stat/hooks/outbox.ts";
import { Teller } from "../../stat/hooks/teller.ts";
import type { Operations } from "../../stat/operations.ts";
import type { StatStore } from "../../stat/store.ts";

export const hooksGraceMs = 600;
const stepMs = 200;
const leaseMs = 60_000;

export class SimHooks {
  readonly #store: StatStore;
  readonly #fail: (error: string) => void;
  readonly #online = new Set<string>();
  readonly #members = new Map<string, Set<string>>();
  #outbox: Outbox | undefined;
  #token: string | undefined;
  #readTo = beginning;

  /** @param store whose parts are others after it has lost data */
  constructor(store: StatStore, fail: (error: string) => void) {
    this.#store = store;
    this.#fail = fail;
  }

  /** Never ends: it does what the stat does that holds the lease. */
  async run(): Promise<never> {
    const teller = this.#teller();
    for (;;) {
      const { outbox } = this.#store;
      // Data that were lost begin anew.
      if (outbox !== this.#outbox) {
        [this.#outbox, this.#token, this.#readTo] = [outbox, undefined, beginning];
      }
      const token = this.#token = await outbox.lease(this.#token, leaseMs);
      if (token === undefined) throw new Error("somebody else has the lease");
      const { nextMs } = await teller.step(token);
      const { events, last } = await outbox.read(this.#readTo, 1000);
      teller.saw(events);
      for (const event of events) this.#take(event);
      this.#readTo = last;
      await pause(Math.min(stepMs, Math.max(nextMs, 1)));
    }
  }

  /** What it says of people that stat does not say; undefined: nothing. */
  async wrong({ store, live }: Operations, users: Iterable<string>): Promise<string | undefined> {
    for (const user of users) {
      const isOnline = (await store.nodesOfUser(user, live)).length > 0;
      if (isOnline !== this.#online.has(user)) {
        return `hooks say that user ${user} is ${isOnline ? "offline" : "online"}, stat does not`;
      }
    }
    const groups =
      (await store.page({ of: "groups" }, live, { prefix: "", after: "", limit: 1000 })).map((
        { name },
      ) => name);
    for (const group of new Set([...groups, ...this.#members.keys()])) {
      const told = [...this.#members.get(group) ?? []].sort().join();
      const right = (await store.usersOfGroup(group, live)).toSorted().join();
      if (told !== right) return `hooks say that group ${group} has ${told}, stat has ${right}`;
    }
    return undefined;
  }

  /** Over what the store is now. */
  #teller(): Teller {
    const store = this.#store;
    return new Teller({
      tell: (...args) => store.telling.tell(...args),
      reset: (...args) => store.telling.reset(...args),
      resume: (...args) => store.telling.resume(...args),
      tellNodes: (...args) => store.telling.tellNodes(...args),
      active: (...args) => store.telling.active(...args),
      unread: (...args) => store.telling.unread(...args),
      tellMessages: (...args) => store.telling.tellMessages(...args),
    }, { graceMs: hooksGraceMs });
  }

  #take({ kind, data }: HookEvent): void {
    const { userId = "", groupId = "" } = data as { userId?: string; groupId?: string };
    if (kind === "hooks.gap") {
      this.#online.clear();
      this.#members.clear();
    } else if (kind === "user.online" || kind === "user.offline") {
      this.#change(this.#online, userId, kind === "user.online", kind);
    } else if (kind === "member.joined" || kind === "member.left") {
      const members = this.#members.getOrInsertComputed(groupId, () => new Set());
      this.#change(members, userId, kind === "member.joined", `${kind} ${groupId}`);
      if (members.size === 0) this.#members.delete(groupId);
    }
  }

  #change(set: Set<string>, user: string, isThere: boolean, what: string): void {
    if (set.has(user) === isThere) this.#fail(`hooks: ${what} of user ${user} was invented`);
    if (isThere) set.add(user);
    else set.delete(user);
  }
}
