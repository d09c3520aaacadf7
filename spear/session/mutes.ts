/** Who may send no messages. */
import { memberId, type MuteRecord } from "../contract.ts";
import { describe, Restrictions } from "./restrictions.ts";
import { code, EventError, type Target } from "../wire.ts";

export class Mutes extends Restrictions<MuteRecord> {
  /** @throws {EventError} while the user may send nothing there. */
  check(userId: string, target: Target): void {
    const everywhere = this.find("user", userId);
    if (everywhere !== undefined) {
      throw refusal(`user ${userId} is muted ${describe(everywhere)}`);
    }
    if (!target.startsWith("g:")) return;
    const groupId = target.slice(2);
    const all = this.find("group", groupId);
    if (all !== undefined) throw refusal(`group ${groupId} is muted ${describe(all)}`);
    const here = this.find("member", memberId(groupId, userId));
    if (here === undefined) return;
    throw refusal(`user ${userId} is muted in group ${groupId} ${describe(here)}`);
  }
}

function refusal(message: string): EventError {
  return new EventError(code.logicError, `msg: ${message}`);
}
