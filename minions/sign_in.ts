/** Who may look at the console and who may act: passwords, sessions, and a brake on guessing. */
import { createHash, timingSafeEqual } from "node:crypto";

/** `act` may do all that `look` may. */
export type Role = "look" | "act";

export interface SignInOptions {
  readonly act: string | undefined;
  readonly look: string | undefined;
  /** Default: the clock. Milliseconds. */
  readonly now?: () => number;
}

export type SignInResult =
  | { readonly outcome: "signed in"; readonly role: Role; readonly session: string }
  | { readonly outcome: "wrong" }
  | { readonly outcome: "wait"; readonly waitMs: number };

export const sessionMs = 12 * 3_600_000;
/** So many wrong passwords in a row; then one more each `refillMs`, whoever tries. */
const attempts = 5;
const refillMs = 10_000;

export class SignIn {
  readonly #options: SignInOptions;
  readonly #now: () => number;
  readonly #sessions = new Map<string, { readonly role: Role; readonly endsAt: number }>();
  #left = attempts;
  #refilledAt: number;

  constructor(options: SignInOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    this.#refilledAt = this.#now();
  }

  /** No password is set: everyone who reaches the port may act. */
  get open(): boolean {
    return this.#options.act === undefined && this.#options.look === undefined;
  }

  try(password: string): SignInResult {
    const waitMs = this.#refill();
    if (this.#left < 1) return { outcome: "wait", waitMs };
    const { act, look } = this.#options;
    // Both are compared, whatever the first says.
    const [mayAct, mayLook] = [isSame(act, password), isSame(look, password)];
    if (!mayAct && !mayLook) {
      this.#left--;
      return { outcome: "wrong" };
    }
    const role = mayAct ? "act" : "look";
    const session = crypto.getRandomValues(new Uint8Array(32)).toHex();
    this.#sessions.set(session, { role, endsAt: this.#now() + sessionMs });
    return { outcome: "signed in", role, session };
  }

  roleOf(session: string | undefined): Role | undefined {
    if (this.open) return "act";
    for (const [known, { endsAt }] of this.#sessions) {
      if (endsAt > this.#now()) break;
      this.#sessions.delete(known);
    }
    return session === undefined ? undefined : this.#sessions.get(session)?.role;
  }

  signOut(session: string | undefined): void {
    if (session !== undefined) this.#sessions.delete(session);
  }

  /** Milliseconds until the next attempt is given. */
  #refill(): number {
    const passed = Math.floor((this.#now() - this.#refilledAt) / refillMs);
    this.#refilledAt += passed * refillMs;
    this.#left = Math.min(attempts, this.#left + passed);
    return this.#refilledAt + refillMs - this.#now();
  }
}

function isSame(expected: string | undefined, given: string): boolean {
  const hash = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(hash(expected ?? ""), hash(given)) && expected !== undefined;
}
