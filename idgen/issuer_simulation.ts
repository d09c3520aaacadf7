/**
 * A world for {@linkcode Issuer}: simulated time, processes that pause at any await, clocks that jump, and a registry whose
 * requests and replies are delayed, lost, or land long after their sender gave up. Everything follows from the history
 * it is given, so a failure can be repeated.
 */
import { setImmediate } from "node:timers";
import { logger } from "@gru/shared/log";
import {
  type Cell,
  ConflictError,
  type Lease,
  RegistryUnavailableError,
} from "@gru/shared/registry";
import { Issuer, type IssuerOptions } from "./issuer.ts";

export const sessionMs = 1000;
const ceilingMs = 700;
const retryMs = 60;
const timeLimitMs = 350;

export type Step =
  | { readonly kind: "pause"; readonly node: number; readonly ms: number }
  | { readonly kind: "jump"; readonly node: number; readonly ms: number }
  | { readonly kind: "kill"; readonly node: number; readonly ms: number }
  | { readonly kind: "stop"; readonly node: number }
  | { readonly kind: "freezeRegistry"; readonly ms: number }
  | { readonly kind: "wait" };

export interface History {
  readonly order: "strict" | "unique";
  /** One node each: how far its clock is off, milliseconds. */
  readonly clocks: readonly number[];
  readonly steps: readonly { readonly step: Step; readonly thenMs: number }[];
  /** 0–999 each, read in turn and over again: the fate of every message. */
  readonly fates: readonly number[];
  /** A mechanism taken out, to see that the explorer finds what it prevents. */
  readonly without?: "compareAndSet" | "lease";
}

export interface Findings {
  issued: number;
  duplicates: number;
  /** Ids not greater than one that was answered before their call began. */
  inversions: number;
  refused: number;
  /** Times that a node became active. */
  activations: number;
}

export async function explore(history: History): Promise<Findings> {
  const world = new World(history);
  const nodes = history.clocks.map((clockMs, index) => new SimulatedNode(world, index, clockMs));
  for (const { step, thenMs } of history.steps) {
    if (step.kind === "freezeRegistry") world.frozenUntil = world.nowMs + step.ms;
    else if (step.kind !== "wait") {
      const node = nodes[step.node % nodes.length];
      if (step.kind === "pause") node?.pause(step.ms);
      else if (step.kind === "jump") node?.jump(step.ms);
      else if (step.kind === "kill") node?.kill(step.ms);
      else node?.stop();
    }
    await world.run(thenMs);
  }
  await world.run(4 * sessionMs);
  return world.findings;
}

class World {
  readonly history: History;
  readonly findings: Findings = {
    issued: 0,
    duplicates: 0,
    inversions: 0,
    refused: 0,
    activations: 0,
  };
  nowMs = 0;
  frozenUntil = 0;
  readonly cells = new Map<string, { value: string; version: number }>();
  readonly leases = new Map<string, { session: number; grant: number }>();
  readonly #sessions = new Map<number, number>();
  readonly #events: { atMs: number; run: () => void }[] = [];
  readonly #ids = new Set<string>();
  #highest = 0n;
  #fates = 0;
  #numbers = 0;

  constructor(history: History) {
    this.history = history;
  }

  number(): number {
    return ++this.#numbers;
  }

