/** Asks a business system for one kind of decision. What is under way, cached and waited for is bounded. */
import type { z } from "zod";
import { Breaker } from "./breaker.ts";
import type { Question } from "./decisions.ts";
import { type Post, PostError } from "./posting.ts";

/** UTF-16 units of questions that may be under way at a time, whatever their number. */
const mostCharsUnderWay = 32_000_000;

/** What happened to a question, see the metric `gru_decisions_total`. */
export type Outcome = string;

export interface AskerOptions<A extends { readonly action: string }> {
  readonly url: string;
  /** `whsec_…`, several separated by commas: all sign. */
  readonly secrets: string;
  readonly answer: z.ZodType<A>;
  readonly post: Post;
  readonly allowPrivate: boolean;
  /** From the question to the end of the answer. Default 1000. */
  readonly deadlineMs?: number | undefined;
  /** Questions that may be under way at a time; more fail at once. Default 1000. */
  readonly underWay?: number | undefined;
  /** Answers kept at most. Default 10 000. */
  readonly cacheSize?: number | undefined;
  /** `allow`: a question that fails resolves to undefined; `refuse`: it rejects. */
  readonly onFailure: "refuse" | "allow";
  readonly maxAnswerBytes?: number;
  /** Aborted: everything under way fails at once. */
  readonly signal?: AbortSignal | undefined;
  readonly onOutcome?: (outcome: Outcome, cached: boolean) => void;
  /** Of what was really asked. */
  readonly onAnswered?: (seconds: number) => void;
  /** Called when the receiver is not asked any more because it fails, and with undefined when it answers again. */
  readonly onTrouble?: (error: AskError | undefined) => void;
  /** Milliseconds of a clock that never goes back. */
  readonly nowMs?: () => number;
}

/** The business system has not decided. Worth another try. */
export class AskError extends Error {
  override readonly name = "AskError";
}

export class Asker<A extends { readonly action: string; readonly ttl?: number | undefined }> {
  readonly #options: AskerOptions<A>;
  readonly #nowMs: () => number;
  readonly #breaker: Breaker;
  /** The oldest first. */
  readonly #cache = new Map<string, { readonly answer: A; readonly until: number }>();
  /** The same question, asked while it is under way, is asked once. */
  readonly #asked = new Map<string, Promise<A>>();
  #underWay = 0;
  #charsUnderWay = 0;

  constructor(options: AskerOptions<A>) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#breaker = new Breaker(this.#nowMs);
  }

  get underWay(): number {
    return this.#underWay;
  }

  /**
   * Settles within the deadline. Undefined: it has failed, and is to be allowed.
   * @param key of the same questions, which may have one answer; undefined: each is asked for itself
   * @throws {AskError} it has failed, and is to be refused.
   */
  async ask(question: Question, key?: string): Promise<A | undefined> {
    const { onFailure, onOutcome } = this.#options;
    try {
      const known = key === undefined ? undefined : this.#cached(key);
      const answer = known ?? await this.#once(question, key);
      onOutcome?.(answer.action, known !== undefined);
      return answer;
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      onOutcome?.(error.outcome, false);
      if (onFailure === "allow") return undefined;
      throw new AskError(error.message, { cause: error });
    }
  }

  #cached(key: string): A | undefined {
    const cached = this.#cache.get(key);
    if (cached === undefined) return undefined;
    if (this.#nowMs() < cached.until) return cached.answer;
    this.#cache.delete(key);
    return undefined;
  }

  #once(question: Question, key: string | undefined): Promise<A> {
    if (key === undefined) return this.#send(question);
    return this.#asked.getOrInsertComputed(key, () => {
      const startedAt = this.#nowMs();
      return this.#send(question).then((answer) => {
        this.#keep(key, answer, startedAt);
        return answer;
      }).finally(() => this.#asked.delete(key));
    });
  }

  #keep(key: string, answer: A, askedAt: number): void {
    const { cacheSize = 10_000 } = this.#options;
    const until = askedAt + 1000 * (answer.ttl ?? 0);
    if (until <= this.#nowMs() || cacheSize === 0) return;
    this.#cache.delete(key);
    for (const oldest of this.#cache.keys()) {
      if (this.#cache.size < cacheSize) break;
      this.#cache.delete(oldest);
    }
    this.#cache.set(key, { answer, until });
  }

  /** @throws {Failure} */
  async #send(question: Question): Promise<A> {
    const { underWay = 1000, onAnswered, onTrouble } = this.#options;
    const body = JSON.stringify(question);
    if (this.#underWay >= underWay || this.#charsUnderWay > mostCharsUnderWay) {
      throw new Failure("busy", `${this.#underWay} questions are under way`);
    }
    if (!this.#breaker.admits()) throw new Failure("resting", "the last ones have failed");
    const startedAt = this.#nowMs();
    const rested = this.#breaker.resting;
    this.#underWay++;
    this.#charsUnderWay += body.length;
    try {
      const answer = await this.#exchange(body);
      this.#breaker.succeeded();
      if (rested) onTrouble?.(undefined);
      return answer;
    } catch (error) {
      const before = this.#breaker.resting;
      this.#breaker.failed();
      const failure = error instanceof Failure ? error : new Failure("failed", String(error));
      if (!before && this.#breaker.resting) onTrouble?.(new AskError(failure.message));
      throw failure;
    } finally {
      this.#underWay--;
      this.#charsUnderWay -= body.length;
      onAnswered?.((this.#nowMs() - startedAt) / 1000);
    }
  }

  async #exchange(question: string): Promise<A> {
    const { url, secrets, post, deadlineMs = 1000, allowPrivate, signal, maxAnswerBytes } =
      this.#options;
    try {
      const { status, body } = await post({
        url,
        secrets,
        id: crypto.randomUUID(),
        body: question,
        timeoutMs: deadlineMs,
        allowPrivate,
        signal,
        ...(maxAnswerBytes === undefined ? {} : { maxAnswerBytes }),
      });
      if (status !== 200) throw new Failure("failed", `expected status 200, got ${status}`);
      return this.#read(body);
    } catch (error) {
      if (error instanceof PostError) throw new Failure("failed", error.message);
      throw error;
    }
  }

  #read(body: string): A {
    let value: unknown;
    try {
      value = JSON.parse(body);
    } catch {
      throw new Failure("failed", "the answer: expected JSON");
    }
    const { data, error } = this.#options.answer.safeParse(value);
    if (data !== undefined) return data;
    const issue = error?.issues[0];
    const field = ["answer", ...(issue?.path ?? []).map(String)].join(".");
    throw new Failure("failed", `${field}: ${issue?.message}`);
  }
}

class Failure extends Error {
  readonly outcome: "failed" | "busy" | "resting";

  constructor(outcome: Failure["outcome"], message: string) {
    super(message);
    this.outcome = outcome;
  }
}
