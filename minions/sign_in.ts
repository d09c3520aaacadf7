/** Decides who may look at the console and who may act: passwords, sessions, and a limit on guessing. */
import { createHash, timingSafeEqual } from "node:crypto";
import { isPasswordOf, type Role, type User } from "./users.ts";
import { KeyedRateLimit, RateLimit } from "@gru/shared/rate_limit";

export type { Role };

/** Who is signed in. With a password that many share, the name is that of the role. */
export interface Operator {
  readonly name: string;
  readonly role: Role;
}

export interface SignInOptions {
  readonly act: string | undefined;
  readonly look: string | undefined;
  /** Those with a name of their own. */
  readonly users?: readonly User[] | undefined;
  /** Default: the clock. Milliseconds. */
  readonly now?: () => number;
}

export type SignInResult =
  | { readonly outcome: "signed in"; readonly role: Role; readonly session: string }
  | { readonly outcome: "wrong" }
  | { readonly outcome: "wait"; readonly waitMs: number };

export const sessionMs = 12 * 3_600_000;
/** Wrong passwords from one address: five at once, then one every ten seconds. */
const perAddress = { perSecond: 0.1, burst: 5, maxKeys: 10_000 };
/** From all addresses together, because an attacker may have many. */
const fromAll = { perSecond: 50, burst: 2000 };
/** Addresses with a successful sign-in: guesses from other addresses never delay them. */
const addressesKept = 1000;
/** The oldest session ends when there is one more. */
const sessionsKept = 10_000;

export class SignIn {
  readonly #options: SignInOptions;
  readonly #now: () => number;
  readonly #sessions = new Map<string, Operator & { readonly endsAt: number }>();
  readonly #byAddress = new KeyedRateLimit(perAddress);
  readonly #all = new RateLimit(fromAll);
  readonly #trusted = new Set<string>();

  constructor(options: SignInOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
  }

  /** No password is set: everybody who reaches the port may act. */
  get open(): boolean {
    const { act, look, users } = this.#options;
    return act === undefined && look === undefined && users === undefined;
  }

  /** There are users with names of their own. */
  get named(): boolean {
    return this.#options.users !== undefined;
  }

  /**
   * Only wrong passwords count. After too many from an address, the right one is not checked either: the answer would
   * help the attacker.
   * @param address guesses from one address count together
   */
  try(password: string, address: string): SignInResult {
    const waitMs = this.#waitMs(address);
    if (waitMs > 0) return { outcome: "wait", waitMs };
    const { act, look } = this.#options;
    // Both are always compared, so that the time shows nothing.
    const [mayAct, mayLook] = [isSame(act, password), isSame(look, password)];
    if (!mayAct && !mayLook) return this.#wrong(address);
    const role = mayAct ? "act" : "look";
    return this.#signedIn({ name: role, role }, address);
  }

  /** As {@linkcode try}, of a user with a name. */
  async tryUser(name: string, password: string, address: string): Promise<SignInResult> {
    const waitMs = this.#waitMs(address);
    if (waitMs > 0) return { outcome: "wait", waitMs };
    // Counted before the slow work, so that many at once are no way around the limit; a right one costs as much as a wrong one.
    const user = this.#options.users?.find((one) => one.name === name);
    this.#wrong(address);
    if (!await isPasswordOf(user, password) || user === undefined) return { outcome: "wrong" };
    return this.#signedIn({ name, role: user.role }, address);
  }

  #waitMs(address: string): number {
    const now = this.#now();
    return Math.max(
      this.#byAddress.waitMs(address, now),
      this.#trusted.has(address) ? 0 : this.#all.waitMs(now),
    );
  }

  #wrong(address: string): SignInResult {
    const now = this.#now();
    this.#byAddress.take(address, now);
    this.#all.take(now);
    return { outcome: "wrong" };
  }

  #signedIn(operator: Operator, address: string): SignInResult {
    keepNewest(this.#trusted.add(address), addressesKept);
    const session = crypto.getRandomValues(new Uint8Array(32)).toHex();
    const endsAt = this.#now() + sessionMs;
    keepNewest(this.#sessions.set(session, { ...operator, endsAt }), sessionsKept);
    return { outcome: "signed in", role: operator.role, session };
  }

  roleOf(session: string | undefined): Role | undefined {
    return this.userOf(session)?.role;
  }

  userOf(session: string | undefined): Operator | undefined {
    if (this.open) return { name: "anybody", role: "act" };
    for (const [known, { endsAt }] of this.#sessions) {
      if (endsAt > this.#now()) break;
      this.#sessions.delete(known);
    }
    const found = session === undefined ? undefined : this.#sessions.get(session);
    return found && { name: found.name, role: found.role };
  }

  signOut(session: string | undefined): void {
    if (session !== undefined) this.#sessions.delete(session);
  }
}

function keepNewest(kept: Set<string> | Map<string, unknown>, most: number): void {
  const [oldest] = kept.keys();
  if (kept.size > most && oldest !== undefined) kept.delete(oldest);
}

function isSame(expected: string | undefined, given: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(expected ?? ""), hash(given)) && expected !== undefined;
}
