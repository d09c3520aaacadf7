/**
 * Applications of the client library that count what reaches them. They only send and listen: whatever happens to their
 * connections is the library's work.
 */
import { connect, type ConnectOptions, type Group, type Gru } from "@gru/client";
import { type Counts, type Ledger, Member } from "./ledger.ts";
import { holdsWithin } from "./pace.ts";

export interface WitnessOptions extends Omit<ConnectOptions, "user"> {
  readonly userId: number;
  readonly group: number;
  /** Where it counts now. */
  readonly ledger: () => Ledger;
}

/** One user in one group. */
export class Witness extends Member implements AsyncDisposable {
  readonly userId: number;
  readonly #gru: Gru;
  readonly #group: Group;
  #sent = 0;
  #unanswered = 0;
  #readySince = Infinity;
  #wasOnline = false;
  #newestAt = 0;
  #isOver = false;

  constructor({ userId, group, ledger, ...options }: WitnessOptions) {
    super(group, ledger);
    this.userId = userId;
    this.#gru = connect({ ...options, user: { id: userId, name: `user${userId}` } });
    this.#gru.on("state", ({ name }) => this.#takeState(name));
    this.#group = this.#gru.group(group);
    this.#group.on("message", (message) => {
      this.#newestAt = Math.max(this.#newestAt, message.createTime);
      this.message(message);
    });
    this.#group.on("missed", (missed) => this.missed(missed));
  }

  /** @throws {GruError} when it was told to stay away */
  get ready(): boolean {
    const { state } = this.#gru;
    if (state.name === "closed" && state.why) throw state.why;
    return state.name === "online";
  }

  /** Why it is not in. */
  get trouble(): string {
    const { state } = this.#gru;
    return "why" in state && state.why ? state.why.message : state.name;
  }

  /** On the clock of `performance.now()`: when it came to its node; Infinity while it is at none. */
  get readySince(): number {
    return this.#readySince;
  }

  /** When the newest message that came was sent, Unix milliseconds. */
  get newestAt(): number {
    return this.#newestAt;
  }

  get unanswered(): number {
    return this.#unanswered;
  }

  /** @param characters the least length of the message */
  say(characters = 0): void {
    const content = `${this.userId}:${++this.#sent}`.padEnd(characters, ".");
    this.ledger.sent++;
    this.#unanswered++;
    void this.#group.send(content).then(
      (place) => this.ledger.accept(this.group, content, place),
      () => {
        if (!this.#isOver) this.ledger.refused++;
      },
    ).finally(() => this.#unanswered--);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#gru.close({ waitMs: 0 });
  }

  #takeState(name: Gru["state"]["name"]): void {
    if (name !== "online") {
      this.#readySince = Infinity;
      return;
    }
    this.#readySince = performance.now();
    if (this.#wasOnline) this.ledger.reconnects++;
    this.#wasOnline = true;
    const { position } = this.#group;
    if (position) this.enter(position);
  }
}

/** Messages of all witnesses in turn, at a steady rate. */
export class Talk implements Disposable {
  readonly #witnesses: readonly Witness[];
  readonly #perSecond: number;
  readonly #characters: number;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param characters the least length of a message */
  constructor(witnesses: readonly Witness[], perSecond: number, characters = 0) {
    this.#witnesses = witnesses;
    this.#perSecond = perSecond;
    this.#characters = characters;
  }

  start(): void {
    let next = 0;
    const began = performance.now();
    this.#timer = setInterval(() => {
      // By the clock: timers are late on a busy machine.
      const due = (performance.now() - began) / 1000 * this.#perSecond;
      while (next < due) this.#witnesses[next++ % this.#witnesses.length]?.say(this.#characters);
    }, 10);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}

/** How long what was accepted may be on its way to those who are in. */
const patienceMs = 30_000;

/**
 * Resolves when all are back, everything that they have sent is answered, and what was accepted has come, or will not come any more.
 * @throws {Error} when the first two take longer than `timeoutMs`
 */
export async function settled(
  witnesses: readonly Witness[],
  ledger: Ledger,
  timeoutMs = 120_000,
): Promise<Counts> {
  const isBack = (witness: Witness) => witness.ready && witness.unanswered === 0;
  if (!await holdsWithin(timeoutMs, () => witnesses.every(isBack))) {
    const { ready, unanswered, userId, trouble } = witnesses.find((one) => !isBack(one)) as Witness;
    const what = ready ? `waits for ${unanswered} answers` : `is not back: ${trouble}`;
    throw new Error(`after ${timeoutMs} ms user ${userId} ${what}`);
  }
  await holdsWithin(patienceMs, () => ledger.lostTo(witnesses) === 0);
  return ledger.counts(witnesses);
}
