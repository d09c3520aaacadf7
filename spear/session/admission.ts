/** Who is let in, and what for: a token's rights as a session asks for them. */
import { allows, type Entry, TokenError, type Verifier } from "@gru/ticket/token";
import type { UsedTokens } from "./used_tokens.ts";
import { type Argument, code, EventError } from "../wire.ts";

export interface AdmissionOptions {
  readonly verifier: Verifier;
  readonly used: UsedTokens;
  /** @throws {EventError} when what lets the user in is from before a kick, or that cannot be found out. */
  readonly requireNotKicked: (userId: string, issuedAt: number) => Promise<void> | void;
}

/**
 * Checks the tokens and uses token2 up.
 * @throws {EventError} when they do not let the client in; anything else when that cannot be found out now.
 */
export async function admit(
  { verifier, used, requireNotKicked }: AdmissionOptions,
  { id, name, appType, token1, token2, affinity }: Argument<"auth">,
  before?: Admitted,
): Promise<Admitted> {
  const claims = { userId: id, userName: name, appType };
  let entry: Entry;
  try {
    entry = await verifier.check(claims, token1, token2);
  } catch (error) {
    if (!(error instanceof TokenError)) throw error;
    throw refused(id, error.message);
  }
  if (entry.issuedAt !== undefined) await requireNotKicked(id, entry.issuedAt);
  if (entry.once !== undefined && !await used.use(id, entry.once.id, entry.once.until)) {
    throw refused(id, "token2 has been used already");
  }
  const resume = await verifier.resume(entry);
  const earlier = await endOldest({ verifier, used }, id, before?.resumes ?? []);
  return new Admitted(
    verifier,
    used,
    entry,
    resume === undefined ? [] : [resume.token, ...earlier],
    affinity,
  );
}

function refused(id: string, why: string): EventError {
  return new EventError(
    code.parameterError,
    `auth: the tokens are not valid for user ${id}: ${why}`,
  );
}

/** More tokens to come back with than this are not valid at a time. */
const maxResumes = 8;

async function endOldest(
  { verifier, used }: Pick<AdmissionOptions, "verifier" | "used">,
  userId: string,
  resumes: readonly string[],
): Promise<readonly string[]> {
  const oldest = resumes.slice(maxResumes - 1);
  await Promise.all(oldest.map((token) => end(token, verifier, used, userId)));
  return resumes.slice(0, maxResumes - 1);
}

/** As if it had been used. */
async function end(
  token: string,
  verifier: Verifier,
  used: UsedTokens,
  userId: string,
): Promise<void> {
  const once = verifier.onceOf(token);
  if (once !== undefined) await used.use(userId, once.id, once.until);
}

/** A client that is in, until its rights end. */
export class Admitted {
  readonly #verifier: Verifier;
  readonly #used: UsedTokens;
  readonly #entry: Entry;
  readonly #resumes: string[];
  readonly #affinity: string | undefined;

  /** @param affinity as the client says; its token is believed before that */
  constructor(
    verifier: Verifier,
    used: UsedTokens,
    entry: Entry,
    resumes: readonly string[],
    affinity?: string,
  ) {
    this.#verifier = verifier;
    this.#used = used;
    this.#entry = entry;
    this.#resumes = [...resumes];
    this.#affinity = entry.grant.affinity ?? affinity;
  }

  /** The tokens that this connection was given to come back with, here or elsewhere, the newest first. */
  get resumes(): readonly string[] {
    return this.#resumes;
  }

  /** Unix milliseconds, see {@linkcode Entry.issuedAt}. */
  get issuedAt(): number | undefined {
    return this.#entry.issuedAt;
  }

  /** Nobody comes back with what this connection was given. Rejects when Redis does not take that in. */
  async endResume(): Promise<void> {
    await Promise.all(
      this.resumes.map((token) => end(token, this.#verifier, this.#used, this.userId)),
    );
  }

  get userId(): string {
    return this.#entry.grant.userId;
  }

  get userName(): string {
    return this.#entry.grant.userName;
  }

  get appType(): string {
    return this.#entry.grant.appType;
  }

  /** Users with the same text belong on the same node. */
  get affinity(): string | undefined {
    return this.#affinity;
  }

  /** Unix milliseconds; undefined: never. */
  get rightsUntil(): number | undefined {
    return this.#entry.grant.rightsUntil;
  }

  /** What the client is told of it in the result of `auth`. */
  get told(): object {
    const [resume] = this.resumes;
    return resume === undefined ? {} : { resume, rightsUntil: this.rightsUntil };
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
  async pass(nodes: readonly string[], lifeMs: number): Promise<string> {
    const token = await this.#verifier.pass(this.#entry, nodes, lifeMs);
    // Behind the newest: the oldest ones are the first to be ended.
    this.#resumes.splice(1, 0, token);
    return token;
  }
}

/** Connections whose `auth` is under way, by user: they take their place before they are members. */
export class Entering {
  readonly #count = new Map<string, number>();

  of(userId: string): number {
    return this.#count.get(userId) ?? 0;
  }

  /** A place that is given back, if it was taken, when its owner is a member, or when it is disposed. */
  place(): Disposable & { take(userId: string): void; giveBack(): void } {
    let taken: string | undefined;
    const giveBack = () => {
      if (taken === undefined) return;
      const left = this.of(taken) - 1;
      if (left > 0) this.#count.set(taken, left);
      else this.#count.delete(taken);
      taken = undefined;
    };
    return {
      take: (userId) => {
        taken = userId;
        this.#count.set(userId, this.of(userId) + 1);
      },
      giveBack,
      [Symbol.dispose]: giveBack,
    };
  }
}
