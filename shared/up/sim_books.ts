/**
 * What was promised to the clients of a simulated cluster, kept as books: what was accepted, refused, delivered and told, by
 * everybody. An entry that contradicts another one is a violation.
 */

export interface At {
  readonly epoch: string;
  readonly seq: number;
}

/** What the store has now, for the checks that need the truth. */
export interface Truth {
  readonly nowMs: number;
  /** How often the store has lost something, or another server has taken over. */
  readonly losses: number;
  /** How often it has started again, be it with all that it had. */
  readonly restarts: number;
  head(target: string): At | undefined;
  /** The content that history still has of a position. */
  kept(target: string, at: At): string | undefined;
  readonly historySize: number;
  /** Connections may be sent less than everything, and told so. */
  readonly skips: boolean;
  /** What nobody uses for a while may begin anew. */
  readonly forgets: boolean;
}

export class Books {
  readonly violations: string[] = [];
  readonly #truth: Truth;
  /** By target, epoch and seq. */
  readonly #contents = new Map<string, string>();
  /** By content: how often the store had lost something when it was said. What is heard of it may be heard much later. */
  readonly #said = new Map<string, number>();
  /** By content: where it was counted, and how often the store had lost something before. */
  readonly #places = new Map<string, { readonly key: string; readonly losses: number }>();
  readonly #refused = new Map<string, string>();
  readonly #accepted: {
    readonly target: string;
    readonly at: At;
    readonly content: string;
    readonly losses: number;
  }[] = [];
  /** Epochs of a target in the order in which they were seen. */
  readonly #epochs = new Map<string, string[]>();
  readonly #lastOf = new WeakMap<object, Map<string, At>>();
  delivered = 0;
  /** Everything that happens, where somebody is to read it. */
  trace: string[] | undefined;

  constructor(truth: Truth) {
    this.#truth = truth;
  }

  get acceptedCount(): number {
    return this.#accepted.length;
  }

  /** The store has lost something that may have been seen. */
  get hasLost(): boolean {
    return this.#truth.losses > 0;
  }

  note(line: string): void {
    this.trace?.push(`${this.#truth.nowMs.toFixed(1)} ${line}`);
  }

  fail(text: string): void {
    this.note(`VIOLATION ${text}`);
    this.violations.push(`${Math.round(this.#truth.nowMs)} ms: ${text}`);
  }

  said(content: string): void {
    this.#said.set(content, this.#truth.losses);
  }

  /** @param stream the connection and target of messages that were sent once: their order is kept */
  accepted(who: string, content: string, target: string, at: At, stream?: object): void {
    if (stream !== undefined) this.#checkOrder(who, stream, target, at);
    this.#accepted.push({ target, at, content, losses: this.#lossesBefore(content) });
    this.#counted(`${who} was told that its message is`, content, target, at);
  }

  #checkOrder(who: string, stream: object, target: string, at: At): void {
    const last = this.#lastOf.getOrInsertComputed(stream, () => new Map());
    const before = last.get(target);
    if (before?.epoch === at.epoch && before.seq > at.seq) {
      this.fail(
        `${who}: a message to ${target} was counted as ${at.seq}, the one before it as ${before.seq}`,
      );
    }
    last.set(target, at);
  }

  /** The sender was told that nothing has happened and nothing will. */
  refused(content: string, why: string): void {
    this.#refused.set(content, why);
    if (this.#places.has(content)) {
      this.fail(`${content} was refused (${why}) after it was delivered`);
    }
  }

  deliver(who: string, content: string, target: string, at: At): void {
    this.delivered++;
    const refusal = this.#refused.get(content);
    if (refusal !== undefined) this.fail(`${who} got ${content}, which was refused: ${refusal}`);
    this.#counted(`${who} got`, content, target, at);
  }

  /** Told that messages are lost: they must be. @returns what is wrong with it */
  missed(
    who: string,
    target: string,
    { epoch, from, to }: { epoch: string; from: number; to: number },
  ): string | undefined {
    if (!(to >= from)) {
      return `${who} was told of missing messages ${from} to ${to} of ${target}`;
    }
    const { skips, historySize } = this.#truth;
    const head = this.#truth.head(target);
    // The store keeps more than it promises.
    if (skips || head?.epoch !== epoch || head.seq - to >= historySize) return undefined;
    for (let seq = from; seq <= to; seq++) {
      const content = this.#truth.kept(target, { epoch, seq });
      if (content === undefined || head.seq - seq >= historySize) continue;
      return `${who} was told that ${target} ${epoch}:${seq} is lost, which history has: ${content}`;
    }
    return undefined;
  }

  /** Somebody who was up to `since` is told that not everything could be had. */
  unrecovered(who: string, target: string, since: At, head: At): void {
    const { losses, historySize, skips } = this.#truth;
    if (losses > 0 || skips || since.epoch !== head.epoch || since.seq > head.seq) return;
    // What the store has counted since may have pushed it out.
    if ((this.#truth.head(target)?.seq ?? 0) - since.seq > historySize) return;
    this.fail(
      `${who} was not brought from ${target} ${since.seq} to ${head.seq}, though all is kept`,
    );
  }

  /** At the end, when everything has come to rest. */
  close(): void {
    for (const { target, at, content, losses } of this.#accepted) {
      const head = this.#truth.head(target);
      const lost = this.#truth.losses > losses;
      if (head === undefined || head.epoch !== at.epoch) {
        if (this.#truth.restarts === 0 && !this.#truth.forgets) {
          this.fail(`${target} has left epoch ${at.epoch} without a reason`);
        }
      } else if (head.seq < at.seq && !lost) {
        this.fail(
          `${content} was accepted as ${target} ${at.seq}, and the target is at ${head.seq}`,
        );
      }
      const kept = this.#truth.kept(target, at);
      if (kept !== undefined && kept !== content) {
        this.fail(
          `${content} was accepted as ${target} ${at.epoch}:${at.seq}, where history has ${kept}`,
        );
      }
    }
    for (const [target, epochs] of this.#epochs) {
      if (epochs.length - 1 > 2 * this.#truth.restarts && !this.#truth.forgets) {
        this.fail(
          `${target} has had ${epochs.length} epochs with ${this.#truth.restarts} restarts`,
        );
      }
      const head = this.#truth.head(target);
      for (let seq = 1; head !== undefined && seq <= head.seq; seq++) {
        const content = this.#truth.kept(target, { epoch: head.epoch, seq });
        const refusal = content === undefined ? undefined : this.#refused.get(content);
        if (refusal !== undefined) {
          this.fail(`history has ${content}, which was refused: ${refusal}`);
        }
      }
    }
  }

  #lossesBefore(content: string): number {
    return this.#said.get(content) ?? this.#truth.losses;
  }

  #counted(what: string, content: string, target: string, at: At): void {
    const key = `${target} ${at.epoch}:${at.seq}`;
    const epochs = this.#epochs.getOrInsertComputed(target, () => []);
    if (!epochs.includes(at.epoch)) epochs.push(at.epoch);
    const other = this.#contents.get(key);
    if (other !== undefined && other !== content) {
      this.fail(`${what} ${content} as ${key}, which was ${other}: a seq was given twice`);
    }
    this.#contents.set(key, content);
    const place = this.#places.get(content);
    if (place === undefined) {
      this.#places.set(content, { key, losses: this.#lossesBefore(content) });
    } else if (
      place.key !== key && place.losses === this.#truth.losses && !this.#truth.forgets
    ) {
      this.fail(
        `${what} ${content} as ${key}, which was ${place.key}: a message was counted twice`,
      );
    }
  }
}

export function text({ epoch, seq }: At): string {
  return `${epoch}:${seq}`;
}
