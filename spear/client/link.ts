/** One connection to one node, from its opening to its end. */
import { io, type Socket } from "socket.io-client";
import { GruError, type GruErrorCode } from "./errors.ts";
import { pause } from "./pause.ts";
import type { Json, Place, Result } from "./wire.ts";

export interface LinkOptions {
  readonly connectMs: number;
  readonly answerMs: number;
  readonly transports: readonly string[];
}

export abstract class Link {
  readonly place: Place;
  /** Rejects with a {@linkcode GruError}. */
  readonly opened: Promise<void>;
  /** The largest packet that the node takes, bytes. */
  maxBytes = Infinity;
  /** Why it has ended. `unavailable`: the node did not answer any more; else the connection broke, and the node may be well. */
  why: GruError | undefined;
  readonly #socket: Socket;
  readonly #answerMs: number;
  readonly #ending = new AbortController();
  /** Answers that are due. */
  #due = 0;
  #leaving = false;

  constructor(place: Place, { connectMs, answerMs, transports }: LinkOptions) {
    this.place = place;
    this.#answerMs = answerMs;
    const socket = this.#socket = io(place.addr, {
      ...{ forceNew: true, reconnection: false, timeout: connectMs },
      ...{ transports: [...transports], tryAllTransports: true },
    });
    this.opened = new Promise((resolve, reject) => {
      socket.on("connect", resolve);
      this.#ending.signal.addEventListener("abort", () => reject(this.why));
    });
    socket.onAny((name, argument) => this.why ?? this.take(name, argument));
    socket.on("connect_error", ({ message }) => this.#end(message));
    socket.on("disconnect", (reason, details: Json) => {
      const { code = "", reason: text = "" } = details?.context ?? {};
      this.#end(
        `${reason} ${code} ${text}`,
        reason === "ping timeout" ? "unavailable" : "unreachable",
      );
    });
    socket.io.engine.on("handshake", ({ maxPayload = Infinity }: Json) => {
      this.maxBytes = maxPayload;
    });
  }

  /** Takes an event of the node. */
  protected abstract take(name: string, argument: Json): void;

  protected abstract ended(why: GruError): void;

  /** Resolves then, or when the connection ends. */
  pause(ms: number): Promise<void> {
    return pause(ms, this.#ending.signal);
  }

  /**
   * `done` is called in the turn in which the answer comes, before anything that was sent after it is taken; with undefined when the
   * connection ends without one.
   */
  ask(event: string, argument: unknown, done: (result: Result | undefined) => void): void {
    if (this.why) return done(undefined);
    this.#due++;
    this.#socket.timeout(this.#answerMs).emit(
      event,
      argument,
      (error: unknown, result?: Result) => {
        this.#due--;
        if (error) this.#end(`no answer to ${event}`, "unavailable");
        done(result);
        if (this.#leaving) this.leave();
      },
    );
  }

  /** When all answers have come. */
  leave(): void {
    this.#leaving = true;
    if (this.#due === 0) this.close();
  }

  close(why = new GruError("closed", "the client is closed")): void {
    if (this.why) return;
    this.why = why;
    this.#ending.abort();
    this.#socket.disconnect();
    this.ended(why);
  }

  #end(what: string, code: GruErrorCode = "unreachable"): void {
    const { name, addr } = this.place;
    this.close(new GruError(code, `${name} (${addr}): ${what}`));
  }
}
