/** A registry's lease: an ephemeral node of one session, valid as long as that session is certain to live. */
import type { Reconciler } from "./reconciler.ts";
import type { Lease } from "../registry/registry.ts";
import type { ZookeeperSession } from "./session.ts";

/** The time, beyond a session's timeout, that live programs get to reconnect to a registry that forgot them. */
const settlingMs = 1000;

export class HeldLease implements Lease {
  readonly key: string;
  readonly path: string;
  readonly validFrom: number;
  /** Notices that the node is gone. */
  readonly reconciler: Reconciler;
  readonly #session: ZookeeperSession;
  readonly #proof: Disposable;
  readonly #release: () => Promise<void>;
  readonly #lost = new AbortController();
  /**
   * The validity confirmed before the connection was lost; kept until the next connection has shown that the node is
   * still ours.
   */
  #provenUntil: number | undefined;
  #released: Promise<void> | undefined;

  constructor(
    key: string,
    path: string,
    session: ZookeeperSession,
    reconciler: Reconciler,
    release: () => Promise<void>,
  ) {
    this.key = key;
    this.path = path;
    this.reconciler = reconciler;
    this.#session = session;
    this.validFrom = session.connectedAt + session.timeoutMs + settlingMs;
    this.#proof = session.prove();
    this.#release = release;
  }

  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  validUntil(): number {
    if (this.#lost.signal.aborted) return -Infinity;
    return this.#provenUntil ?? this.#session.validUntil();
  }

  /** The connection is lost; a registry that answers next may have lost the lease. */
  suspend(): void {
    this.#provenUntil ??= this.validUntil();
  }

  /**
   * The node was found to be ours. Returns false when the lease had run out before: another program may have held it
   * since, and a registry restored from a backup would not know.
   */
  confirm(): boolean {
    if (this.validUntil() <= performance.now()) return false;
    this.#provenUntil = undefined;
    return true;
  }

  end(): void {
    if (this.#lost.signal.aborted) return;
    this.#proof[Symbol.dispose]();
    this.#lost.abort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A lost lease may be held by another program, or by another lease of this one.
    if (!this.#lost.signal.aborted) this.#released ??= this.#release();
    await this.#released;
  }
}
