/** One ZooKeeper session after another, and operations that outlast a lost connection or session. */
import type { Logger } from "./log.ts";
import { RegistryUnavailableError } from "./registry.ts";
import { type SessionState, ZookeeperSession } from "./zookeeper_session.ts";

export interface ConnectionOptions {
  /** `host:port` of each server of the ensemble. */
  readonly servers: readonly string[];
  readonly sessionMs: number;
  /** `user:password` */
  readonly credentials?: string | undefined;
  readonly log: Logger;
  /** `awayMs`: how long nothing had been heard before; 0 at first, infinite when the last session ended. */
  readonly onConnected: (awayMs: number) => void;
  /** `ended`: the session is over and its nodes are gone; else it may go on. */
  readonly onDisconnected: (ended: boolean) => void;
}

export class ZookeeperConnection {
  readonly #options: ConnectionOptions;
  readonly #former = new Set<string>();
  #session: ZookeeperSession;
  /** Replaced at every change of the session's state. */
  #change = Promise.withResolvers<void>();
  #heardAt: number | undefined;
  #closed = false;

  constructor(options: ConnectionOptions) {
    this.#options = options;
    this.#session = this.#open();
  }

  get connected(): boolean {
    return !this.#closed && this.#session.state === "connected";
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** The current session's time, as the server granted it. */
  get timeoutMs(): number {
    return this.#session.timeoutMs;
  }

  /** @throws RegistryUnavailableError unless connected. */
  get session(): ZookeeperSession {
    this.assertOpen();
    if (this.#session.state === "connected") return this.#session;
    throw new RegistryUnavailableError(
      `No ZooKeeper server answers: ${this.#options.servers.join(", ")}`,
    );
  }

  /** Whether this is the id of the session or of one before it, whose nodes are as much ours. */
  owns(sessionId: string): boolean {
    return sessionId === this.#session.id || this.#former.has(sessionId);
  }

  /**
   * Runs an action on a connected session, waiting for one, and again when it rejects with
   * {@linkcode RegistryUnavailableError}, for up to `limitMs`: by default one session's time.
   */
  async attempt<T>(
    action: (session: ZookeeperSession) => Promise<T>,
    limitMs = this.timeoutMs,
  ): Promise<T> {
    const giveUpAt = performance.now() + limitMs;
    for (;;) {
      const leftMs = giveUpAt - performance.now();
      try {
        if (this.connected || leftMs <= 0) return await action(this.session);
      } catch (error) {
        if (!(error instanceof RegistryUnavailableError) || leftMs <= 0) throw error;
      }
      this.assertOpen();
      if (!this.connected) await within(this.#change.promise, leftMs);
    }
  }

  /** To be called now and then: tries again after a session that was never let in. */
  revive(): void {
    if (!this.#closed && this.#session.state === "ended") this.#session = this.#open();
  }

  /** @throws RegistryUnavailableError when closed. */
  assertOpen(): void {
    if (this.#closed) throw new RegistryUnavailableError("The registry is closed");
  }

  /** Ends the session. `insist`: a lost connection is worth waiting for a moment, for else its nodes stay until it expires. */
  async close(insist: boolean): Promise<void> {
    if (insist && this.#session.state === "suspended") {
      await within(this.#change.promise, this.timeoutMs / 3);
    }
    this.#closed = true;
    await this.#session.close();
    this.#change.resolve();
  }

  #open(): ZookeeperSession {
    const { servers, sessionMs, credentials, log } = this.#options;
    const session: ZookeeperSession = new ZookeeperSession({
      servers,
      sessionMs,
      credentials,
      log,
      onState: (state) => this.#onState(session, state),
    });
    return session;
  }

  #onState(session: ZookeeperSession, state: SessionState): void {
    if (this.#closed) return;
    if (state === "connected") {
      this.#options.log.info("ZooKeeper session {id} is connected", { id: session.id });
      const awayMs = this.#heardAt === undefined ? 0 : performance.now() - this.#heardAt;
      this.#heardAt = undefined;
      this.#options.onConnected(awayMs);
    } else if (state === "suspended") {
      this.#heardAt = session.heardAt;
      this.#options.onDisconnected(false);
    } else {
      // One that was never let in is not followed at once by the next.
      if (session.heardAt > -Infinity) {
        this.#heardAt = -Infinity;
        this.#former.add(session.id);
        this.#session = this.#open();
      }
      this.#options.onDisconnected(true);
    }
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }
}

/** Waits for the promise, but no longer than this. */
async function within(promise: Promise<void>, limitMs: number): Promise<void> {
  const limit = Promise.withResolvers<void>();
  const timer = setTimeout(limit.resolve, Math.max(0, limitMs));
  await Promise.race([promise, limit.promise]);
  clearTimeout(timer);
}
