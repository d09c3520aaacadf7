/**
 * What one session is a member of: its user's own target, and groups. The roster learns of a user's first session in a target
 * and of the last one's leaving.
 */
import { CompactSet, type ReadonlyCompactSet } from "@gru/shared/compact";
import type { Member } from "../hub/hub.ts";
import type { Watcher } from "../presence/presence.ts";
import { groupTarget, userTarget } from "../wire.ts";
import type { SessionContext } from "./context.ts";

export interface GroupMember extends Member, Watcher {
  readonly userId: string | undefined;
  readonly groups: ReadonlyCompactSet<string>;
}

type Places<S extends Member> = Pick<SessionContext<S>, "hub" | "presence" | "roster">;

export class Memberships<S extends GroupMember> {
  readonly groups = new CompactSet<string>();
  readonly #session: S;
  readonly #node: Places<S>;

  constructor(session: S, node: Places<S>) {
    this.#session = session;
    this.#node = node;
  }

  /** Call before the session enters the hub's target. */
  enterUser(id: string): void {
    if (this.#node.hub.members(userTarget(id)).size === 0) this.#node.roster?.userJoined(id);
  }

  leaveUser(id: string): void {
    const target = userTarget(id);
    this.#node.hub.leave(target, this.#session);
    if (this.#node.hub.members(target).size === 0) this.#node.roster?.userLeft(id);
  }

  /** Call before the session enters the hub's target. */
  enterGroup(group: string): void {
    if (this.groups.has(group)) return;
    if (!this.#otherSessionHas(group)) this.#node.roster?.groupJoined(group, this.#userId);
    this.groups.add(group);
  }

  leaveGroup(group: string): void {
    if (!this.groups.delete(group)) return;
    this.#node.hub.leave(groupTarget(group), this.#session);
    this.#node.presence.unwatch(group, this.#session);
    if (!this.#otherSessionHas(group)) this.#node.roster?.groupLeft(group, this.#userId);
  }

  leaveAll(): void {
    for (const group of [...this.groups]) this.leaveGroup(group);
    const { userId } = this.#session;
    if (userId !== undefined) this.leaveUser(userId);
  }

  get #userId(): string {
    return this.#session.userId ?? "";
  }

  #otherSessionHas(group: string): boolean {
    for (const other of this.#node.hub.members(userTarget(this.#userId))) {
      if (other !== this.#session && other.groups.has(group)) return true;
    }
    return false;
  }
}