  fate(): number {
    return this.history.fates[this.#fates++ % this.history.fates.length] ?? 0;
  }

  /** Mostly short, now and then longer than a session. */
  delayMs(): number {
    const fate = this.fate();
    return fate < 900 ? fate % 20 : fate < 970 ? fate % 200 : (fate - 969) * 100;
  }

  at(atMs: number, run: () => void): void {
    let index = this.#events.length;
    while (index > 0 && (this.#events[index - 1]?.atMs ?? 0) > atMs) index--;
    this.#events.splice(index, 0, { atMs, run });
  }

  async run(ms: number): Promise<void> {
    const untilMs = this.nowMs + ms;
    for (let event = this.#events[0]; event && event.atMs <= untilMs; event = this.#events[0]) {
      this.#events.shift();
      this.nowMs = event.atMs;
      event.run();
      // Lets every promise that this settled run to its next wait.
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    this.nowMs = untilMs;
  }

  /** False for a session that has ended; one that has ended never comes back. */
  touch(session: number, open: boolean): boolean {
    const isNew = open && !this.#sessions.has(session);
    if (!isNew && !this.isAlive(session)) return false;
    this.#sessions.set(session, this.nowMs + sessionMs);
    return true;
  }

  isAlive(session: number): boolean {
    return (this.#sessions.get(session) ?? -1) >= this.nowMs;
  }

  /** What a client learns; gives the highest id answered so far, which a call that begins now must exceed. */
  get highest(): bigint {
    return this.#highest;
  }

  answered(ids: readonly string[], above: bigint): void {
    let last = above;
    for (const id of ids) {
      if (this.#ids.has(id)) this.findings.duplicates++;
      this.#ids.add(id);
      if (BigInt(id) <= last) this.findings.inversions++;
      last = BigInt(id);
    }
    this.findings.issued += ids.length;
    if (last > this.#highest) this.#highest = last;
  }
}

interface Session {
  readonly number: number;
  confirmedMs: number;
  readonly lost: AbortController;
}

class SimulatedNode {
  readonly #world: World;
  readonly #index: number;
  #clockMs: number;
  #pausedUntil = 0;
  /** One start of the process; what was sent to an earlier one is lost. */
  #life = 0;
  #issuer: Issuer | undefined;
  #session: Session | undefined;

  constructor(world: World, index: number, clockMs: number) {
    this.#world = world;
    this.#index = index;
    this.#clockMs = clockMs;
    this.#start();
    this.#callAfter(30);
  }

  pause(ms: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, this.#world.nowMs + ms);
  }

  jump(ms: number): void {
    this.#clockMs += ms;
  }

  /** kill -9, and a start `ms` later. */
  kill(ms: number): void {
    this.#life++;
    this.#issuer = undefined;
    this.#pausedUntil = 0;
    this.#world.at(this.#world.nowMs + ms, () => {
      if (this.#issuer === undefined) this.#start();
    });
  }

  /** An orderly stop, and a start at once. */
  stop(): void {
    const issuer = this.#issuer;
    const life = this.#life;
    this.#deliver(0, async () => {
      await issuer?.[Symbol.asyncDispose]();
      if (this.#life === life) this.kill(0);
    });
  }

  #start(): void {
    const { order } = this.#world.history;
    const first = order === "strict" ? 0 : this.#world.fate() % 4;
    this.#life++;
    this.#openSession();
    const time: IssuerOptions["time"] = {
      wallMs: () => Math.floor(1_700_000_000_000 + this.#world.nowMs + this.#clockMs),
      monotonicMs: () => this.#world.nowMs,
      sleep: (ms, signal) =>
        new Promise<void>((resolve) => {
          if (signal.aborted) return resolve();
          signal.addEventListener("abort", () => resolve(), { once: true });
          this.#deliver(ms, resolve);
        }),
    };
    this.#issuer = new Issuer({
      registry: { acquire: (key) => this.#acquire(key), cell: (key) => this.#cell(key) },
      holder: `idgen${this.#index}`,
      // Few workers, so that they change hands often.
      workers: () => order === "strict" ? [0] : [0, 1, 2, 3].map((offset) => (first + offset) % 4),
      ceilingMs,
      retryMs,
      time,
      log: logger("idgen"),
      onChange: (worker) => {
        if (worker !== undefined) this.#world.findings.activations++;
      },
    });
  }

  /** Runs in the process: not while it is paused, and not if it is killed before. */
  #deliver(delayMs: number, run: () => void, life = this.#life): void {
    const arrive = () => {
      if (this.#life !== life) return;
      if (this.#pausedUntil > this.#world.nowMs) this.#world.at(this.#pausedUntil, arrive);
      else run();
    };
    this.#world.at(this.#world.nowMs + delayMs, arrive);
  }

  /** A client that asks this node for ids, again and again. */
  #callAfter(ms: number): void {
    const world = this.#world;
    world.at(world.nowMs + ms, () => {
      this.#callAfter(25 + world.fate() % 30);
      const above = world.highest;
      this.#deliver(world.fate() % 10, async () => {
        try {
          const ids = await this.#issuer?.next(1 + world.fate() % 3) ?? [];
          this.#deliver(
            0,
            () => world.at(world.nowMs + world.delayMs(), () => world.answered(ids, above)),
          );
        } catch {
          world.findings.refused++;
        }
      });
    });
  }

  #openSession(): void {
    const session = {
      number: this.#world.number(),
      confirmedMs: -Infinity,
      lost: new AbortController(),
    };
    this.#session = session;
    this.#ping(session, true);
  }

