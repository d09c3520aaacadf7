/** The pings to clients (Engine.IO 4) from one timer: one for each connection costs it 600 bytes. */
import { clearTimeout } from "node:timers";

/** Of Engine.IO's socket, most of it not public. */
interface Engine {
  readonly protocol: number;
  readonly readyState: string;
  pingIntervalTimer: unknown;
  hasRefreshedPingTimeout: boolean;
  sendPacket(type: "ping"): void;
  resetPingTimeout(): void;
}

/** In place of the timer: Engine.IO refreshes it when the answer has come. */
class Turn {
  readonly engine: Engine;
  readonly #heartbeat: Heartbeat;

  constructor(engine: Engine, heartbeat: Heartbeat) {
    this.engine = engine;
    this.#heartbeat = heartbeat;
  }

  refresh(): void {
    this.#heartbeat.wait(this);
  }
}

const tickMs = 100;

export class Heartbeat implements Disposable {
  readonly #intervalMs: number;
  /** When each is due. In that order, as all wait equally long. */
  readonly #due = new Map<Turn, number>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor({ intervalMs }: { readonly intervalMs: number }) {
    this.#intervalMs = intervalMs;
    this.#timer = setInterval(() => this.#tick(), tickMs);
  }

  /** Takes the place of the timer that it has, if it has one: in protocol 3 the client pings, and another socket on it may have come first. */
  take(socket: object): void {
    const engine = socket as Engine;
    if (engine.protocol === 3 || engine.pingIntervalTimer instanceof Turn) return;
    clearTimeout(engine.pingIntervalTimer as ReturnType<typeof setTimeout>);
    const turn = new Turn(engine, this);
    engine.pingIntervalTimer = turn;
    this.wait(turn);
  }

  /** Its ping is due when the interval has passed from now on. */
  wait(turn: Turn): void {
    this.#due.delete(turn);
    if (turn.engine.readyState === "closed") return;
    this.#due.set(turn, Math.round(performance.now()) + this.#intervalMs);
  }

  /** Something has ended on it: if that was all, it is pinged no more. */
  forget(socket: object): void {
    const { readyState, pingIntervalTimer } = socket as Engine;
    if (readyState === "closed") this.#due.delete(pingIntervalTimer as Turn);
  }

  #tick(): void {
    const now = performance.now();
    for (const [turn, dueAt] of this.#due) {
      if (dueAt > now) break;
      this.#due.delete(turn);
      const { engine } = turn;
      if (engine.readyState === "closed") continue;
      engine.hasRefreshedPingTimeout = false;
      engine.sendPacket("ping");
      engine.resetPingTimeout();
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
