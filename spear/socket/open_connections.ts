/** The connections of a node from the handshake on: how many there may be, and how long each has to authenticate. */
import { type Disconnect, disconnects } from "../disconnects.ts";
import type { Connection, SessionContext } from "../session/context.ts";
import { Session } from "../session/session.ts";

/** A client's connection, for the one who keeps count of them. */
export interface ClientConnection extends Connection {
  /** Called once: from now on it hands its events to this session. */
  serve(session: Session, home: Pick<OpenConnections, "ended">): void;
}

export interface OpenConnectionsOptions {
  /** A connection that has not authenticated by then is closed. */
  readonly authMs: number;
  /** Connections beyond it are refused in the handshake. */
  readonly connections: number;
  readonly session: SessionContext<Session>;
}

/** Those who are here, however they came. */
export class OpenConnections {
  readonly sessions = new Set<Session>();
  readonly #options: OpenConnectionsOptions;
  /** Whose time to authenticate has not run out, in the order of their coming, and since when they are here. */
  readonly #new = new Map<Session, number>();
  /** Let in, but not yet here: a handshake has steps between which others take theirs. */
  readonly #expected = new Set<object>();
  /** One timer for all connections. */
  readonly #timer: ReturnType<typeof setInterval>;
  #refusal: string | undefined;

  constructor(options: OpenConnectionsOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.#closeLate(), Math.min(options.authMs, 1000));
  }

  /** From now on handshakes are refused, or with `undefined` no longer; those who are here stay. */
  refuse(reason: string | undefined): void {
    this.#refusal = reason;
  }

  /**
   * Why this handshake is refused; undefined: it has a place until the end of this turn, by when it has been added.
   */
  refusal(handshake: object): string | undefined {
    if (this.#refusal !== undefined) return this.#refusal;
    const { connections } = this.#options;
    if (this.sessions.size + this.#expected.size >= connections) {
      return `this node holds ${connections} connections already`;
    }
    this.#expected.add(handshake);
    setImmediate(() => this.#expected.delete(handshake));
    return undefined;
  }

  add(connection: ClientConnection, handshake?: object): Session {
    if (handshake !== undefined) this.#expected.delete(handshake);
    const session = new Session(connection, this.#options.session);
    this.sessions.add(session);
    this.#new.set(session, performance.now());
    connection.serve(session, this);
    return session;
  }

  /** @param why the node ended it */
  ended(session: Session, why?: Disconnect): void {
    if (this.sessions.has(session)) this.#options.session.counts.disconnected(why);
    this.sessions.delete(session);
    this.#new.delete(session);
    session.close();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  #closeLate(): void {
    for (const [session, since] of this.#new) {
      if (performance.now() - since < this.#options.authMs) break;
      this.#new.delete(session);
      if (session.userId === undefined) session.disconnect(disconnects.unauthenticated);
    }
  }
}
