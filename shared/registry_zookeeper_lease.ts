/** A registry's lease: an ephemeral node of one session, good for as long as that session is sure to live. */
import type { Duty } from "./duty.ts";
import type { Lease } from "./registry.ts";
import type { ZookeeperSession } from "./zookeeper_session.ts";

export class HeldLease implements Lease {
  readonly key: string;
  readonly path: string;
  /** Notices that the node is gone. */
  readonly duty: Duty;
  readonly #session: ZookeeperSession;
  readonly #proof: Disposable;
  readonly #release: () => Promise<void>;
  readonly #lost = new AbortController();
  #released: Promise<void> | undefined;

  constructor(
    key: string,
    path: string,
    session: ZookeeperSession,
    duty: Duty,
    release: () => Promise<void>,
  ) {
    this.key = key;
    this.path = path;
    this.duty = duty;
    this.#session = session;
    this.#proof = session.prove();
    this.#release = release;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  validUntil(): number {
    return this.#lost.signal.aborted ? -Infinity : this.#session.validUntil();
  }

  end(): void {
    if (this.#lost.signal.aborted) return;
    this.#proof[Symbol.dispose]();
    this.#lost.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A lost one may be held by another, also by another of ours.
    if (!this.#lost.signal.aborted) this.#released ??= this.#release();
    await this.#released;
  }
}
