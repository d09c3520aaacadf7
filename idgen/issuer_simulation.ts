/**
 * A simulated world for {@linkcode Supply} and its issuers: simulated time, processes that pause at any await, clocks that jump, and a
 * registry. Requests to the registry and its replies are delayed, lost, or arrive long after the sender gave up. The
 * registry can also come back empty or in an earlier state. The history alone decides everything, so a failure can be
 * replayed.
 */
import { setImmediate } from "node:timers";
import { logger } from "@gru/shared/log";
import {
  type Cell,
  conflictOf,
  type Lease,
  RegistryUnavailableError,
  type Stored,
} from "@gru/shared/registry/registry";
import type { IssuerOptions } from "./issuer.ts";
import { decodeId } from "./snowflake.ts";
import { orderedWorker, Supply } from "./supply.ts";

export const sessionMs = 1000;
export const ceilingMs = 700;
/** How long a registry that was lost lets running processes reconnect, beyond one session. */
export const settlingMs = 400;
const retryMs = 60;
const timeLimitMs = 350;
/** True time at the start of a history, Unix milliseconds. */
const startMs = 1_700_000_000_000;

export type Step =
  | { readonly kind: "pause"; readonly node: number; readonly ms: number }
  | { readonly kind: "jump"; readonly node: number; readonly ms: number }
  | { readonly kind: "kill"; readonly node: number; readonly ms: number }
  | { readonly kind: "stop"; readonly node: number }
  | { readonly kind: "freezeRegistry"; readonly ms: number }
  /** All connections end and nobody answers for `ms`. Then sessions have their full time again, and no data are lost. */
  | { readonly kind: "loseQuorum"; readonly ms: number }
  /** The registry comes back after `ms`: empty, or in the state it had that many steps ago. */
  | { readonly kind: "loseRegistry"; readonly ms: number; readonly backup: number | "none" }
  | { readonly kind: "wait" };

export interface History {
  readonly order: "strict" | "unique";
  /** For order `strict`. Default `refuse`. */
  readonly withoutRegistry?: "refuse" | "unique";
  /** How far ahead unique ids are reserved, milliseconds. Default {@linkcode ceilingMs}. */
  readonly reserveMs?: number;
  /** One entry for each node: the offset of its clock, milliseconds. */
  readonly clocks: readonly number[];
  readonly steps: readonly { readonly step: Step; readonly thenMs: number }[];
  /** Numbers 0–999, read in turn, again from the start after the last: they decide what happens to each message. */
  readonly fates: readonly number[];
  /** Disables one mechanism, to show that the explorer finds what the mechanism prevents. */
  readonly without?: Guard;
  /** How far beyond its clock a node starts when the registry may have lost data, milliseconds. Default 0. */
  readonly marginMs?: number;
  /** Clocks that jump differ from true time by at most this much, milliseconds. */
  readonly clocksWithinMs?: number;
}

export type Guard =
  | "compareAndSet"
  | "lease"
  | "wait"
  /** The registry stores a lower ceiling than a node believes to own. */
  | "ceiling";

export interface Findings {
  issued: number;
  duplicates: number;
  /** Ids not greater than an id that was answered before their call began. Of ordered ids only. */
  inversions: number;
  refused: number;
  /** Calls refused by nodes that issued when the quorum was lost and have run since, before it is back. */
  refusedAway: number;
  /** Ids issued while the quorum was lost for longer than a session. */
  issuedAway: number;
  /** How many times a node became active. */
  activations: number;
  /** How far at most the reserved milliseconds were ahead of true time when the registry lost its data. */
  aheadMs: number;
}