  #ping(session: Session, open: boolean): void {
    const world = this.#world;
    const sentMs = world.nowMs;
    this.#deliver(sessionMs / 4, () => {
      if (this.#session === session) this.#ping(session, session.confirmedMs === -Infinity);
    });
    this.#send(() => world.touch(session.number, open), (isAlive) => {
      if (isAlive) session.confirmedMs = Math.max(session.confirmedMs, sentMs);
      else if (this.#session === session) {
        this.#openSession();
        session.lost.abort();
      }
    });
  }

  /** A message to the registry and its reply: either may be late or lost. */
  #send<T>(apply: () => T, reply: (result: T) => void): void {
    const world = this.#world;
    const life = this.#life;
    const fate = world.fate();
    const arrive = () => {
      if (world.frozenUntil > world.nowMs) {
        world.at(world.frozenUntil, arrive);
        return;
      }
      const result = apply();
      const isLost = fate >= 15 && fate < 30;
      if (!isLost) this.#deliver(world.delayMs(), () => reply(result), life);
    };
    if (fate >= 15) world.at(world.nowMs + world.delayMs(), arrive);
  }

  #ask<T>(apply: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      const unavailable = () => reject(new RegistryUnavailableError("no answer"));
      this.#deliver(timeLimitMs, unavailable);
      this.#send(() => {
        try {
          return { value: apply() };
        } catch (error) {
          return { error };
        }
      }, (result) => "value" in result ? resolve(result.value as T) : reject(result.error));
    });
  }

  async #acquire(key: string): Promise<Lease | undefined> {
    const world = this.#world;
    const session = this.#session;
    if (session === undefined || session.lost.signal.aborted) {
      throw new RegistryUnavailableError("no session");
    }
    const grant = world.number();
    const granted = await this.#ask(() => {
      if (!world.isAlive(session.number)) throw new RegistryUnavailableError("expired");
      const held = world.leases.get(key);
      if (held && held.session !== session.number && world.isAlive(held.session)) return false;
      world.leases.set(key, { session: session.number, grant });
      return true;
    });
    if (!granted) return undefined;
    const lost = session.lost.signal;
    return {
      key,
      validUntil: () => {
        if (world.history.without === "lease") return Infinity;
        return lost.aborted ? -Infinity : session.confirmedMs + sessionMs;
      },
      lost,
      [Symbol.asyncDispose]: () =>
        this.#ask(() => {
          if (world.leases.get(key)?.grant === grant) world.leases.delete(key);
        }),
    };
  }

  #cell(key: string): Cell {
    const { cells, history } = this.#world;
    return {
      read: () => this.#ask(() => cells.get(key)),
      write: (value, expected) =>
        this.#ask(() => {
          const version = cells.get(key)?.version;
          if (version !== expected && history.without !== "compareAndSet") {
            throw new ConflictError(`at version ${version}, not ${expected}`);
          }
          cells.set(key, { value, version: (version ?? -1) + 1 });
          return (version ?? -1) + 1;
        }),
    };
  }
}
