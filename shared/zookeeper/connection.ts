/**
 * Keeps a ZooKeeper session: opens a new one after each end, and retries operations over lost connections and sessions.
 */
import type { Logger } from "../log.ts";
import { RegistryUnavailableError } from "../registry/registry.ts";
import { within } from "../within.ts";
import { type SessionState, ZookeeperSession } from "./session.ts";

export interface ConnectionOptions {
  /** `host:port` of each server of the ensemble. */
  readonly servers: readonly string[];
  readonly sessionMs: number;
  /** `user:password` */
  readonly credentials?: string | undefined;
  readonly log: Logger;
  /** `awayMs`: how long nothing had been received before; 0 at first, infinite when the last session ended. */
  readonly onConnected: (awayMs: number) => void;
  /** `ended`: the session is over and its nodes are gone; otherwise it may continue. */
  readonly onDisconnected: (ended: boolean) => void;
}

/** How many ended sessions are remembered: more than can still have nodes. */
const formerKept = 32;
/**
 * A session that is refused for a shorter time than this is not doubted, because servers that elect a leader refuse
 * every session.
 */
const doubtMs = 500;
/**
 * How long a stopping program waits for an answer. After the first answer that does not come, it waits for no other.
 */
const hurryMs = 800;

export class ZookeeperConnection {
  readonly #options: ConnectionOptions;
  /** Oldest first. */
  readonly #former = new Set<string>();
  #session: ZookeeperSession;
  /** Opened beside a session that is refused, to find out why, and to replace it. */
  #successor: ZookeeperSession | undefined;
  /** Called at the next change of the session's state. */
  readonly #waiting = new Set<() => void>();
  #heardAt: number | undefined;
  /** Called when the program is stopping; one for each attempt under way. */
  readonly #hurries = new Set<() => void>();
  #isHurried = false;
  /** An answer did not come since the program began to stop. */
  #isHopeless = false;
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

  /** The timeout of the current session, as granted by the server. */
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

  /** True for the id of the present session, or of an earlier one: its nodes are ours too. */
  owns(sessionId: string): boolean {
    return sessionId === this.#session.id || this.#former.has(sessionId);
  }

