/** Who is let in, and what for: a token's rights as a session asks for them. */
import { allows, type Door, type Entry, TokenError } from "@gru/ticket/token";
import type { UsedTokens } from "./used_tokens.ts";
import { type Argument, code, EventError } from "./wire.ts";

export interface AdmissionOptions {
  readonly door: Door;
  readonly used: UsedTokens;
}

/**
 * Checks the tokens and uses token2 up.
 * @throws {EventError} when they do not let the client in; anything else when that cannot be found out now.
 */
export async function admit(
  { door, used }: AdmissionOptions,
  { id, name, appType, token1, token2 }: Argument<"auth">,
): Promise<Admitted> {
  const claims = { userId: id, userName: name, appType };
  let entry: Entry;
  try {
    entry = await door.check(claims, token1, token2);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    throw refused(id, error.message);
  }
  if (entry.once !== undefined && !await used.use(id, entry.once.id, entry.once.until)) {
    throw refused(id, "token2 has been used already");
  }
  const resume = await door.resume(entry);
  return new Admitted(door, entry, resume?.token);
}

function refused(id: string, why: string): EventError {
  return new EventError(
    code.parameterError,
    `auth: the tokens are not valid for user ${id}: ${why}`,
  );
}

/** A client that is in, until its rights end. */
export class Admitted {
  readonly #door: Door;
  readonly #entry: Entry;
  readonly #resume: string | undefined;

  constructor(door: Door, entry: Entry, resume: string | undefined) {
    this.#door = door;
    this.#entry = entry;
    this.#resume = resume;
  }

  get userId(): string {
    return this.#entry.grant.userId;
  }

  /** Unix milliseconds; undefined: never. */
  get rightsUntil(): number | undefined {
    return this.#entry.grant.rightsUntil;
  }

  /** What the client is told of it in the result of `auth`. */
  get told(): object {
    return this.#resume === undefined
      ? {}
      : { resume: this.#resume, rightsUntil: this.rightsUntil };
  }

  mayListen(groupId: string): boolean {
    return allows(this.#entry.grant.rights.listen, groupId);
  }

  /** @throws {EventError} */
  requireListen(event: string, groupId: string): void {
    this.#requireInForce(event);
    if (this.mayListen(groupId)) return;
    throw new EventError(code.logicError, `${event}: no right to listen to group ${groupId}`);
  }

  /** @throws {EventError} */
  requireSend(type: 0 | 1, targetId: string): void {
    this.#requireInForce("msg");
    const { send, users } = this.#entry.grant.rights;
    if (allows(type === 1 ? send : users, targetId)) return;
    const target = type === 1 ? "group" : "user";
    throw new EventError(code.logicError, `msg: no right to send to ${target} ${targetId}`);
  }

  /** The connection is closed a moment after the rights have ended; nothing is done in that moment. */
  #requireInForce(event: string): void {
    if (this.rightsUntil === undefined || Date.now() < this.rightsUntil) return;
    throw new EventError(code.logicError, `${event}: the rights have expired`);
  }

  /** token2 for other nodes, to be used within `lifeMs` or a little later. */
  pass(nodes: readonly string[], lifeMs: number): Promise<string> {
    return this.#door.pass(this.#entry, nodes, lifeMs);
  }
}
