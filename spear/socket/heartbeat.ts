/**
 * The heartbeat of Engine.IO 4 from one timer: who has been quiet for an interval is pinged, who then does not answer in time is
 * closed. Engine.IO's own timers, two for each connection, leave 1 to 2 KB of garbage in its old heap with every ping. Where something
 * is written shortly before, the ping goes along with it: that is one write less here, and one read less at the client.
 */
import { clearTimeout } from "node:timers";
import { Socket } from "engine.io";

/** Of Engine.IO's socket, most of it not public. */
interface Engine {
  readonly protocol: number;
  readonly readyState: string;
  pingIntervalTimer: unknown;
  /** Null but between a ping and its answer. */
  pingTimeoutTimer: unknown;
  hasRefreshedPingTimeout: boolean;
  onClose(reason: "ping timeout"): void;
}

/** In place of both timers: Engine.IO refreshes them when it hears of the client. */
class Turn {
  engine: Engine | undefined;
  /** When it is this one's turn; where it stands elsewhere, it has been put off since. */
  tick = 0;
  readonly #heartbeat: Heartbeat;

  constructor(engine: Engine, heartbeat: Heartbeat) {
    this.engine = engine;
    this.#heartbeat = heartbeat;
  }

  refresh(): void {
    this.#heartbeat.heard(this);
  }

  rides(): boolean {
    return this.#heartbeat.ride(this);
  }
}

/** From now on Engine.IO starts no timer that {@linkcode Heartbeat.take} would stop at once. */
export function startNoPingTimers(): void {
  (Socket.prototype as unknown as { schedulePing(): void }).schedulePing = noTimer;
}

function noTimer(): void {}

/** Whether a ping is to go along with what is written now: then it counts as sent. @param socket of Engine.IO */
export function pingRides(socket: object): boolean {
  const { pingIntervalTimer } = socket as Engine;
  return pingIntervalTimer instanceof Turn && pingIntervalTimer.rides();
}

/** It is closed: nothing of it is kept. @param socket of Engine.IO */
export function forgetPings(socket: object): void {
  const { pingIntervalTimer } = socket as Engine;
  if (pingIntervalTimer instanceof Turn) pingIntervalTimer.engine = undefined;
}

const tickMs = 100;
/**
 * When the event loop has stood still for so long, the answers of clients wait unread: that time is not counted, or clients that
 * answered would be closed before their answers are read.
 */
const stallMs = 1000;
/** The part of the interval by which a ping may be early. */
const early = 0.2;

export interface HeartbeatOptions {
  /** How long a connection is quiet before it is pinged, at the latest. */
  readonly intervalMs: number;
  /** How long it then has to answer. */
  readonly timeoutMs: number;
  /** Sends Engine.IO's packet `ping`. @param socket that was taken */
  readonly ping: (socket: object) => void;
}

export class Heartbeat implements Disposable {
  readonly #intervalTicks: number;
  readonly #earlyTicks: number;
  readonly #timeoutTicks: number;
  readonly #ping: (socket: object) => void;
  #began = performance.now();
  #lookedAt = performance.now();
  /** Whose turn may be at a tick. */
  readonly #turns = new Map<number, Turn[]>();
  readonly #timer: ReturnType<typeof setInterval>;
  #tick = 0;

  constructor({ intervalMs, timeoutMs, ping }: HeartbeatOptions) {
    this.#ping = ping;
    this.#intervalTicks = Math.ceil(intervalMs / tickMs);
    this.#earlyTicks = Math.floor(this.#intervalTicks * early);
    this.#timeoutTicks = Math.ceil(timeoutMs / tickMs);
    this.#timer = setInterval(() => this.#catchUp(), tickMs);
  }

  /** Takes the place of the timer that it has, if it has one: in protocol 3 the client pings. */
  take(socket: object): void {
    const engine = socket as Engine;
    if (engine.protocol === 3) return;
    clearTimeout(engine.pingIntervalTimer as ReturnType<typeof setTimeout>);
    const turn = new Turn(engine, this);
    engine.pingIntervalTimer = turn;
    this.#putOff(turn, this.#intervalTicks);
  }

  /** It has answered, or sent something else while its answer is awaited. */
  heard(turn: Turn): void {
    const answered = turn.engine?.pingTimeoutTimer === null;
    this.#putOff(turn, answered ? this.#intervalTicks : this.#timeoutTicks);
  }

  /** See {@linkcode pingRides}. */
  ride(turn: Turn): boolean {
    const { engine, tick } = turn;
    if (engine === undefined || engine.pingTimeoutTimer === turn) return false;
    if (tick - this.#tick > this.#earlyTicks) return false;
    this.#awaitAnswer(turn, engine);
    return true;
  }

  #putOff(turn: Turn, ticks: number): void {
    // It is put down for then already: it may say something as often as it likes.
    if (turn.tick === this.#tick + ticks) return;
    turn.tick = this.#tick + ticks;
    this.#turns.getOrInsertComputed(turn.tick, () => []).push(turn);
  }

  #catchUp(): void {
    const lateMs = performance.now() - this.#lookedAt - tickMs;
    this.#lookedAt = performance.now();
    if (lateMs > stallMs) this.#began += lateMs;
    const now = Math.floor((performance.now() - this.#began) / tickMs);
    while (this.#tick < now) {
      const turns = this.#turns.get(++this.#tick) ?? [];
      this.#turns.delete(this.#tick);
      for (const turn of turns) if (turn.tick === this.#tick) this.#act(turn);
    }
  }

  #act(turn: Turn): void {
    const { engine } = turn;
    if (engine === undefined || engine.readyState === "closed") return;
    if (engine.pingTimeoutTimer === turn) return engine.onClose("ping timeout");
    this.#awaitAnswer(turn, engine);
    this.#ping(engine);
  }

  #awaitAnswer(turn: Turn, engine: Engine): void {
    engine.pingTimeoutTimer = turn;
    engine.hasRefreshedPingTimeout = false;
    this.#putOff(turn, this.#timeoutTicks);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
