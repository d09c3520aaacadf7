/** Who may not come in, and which groups nobody may join, until when. */
import type { Ban } from "./contract.ts";
import { code, EventError } from "./wire.ts";

export class Bans {
  /** Under `user 5` or `group 10`, with the moment it was heard of (`performance.now()`). */
  #bans = new Map<string, { readonly ban: Ban; readonly at: number }>();

  add(ban: Ban): void {
    this.#bans.set(`${ban.kind} ${ban.id}`, { ban, at: performance.now() });
  }

  /** What the whole cluster held when it was asked: replaces all that was known here by then. */
  replace(bans: readonly Ban[], askedAt: number): void {
    const newer = [...this.#bans].filter(([, { at }]) => at >= askedAt);
    this.#bans = new Map(bans.map((ban) => [`${ban.kind} ${ban.id}`, { ban, at: askedAt }]));
    for (const [key, known] of newer) this.#bans.set(key, known);
  }

  /** @throws {EventError} while the user is banned. */
  checkUser(id: string): void {
    const ban = this.#find("user", id);
    if (ban === undefined) return;
    throw new EventError(code.logicError, `auth: user ${id} is banned ${describe(ban)}`, {
      fatal: true,
    });
  }

  /** @throws {EventError} while nobody may join the group. */
  checkGroup(id: string): void {
    const ban = this.#find("group", id);
    if (ban === undefined) return;
    throw new EventError(code.logicError, `subscribe: group ${id} is closed ${describe(ban)}`);
  }

  #find(kind: Ban["kind"], id: string): Ban | undefined {
    if (this.#bans.size === 0) return undefined;
    const key = `${kind} ${id}`;
    const ban = this.#bans.get(key)?.ban;
    if (ban === undefined || ban.until > Date.now()) return ban;
    this.#bans.delete(key);
    return undefined;
  }
}

function describe({ until, reason }: Ban): string {
  return `until ${new Date(until).toISOString()}${reason === "" ? "" : `: ${reason}`}`;
}