  /**
   * Runs an action on a connected session, and waits for one if needed. Runs it again when it rejects with {@linkcode
   * RegistryUnavailableError}, for up to `limitMs` (default: one session timeout).
   */
  attempt<T>(
    action: (session: ZookeeperSession) => Promise<T>,
    limitMs = this.timeoutMs,
  ): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const giveUp = () => {
      this.#isHopeless = true;
      reject(
        new RegistryUnavailableError("ZooKeeper does not answer, and this program is stopping"),
      );
    };
    const hurry = () => {
      timer = setTimeout(giveUp, this.#isHopeless ? 0 : hurryMs);
    };
    if (this.#isHurried) hurry();
    else this.#hurries.add(hurry);
    this.#attempt(action, limitMs).then(resolve, reject).finally(() => {
      clearTimeout(timer);
      this.#hurries.delete(hurry);
    });
    return promise;
  }

  /** The program is stopping: do not wait for a server that does not answer, or only briefly. */
  hurry(): void {
    this.#isHurried = true;
    for (const hurry of this.#hurries) hurry();
    this.#hurries.clear();
  }

  async #attempt<T>(
    action: (session: ZookeeperSession) => Promise<T>,
    limitMs: number,
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
      if (!this.connected) await this.#changed(leftMs);
    }
  }

  /** Call regularly: opens a new session after one that was never accepted. */
  revive(): void {
    if (!this.#closed && this.#session.state === "ended") this.#session = this.#open();
  }

  /** @throws RegistryUnavailableError when closed. */
  assertOpen(): void {
    if (this.#closed) throw new RegistryUnavailableError("The registry is closed");
  }

  /**
   * Ends the session. `insist`: waits a moment for a lost connection, because otherwise the session's nodes stay until
   * it expires.
   */
  async close(insist: boolean): Promise<void> {
    const patienceMs = this.#isHopeless ? 0 : this.#isHurried ? hurryMs : Infinity;
    const limitMs = Math.min(patienceMs, this.timeoutMs / 3);
    if (insist && this.#session.state === "suspended") await this.#changed(limitMs);
    this.#closed = true;
    await Promise.all([this.#session.close(limitMs), this.#successor?.close(limitMs)]);
    this.#announce();
  }

  #open(): ZookeeperSession {
    const { servers, sessionMs, credentials, log } = this.#options;
    const session: ZookeeperSession = new ZookeeperSession({
      servers,
      sessionMs,
      credentials,
      log,
      onState: (state) => this.#onState(session, state),
      onRefused: () => this.#onRefused(session),
    });
    return session;
  }

  /**
   * A server refuses a session that has seen a later change than the server has: the server may lag behind. If all
   * servers have lost that change (they came back empty or from a backup, or others answer at their addresses), no
   * server will ever accept the session again, and none says why. A second session, which has seen nothing, finds out.
   */
  #onRefused(session: ZookeeperSession): void {
    if (this.#closed || session !== this.#session || session.state !== "suspended") return;
    const awayMs = performance.now() - session.heardAt;
    if (awayMs < doubtMs) return;
    this.#successor ??= this.#open();
    void this.#judge(session, this.#successor, awayMs);
  }

  async #judge(session: ZookeeperSession, successor: ZookeeperSession, awayMs: number) {
    try {
      // The leader answers with its newest change, so a lagging server cannot mislead.
      await successor.barrier();
    } catch {
      return; // The next refusal tries again.
    }
    if (this.#closed || session.state !== "suspended" || this.#successor !== successor) return;
    const isLost = successor.zxid < session.zxid;
    if (!isLost && awayMs < 3 * session.timeoutMs) return;
    this.#options.log.warn(
      isLost
        ? "ZooKeeper has lost data: it is at zxid {theirs}, and session {id}, which no server accepts any more, has " +
          "seen {seen}. It came back empty or from a backup, or another one answers; everything is registered again in " +
          "session {successor}"
        : "No ZooKeeper server accepts session {id} any more, for an unknown reason, but they accept new " +
          "sessions; everything is registered again in session {successor}",
      { theirs: successor.zxid, seen: session.zxid, id: session.id, successor: successor.id },
    );
    this.#successor = undefined;
    this.#retire(session, successor);
    void session.close();
    if (successor.state === "connected") this.#onState(successor, "connected");
  }

  /** Replaces a session that is over by the next one. */
  #retire(session: ZookeeperSession, next: ZookeeperSession): void {
    this.#former.add(session.id);
    for (const id of this.#former) if (this.#former.size > formerKept) this.#former.delete(id);
    this.#heardAt = -Infinity;
    this.#session = next;
    this.#options.onDisconnected(true);
  }

  #onState(session: ZookeeperSession, state: SessionState): void {
    if (this.#closed) return;
    if (session !== this.#session) {
      if (state === "ended" && session === this.#successor) this.#successor = undefined;
      return;
    }
    if (state !== "suspended") this.#dismiss();
    if (state === "connected") {
      this.#options.log.info("ZooKeeper session {id} is connected", { id: session.id });
      const awayMs = this.#heardAt === undefined ? 0 : performance.now() - this.#heardAt;
      this.#heardAt = undefined;
      this.#isHopeless = false;
      this.#options.onConnected(awayMs);
    } else if (state === "suspended") {
      this.#heardAt = session.heardAt;
      this.#options.onDisconnected(false);
    } else {
      // A session that was never accepted is not replaced at once.
      if (session.heardAt > -Infinity) this.#retire(session, this.#open());
      else this.#options.onDisconnected(true);
    }
    this.#announce();
  }

  #dismiss(): void {
    const successor = this.#successor;
    this.#successor = undefined;
    void successor?.close();
  }

  /** Waits for the next change of state, at most this long. */
  async #changed(limitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#waiting.add(resolve);
    await within(promise, Math.max(0, limitMs));
    this.#waiting.delete(resolve);
  }

  #announce(): void {
    for (const done of [...this.#waiting]) done();
  }
}
