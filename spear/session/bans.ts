/** Who may not come in, and which groups nobody may join. */
import type { FollowedClock } from "@gru/shared/clock";
import type { BanRecord } from "../contract.ts";
import { disconnects } from "../disconnects.ts";
import { Kicks } from "./kicks.ts";
import { describe, Restrictions } from "./restrictions.ts";
import { code, EventError } from "../wire.ts";

export class Bans extends Restrictions<BanRecord> {
  readonly kicks: Kicks;

  constructor(clock: FollowedClock) {
    super(clock);
    this.kicks = new Kicks(clock);
  }

  /** @throws {EventError} while the user is banned, or when what lets the user in is from before a kick. */
  checkUser(id: string, issuedAt?: number): void {
    this.kicks.check(id, issuedAt);
    const ban = this.find("user", id);
    if (ban === undefined) return;
    throw new EventError(code.logicError, `auth: user ${id} is banned ${describe(ban)}`, {
      ends: disconnects.refused,
    });
  }

  /** @throws {EventError} while nobody may join the group. */
  checkGroup(id: string): void {
    const ban = this.find("group", id);
    if (ban === undefined) return;
    throw new EventError(code.logicError, `subscribe: group ${id} is closed ${describe(ban)}`);
  }
}