export async function explore(history: History): Promise<Findings> {
  const world = new World(history);
  const nodes = history.clocks.map((clockMs, index) => new SimulatedNode(world, index, clockMs));
  for (const { step, thenMs } of history.steps) {
    world.backUp();
    if (step.kind === "freezeRegistry") world.freeze(step.ms);
    else if (step.kind === "loseQuorum") {
      world.lose("nothing", step.ms);
      for (const node of nodes) node.disconnect();
      for (const node of nodes) node.expectToIssue();
    } else if (step.kind === "loseRegistry") {
      world.lose(step.backup, step.ms);
      for (const node of nodes) node.disconnect();
    } else if (step.kind !== "wait") {
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

interface RegistryState {
  readonly cells: Map<string, Stored>;
  readonly leases: Map<string, { session: number; grant: number }>;
  /** When each session ends. */
  readonly sessions: Map<number, number>;
}

function copied({ cells, leases, sessions }: RegistryState): RegistryState {
  return { cells: new Map(cells), leases: new Map(leases), sessions: new Map(sessions) };
}

class World {
  readonly history: History;
  readonly findings: Findings = {
    issued: 0,
    duplicates: 0,
    inversions: 0,
    refused: 0,
    refusedAway: 0,
    issuedAway: 0,
    activations: 0,
    aheadMs: -Infinity,
  };
  nowMs = 0;
  frozenUntil = 0;
  /** When the quorum was last lost, and until when. */
  awaySince = Infinity;
  awayUntil = -Infinity;
  /** The nodes that the registry lists as issuing, and their sessions. */
  readonly listed = new Map<number, number>();
  #registry: RegistryState = { cells: new Map(), leases: new Map(), sessions: new Map() };
  readonly #backups: RegistryState[] = [];
  #reservedMs = -Infinity;
  /**
   * Counts the losses of the registry's data. They end all connections: a request sent before does not reach the new
   * registry.
   */
  incarnation = 0;
  readonly #events: { atMs: number; run: () => void }[] = [];
  readonly #ids = new Set<string>();
  #highest = 0n;
  #fates = 0;
  #numbers = 0;

  constructor(history: History) {
    this.history = history;
  }

  get cells(): RegistryState["cells"] {
    return this.#registry.cells;
  }

  get leases(): RegistryState["leases"] {
    return this.#registry.leases;
  }

  freeze(ms: number): void {
    this.frozenUntil = Math.max(this.frozenUntil, this.nowMs + ms);
  }

  backUp(): void {
    this.#backups.unshift(copied(this.#registry));
  }

  reserved(ceilingMs: number): void {
    this.#reservedMs = Math.max(this.#reservedMs, ceilingMs);
  }

  lose(backup: number | "none" | "nothing", ms: number): void {
    if (backup === "nothing") {
      this.awaySince = this.nowMs;
      this.awayUntil = this.nowMs + ms;
      this.backUp();
      backup = 0;
    } else {
      const aheadMs = this.#reservedMs - (startMs + this.nowMs);
      this.findings.aheadMs = Math.max(this.findings.aheadMs, aheadMs);
    }
    const last = backup === "none" ? undefined : this.#backups[backup % this.#backups.length];
    const { cells, leases, sessions } = last ?? { cells: [], leases: [], sessions: new Map() };
    this.#registry = { cells: new Map(cells), leases: new Map(leases), sessions: new Map() };
    this.incarnation++;
    this.freeze(ms);
    // A server that starts gives every session it knows its full time again.
    for (const session of sessions.keys()) {
      this.#registry.sessions.set(session, this.frozenUntil + sessionMs);
    }
  }

  number(): number {
    return ++this.#numbers;
  }

  fate(): number {
    return this.history.fates[this.#fates++ % this.history.fates.length] ?? 0;
  }

  /** Mostly short, sometimes longer than a session. */
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
      // Lets every promise that this step settled run until it waits again.
      await new Promise<void>((resolve) => void setImmediate(resolve));
    }
    this.nowMs = untilMs;
  }

  /** False for a session that has ended; an ended session never comes back. */
  touch(session: number, open: boolean): boolean {
    const { sessions } = this.#registry;
    const isNew = open && !sessions.has(session);
    if (!isNew && !this.isAlive(session)) return false;
    sessions.set(session, this.nowMs + sessionMs);
    return true;
  }

  isAlive(session: number): boolean {
    return (this.#registry.sessions.get(session) ?? -1) >= this.nowMs;
  }

  /** The highest id that was answered so far. A call that begins now must return a greater one. */
  get highest(): bigint {
    return this.#highest;
  }

  /** The quorum has been lost for longer than a session. */
  get isAway(): boolean {
    return this.nowMs < this.awayUntil && this.nowMs > this.awaySince + sessionMs;
  }

  /** Order `unique` keeps no order; without the registry, order `strict` only in ids of the ordered worker. */
  #isOrdered(id: string): boolean {
    return this.history.withoutRegistry !== "unique" || decodeId(id).worker === orderedWorker;
  }

  answered(ids: readonly string[], above: bigint): void {
    let last = above;
    for (const id of ids) {
      if (this.#ids.has(id)) this.findings.duplicates++;
      this.#ids.add(id);
      if (!this.#isOrdered(id)) continue;
      if (BigInt(id) <= last) this.findings.inversions++;
      last = BigInt(id);
    }
    this.findings.issued += ids.length;
    if (this.isAway) this.findings.issuedAway += ids.length;
    if (last > this.#highest) this.#highest = last;
  }
}

interface Session {
  readonly number: number;
  confirmedMs: number;
  /** When the present connection got its first answer. */
  connectedMs: number;
  /** The registry's incarnation that the connection reached. Undefined: not connected. */
  incarnation: number | undefined;
  readonly leases: Set<HeldLease>;
}

interface HeldLease {
  readonly key: string;
  readonly grant: number;
  readonly lost: AbortController;
  /**
   * The time up to which the lease was confirmed before the connection ended. Undefined after the next connection
   * confirmed the lease.
   */
  provenMs: number | undefined;
}

class SimulatedNode {
  readonly #world: World;
  readonly #index: number;
  #clockMs: number;
  #pausedUntil = 0;
  /** Counts the starts of the process. A message sent to an earlier start is lost. */
  #life = 0;
  #issuer: Supply | undefined;
  /** The start of the process that issued when the quorum was lost. */
  #expected: number | undefined;
  /** Another node was listed as issuing; when this was read. */
  #replaced = { isReplaced: false, atMs: -Infinity };
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
    const limitMs = this.#world.history.clocksWithinMs ?? Infinity;
    this.#clockMs = Math.max(-limitMs, Math.min(limitMs, this.#clockMs + ms));
  }

  /** Ends the connection. The process notices it unless it is paused. */
  disconnect(): void {
    const session = this.#session;
    this.#deliver(0, () => {
      if (session === undefined || session.incarnation === this.#world.incarnation) return;
      session.incarnation = undefined;
      for (const lease of session.leases) lease.provenMs ??= session.confirmedMs + sessionMs;
    });
  }

  /** kill -9, and a new start `ms` later. */
  kill(ms: number): void {
    this.#life++;
    this.#issuer = undefined;
    this.#pausedUntil = 0;
    this.#world.at(this.#world.nowMs + ms, () => {
      if (this.#issuer === undefined) this.#start();
    });
  }

  /** Stops the process in order and starts it again at once. */
  stop(): void {
    const issuer = this.#issuer;
    const life = this.#life;
    this.#expected = undefined;
    this.#deliver(0, async () => {
      await issuer?.[Symbol.asyncDispose]();
      if (this.#life === life) this.kill(0);
    });
  }

  #start(): void {
    const { order } = this.#world.history;
    const first = this.#world.fate() % 4;
    this.#replaced = { isReplaced: false, atMs: -Infinity };
    this.#life++;
    this.#openSession();
    const time: IssuerOptions["time"] = {
      wallMs: () => Math.floor(startMs + this.#world.nowMs + this.#clockMs),
      monotonicMs: () => this.#world.nowMs,
      sleep: (ms, signal) =>
        new Promise<void>((resolve) => {
          if (signal.aborted) return resolve();
          signal.addEventListener("abort", () => resolve(), { once: true });
          this.#deliver(ms, resolve);
        }),
    };
    this.#issuer = new Supply({
      registry: { acquire: (key) => this.#acquire(key), cell: (key) => this.#cell(key) },
      holder: `idgen${this.#index}`,
      order,
      withoutRegistry: this.#world.history.withoutRegistry ?? "refuse",
      // Few workers, so that they change holders often.
      workers: () =>
        [0, 1, 2, 3].map((offset) => (order === "strict" ? 1 : 0) + (first + offset) % 4),
      ceilingMs: this.#world.history.reserveMs ?? ceilingMs,
      orderedMs: ceilingMs,
      marginMs: this.#world.history.marginMs ?? 0,
      retryMs,
      time,
      log: logger("idgen"),
      isReplaced: () => {
        const { isReplaced, atMs } = this.#replaced;
        const { nowMs } = this.#world;
        // A view is stale before a lease is in doubt.
        const confirmedMs = this.#session?.confirmedMs ?? -Infinity;
        return isReplaced && atMs > nowMs - sessionMs / 2 &&
          confirmedMs > nowMs - sessionMs * 2 / 3;
      },
      onChange: ({ worker }) => {
        if (worker !== undefined) this.#world.findings.activations++;
      },
    });
    if (this.#world.history.withoutRegistry === "unique") this.#list(this.#life);
  }

  /** Shows the registry whether this node issues, and learns whether another one does. */
  #list(life: number): void {
    const { listed } = this.#world;
    this.#deliver(100, () => this.#list(life), life);
    const session = this.#session;
    const issues = this.#issuer?.state.worker !== undefined;
    if (session === undefined) return;
    this.#ask(() => {
      if (issues) listed.set(this.#index, session.number);
      else listed.delete(this.#index);
      return [...listed].some(([node, session]) =>
        node !== this.#index && this.#world.isAlive(session)
      );
    }).then((isReplaced) => this.#replaced = { isReplaced, atMs: this.#world.nowMs }, () => {});
  }

  /** The quorum is lost now: a node that issues is to go on, and so for as long as it runs. */
  expectToIssue(): void {
    const isRunning = this.#pausedUntil <= this.#world.nowMs;
    const { order, withoutRegistry } = this.#world.history;
    const goesOn = order === "unique" || withoutRegistry === "unique";
    const isIssuing = this.#issuer?.state.worker !== undefined &&
      (!goesOn || this.#issuer.reservedMs > 0);
    this.#expected = isRunning && isIssuing ? this.#life : undefined;
  }

  /** Runs `run` in the process: not while the process is paused, and not if it is killed before. */
  #deliver(delayMs: number, run: () => void, life = this.#life): void {
    const arrive = () => {
      if (this.#life !== life) return;
      if (this.#pausedUntil > this.#world.nowMs) this.#world.at(this.#pausedUntil, arrive);
      else run();
    };
    this.#world.at(this.#world.nowMs + delayMs, arrive);
  }

  /** A client that calls this node for ids again and again. */
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
          if (world.isAway && this.#expected === this.#life) world.findings.refusedAway++;
        }
      });
    });
  }

  #openSession(): void {
    const session = {
      number: this.#world.number(),
      confirmedMs: -Infinity,
      connectedMs: Infinity,
      incarnation: undefined,
      leases: new Set<HeldLease>(),
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
    const connect = () => ({
      isAlive: world.touch(session.number, open),
      incarnation: world.incarnation,
    });
    this.#send(session, connect, ({ isAlive, incarnation }) => {
      if (this.#session !== session) return;
      if (!isAlive) {
        this.#openSession();
        for (const lease of session.leases) lease.lost.abort();
        return;
      }
      if (session.incarnation !== incarnation) {
        // Either a late answer from before the loss, or the first answer on a new connection.
        if (incarnation !== world.incarnation) return;
        session.incarnation = incarnation;
        session.connectedMs = world.nowMs;
        for (const lease of session.leases) lease.provenMs ??= session.confirmedMs + sessionMs;
      }
      session.confirmedMs = Math.max(session.confirmedMs, sentMs);
      for (const lease of session.leases) {
        if (lease.provenMs !== undefined) this.#verify(session, lease);
      }
    }, true);
  }

  #verify(session: Session, lease: HeldLease): void {
    const world = this.#world;
    this.#send(session, () => world.leases.get(lease.key)?.grant === lease.grant, (stands) => {
      if (stands && world.nowMs < (lease.provenMs ?? Infinity)) lease.provenMs = undefined;
      else lease.lost.abort();
    });
  }

  /**
   * Sends a request to the registry; request and reply may be late or lost. `connects`: opens a new connection if there
   * is none.
   */
  #send<T>(
    session: Session,
    apply: () => T,
    reply: (result: T) => void,
    connects = false,
  ): void {
    const world = this.#world;
    const incarnation = connects ? world.incarnation : session.incarnation;
    const life = this.#life;
    const fate = world.fate();
    const arrive = () => {
      if (world.frozenUntil > world.nowMs) {
        world.at(world.frozenUntil, arrive);
        return;
      }
      if (world.incarnation !== incarnation) return;
      const result = apply();
      const isLost = fate >= 15 && fate < 30;
      // A reply on a connection is lost when the connection ends.
      const arrived = () => (connects || session.incarnation === incarnation) && reply(result);
      if (!isLost) this.#deliver(world.delayMs(), arrived, life);
    };
    if (fate >= 15) world.at(world.nowMs + world.delayMs(), arrive);
  }

  #ask<T>(apply: () => T, session = this.#session): Promise<T> {
    return new Promise((resolve, reject) => {
      if (session === undefined) return reject(new RegistryUnavailableError("no session"));
      const unavailable = () => reject(new RegistryUnavailableError("no answer"));
      this.#deliver(timeLimitMs, unavailable);
      this.#send(session, () => {
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
    if (session === undefined || session.incarnation === undefined) {
      throw new RegistryUnavailableError("no session");
    }
    const grant = world.number();
    const granted = await this.#ask(() => {
      if (!world.isAlive(session.number)) throw new RegistryUnavailableError("expired");
      const held = world.leases.get(key);
      if (held && held.session !== session.number && world.isAlive(held.session)) return false;
      world.leases.set(key, { session: session.number, grant });
      return true;
    }, session);
    if (!granted) return undefined;
    const lease: HeldLease = { key, grant, lost: new AbortController(), provenMs: undefined };
    if (this.#session !== session || session.incarnation !== world.incarnation) {
      throw new RegistryUnavailableError("the connection was lost");
    }
    session.leases.add(lease);
    const lost = lease.lost.signal;
    return {
      key,
      validFrom: world.history.without === "wait"
        ? -Infinity
        : session.connectedMs + sessionMs + settlingMs,
      validUntil: () => {
        if (world.history.without === "lease") return Infinity;
        if (lost.aborted) return -Infinity;
        return lease.provenMs ?? session.confirmedMs + sessionMs;
      },
      lost,
      [Symbol.asyncDispose]: async () => {
        session.leases.delete(lease);
        await this.#ask(() => {
          if (world.leases.get(key)?.grant === grant) world.leases.delete(key);
        });
      },
    };
  }

  #cell(key: string): Cell {
    const { history } = this.#world;
    return {
      read: () => this.#ask(() => this.#world.cells.get(key)),
      write: (value, expected) =>
        this.#ask(() => {
          const current = this.#world.cells.get(key);
          const conflict = conflictOf(key, current, expected);
          if (conflict !== undefined && history.without !== "compareAndSet") throw conflict;
          const stored = { value, version: (current?.version ?? -1) + 1 };
          const isLower = history.without === "ceiling" && key !== `idgen/workers/${orderedWorker}`;
          const kept = isLower ? `${Number(value) - (history.reserveMs ?? ceilingMs) / 2}` : value;
          this.#world.cells.set(key, { ...stored, value: kept });
          this.#world.reserved(Number(value));
          return stored;
        }),
    };
  }
}
