/** The client's life: it enters, stays in, replaces one connection by another, and returns, until it is closed. */
import { Emitter } from "./emitter.ts";
import { GruError } from "./errors.ts";
import { Outbox } from "./outbox.ts";
import { pause } from "./pause.ts";
import { Room } from "./room.ts";
import { type Kept, Store } from "./store.ts";
import { askTicket } from "./ticket.ts";
import type { ConnectOptions, GroupOptions, GruEvents, Position, State } from "./types.ts";
import { type Host, Visit } from "./visit.ts";
import type { Way } from "./wire.ts";
import { textOf } from "./text.ts";

/** After so many refused tokens in a row no other one is asked for. */
const refusalsAtMost = 3;
/** A connection that lasted so long was a good one: the next attempts begin without the pauses of those before it. */
const steadyMs = 10_000;
/** Groups whose positions are kept over reloads. */
const groupsKept = 1000;

const defaults = {
  ...{ token: "none", method: "POST", transports: ["websocket", "polling"], backlog: 1000 },
  ...{ connectMs: 10_000, answerMs: 20_000 },
} as const;

export class Session extends Emitter<GruEvents> implements Host {
  state: State = { name: "connecting" };
  current: Visit | undefined;
  token1 = "";
  readonly own: Room;
  readonly rooms = new Map<string, Room>();
  readonly claims: Host["claims"];
  readonly outbox: Outbox;
  readonly #options: ConnectOptions & typeof defaults;
  readonly #store: Store;
  readonly #closing = new AbortController();
  /** Aborted, and replaced by a new one, when it is worth trying again at once. */
  #waking = new AbortController();
  /** All that have a connection. */
  readonly #visits = new Set<Visit>();
  /** Called when there is a current visit, or will be none any more. */
  #onOnline: (() => void)[] = [];
  #isReplacing = false;
  #isRefreshing = false;
  /** Called when there is no current visit and none is on its way to be one. */
  #onGone: (why: GruError) => void = () => {};
  #resume: Way | undefined;
  #refusals = 0;
  /** Of groups, also of those that were not joined again since the page was reloaded. */
  readonly #positions: Map<string, Position>;

  constructor(options: ConnectOptions) {
    super();
    this.#options = { ...defaults, ...options } as ConnectOptions & typeof defaults;
    const { user, storage, ticket, affinity = "" } = options;
    this.claims = {
      userId: String(user.id),
      userName: user.name,
      appType: user.app ?? "1",
      affinity,
    };
    this.#store = new Store(
      storage,
      `gru ${ticket} ${user.id}`,
      () => this.#keep(),
      (error) => this.emit("error", error),
    );
    const { own, resume, groups, outbox = [] } = this.#store.read();
    this.#positions = new Map(groups);
    this.#resume = resume;
    this.own = this.#room(this.claims.userId, {}, own);
    this.outbox = new Outbox({
      ...{ messages: 1000, characters: 4_000_000, ...options.outbox },
      node: async () => {
        while (!this.current && !this.isClosed) {
          await new Promise<void>((resolve) => this.#onOnline.push(resolve));
        }
        return this.current;
      },
      delayMs: (attempt) => this.delayMs(attempt),
      closed: this.#closing.signal,
      changed: () => this.#store.changed(),
    });
    for (const message of outbox) {
      this.outbox.send(message).catch((error) => this.emit("error", error));
    }
    this.#listenToPage();
    void this.#run();
  }

  get isClosed(): boolean {
    return this.#closing.signal.aborted;
  }

  /** The room of the group, which is joined as soon as possible. */
  group(id: string, options: GroupOptions = {}): Room {
    let room = this.rooms.get(id);
    if (!room) {
      room = this.#room(id, options, options.since ?? this.#positions.get(id));
      if (this.isClosed) room.end();
      else this.rooms.set(id, room);
    } else if (options.presence && !room.presence) {
      room.presence = true;
      void this.current?.again([room]);
    }
    // With those that are added in the same turn.
    queueMicrotask(() => this.current?.again());
    return room;
  }

  leave(room: Room): void {
    for (const visit of this.#visits) visit.unsubscribe(room);
    this.drop(room);
  }

  /**
   * Full jitter: anything between nothing and twice as much as the time before. Thousands of clients that lost the same node return
   * spread over the whole time, and each further failure spreads them wider.
   */
  delayMs(attempt: number): number {
    const { firstMs = 1000, mostMs = 30_000 } = this.#options.retry ?? {};
    return Math.random() * Math.min(mostMs, firstMs * 2 ** attempt);
  }

  /** @param why of an end that this client did not choose */
  close(why?: GruError): void {
    if (this.isClosed) return;
    if (why) this.#resume = undefined;
    this.#closing.abort();
    this.#wake();
    for (const visit of this.#visits) visit.close();
    this.#tell(why ? { name: "closed", why } : { name: "closed" });
    for (const room of [this.own, ...this.rooms.values()]) room.end(why);
    // What was sent is rejected in the turns that follow.
    void this.outbox.settled().then(() => this.#store.flush());
  }

  /** Sends what waits, as long as it is online and for so long at most, and ends. */
  async finish(waitMs: number): Promise<void> {
    const settled = this.outbox.settled();
    if (this.current) await Promise.race([settled, pause(waitMs, this.#closing.signal)]);
    this.close();
    await settled;
  }

  /** Who is online in a group. */
  async online(id: string): Promise<string[]> {
    if (!this.current) throw new GruError("unreachable", "online: not connected");
    return await this.current.online(id, (users) => users);
  }

  admitted({ place, places }: Visit, token: string | undefined): void {
    const others = places.filter(({ name }) => name !== place.name);
    this.#resume = token ? { token, places: [place, ...others] } : undefined;
    this.#store.changed();
  }

  ended(visit: Visit, why: GruError): void {
    this.#visits.delete(visit);
    if (visit !== this.current) return;
    this.current = undefined;
    for (const room of [this.own, ...this.rooms.values()]) room.track.off();
    // A node that was silent is tried last.
    if (why.code === "unavailable") this.#resume?.places.push(...this.#resume.places.splice(0, 1));
    if (!this.#isReplacing) this.#onGone(why);
    else if (!this.isClosed) this.#tell({ name: "connecting" });
  }

  drop(room: Room, why?: GruError): void {
    this.rooms.delete(room.id);
    this.#positions.delete(room.id);
    this.#store.changed();
    room.end(why);
  }

  /**
   * The new connection is live before the old one ends. While there is an old one, a failure costs nothing: it tries again, by a ticket.
   */
  async move(visit: Visit, way: Way): Promise<void> {
    if (this.#isReplacing || visit !== this.current) return;
    this.#isReplacing = true;
    for (let attempt = 0;; attempt++) {
      try {
        this.#goLive(await this.#come(attempt ? await this.#ask() : way));
        break;
      } catch (error) {
        // None when the client was closed.
        const why = error as GruError | undefined;
        if (why?.retryable) await visit.pause(this.delayMs(attempt));
        if (!this.current && why) this.#onGone(why);
        if (!this.current || !why?.retryable) break;
      }
    }
    this.#isReplacing = false;
  }

  /** It stays as long as its rights last: what is wrong then is found when it returns. */
  async refresh(visit: Visit): Promise<void> {
    if (this.#isRefreshing) return;
    this.#isRefreshing = true;
    for (let attempt = 0; visit === this.current; attempt++) {
      try {
        const way = await this.#ask();
        // A token is good for the nodes of its ticket.
        if (way.places.some(({ name }) => name === visit.place.name)) {
          visit.places = way.places;
          await visit.auth(way.token);
        } else void this.move(visit, way);
        break;
      } catch {
        await pause(this.delayMs(attempt), this.#waking.signal);
      }
    }
    this.#isRefreshing = false;
  }

  async #run(): Promise<void> {
    // In the first turn rooms and listeners are added.
    await null;
    for (let attempt = 0; !this.isClosed; attempt++) {
      this.#tell({ name: "connecting" });
      const gone = new Promise<GruError>((resolve) => this.#onGone = resolve);
      let why;
      try {
        this.#goLive(await this.#enter());
        const began = Date.now();
        why = await gone;
        if (Date.now() - began > steadyMs) attempt = 0;
      } catch (error) {
        why = error as GruError;
      }
      if (this.isClosed) return;
      const mayBeAnother = why.code === "unauthorized" && ++this.#refusals < refusalsAtMost;
      if (!why.retryable && !mayBeAnother) return this.close(why);
      const delayMs = (why.retryAfterMs ?? 0) + this.delayMs(attempt);
      this.#tell({ name: "offline", why, nextAt: Date.now() + delayMs });
      await pause(delayMs, this.#waking.signal);
    }
  }

  /** By the token to return with where there is one, else by a ticket. */
  async #enter(): Promise<Visit> {
    const resume = this.#resume;
    this.#resume = undefined;
    if (resume) {
      try {
        return await this.#come(resume);
      } catch (error) {
        if (this.isClosed || (error as GruError).code === "busy") throw error;
      }
    }
    return await this.#come(await this.#ask());
  }

  async #ask(): Promise<Way> {
    const { token } = this.#options as ConnectOptions;
    try {
      this.token1 = typeof token === "function" ? await token() : token ?? "";
    } catch (error) {
      throw new GruError("unavailable", `token: ${textOf(error)}`, { cause: error });
    }
    return await askTicket(this.#options, this.claims, this.token1, this.#closing.signal);
  }

  /** To the first of the places that lets it in: there it gets everything, but does not send yet. */
  async #come({ places, token }: Way): Promise<Visit> {
    let failure: GruError | undefined;
    let isUsed = false;
    for (const place of places) {
      if (this.isClosed) break;
      const visit = new Visit(place, places, this, this.#options);
      this.#visits.add(visit);
      let isAsked = false;
      try {
        await visit.opened;
        isAsked = true;
        token = await visit.auth(token) ?? token;
        await visit.join();
        if (!visit.why) return visit;
        failure = visit.why;
      } catch (error) {
        failure = error as GruError;
        visit.close();
        if (failure.code === "unauthorized" && isUsed) {
          // A token that a node may have seen already is good no more: that says nothing about this user.
          failure = new GruError("unavailable", failure.message);
        }
        if (!failure.retryable) break;
      }
      isUsed ||= isAsked;
    }
    throw failure;
  }

  #goLive(visit: Visit): void {
    const before = this.current;
    this.current = visit;
    this.#refusals = 0;
    before?.replace();
    this.#tell({ name: "online", node: visit.place.name });
    void visit.meet(this.rooms.values());
    // Those that were added on its way.
    void visit.again();
  }

  #wake(): void {
    this.#waking.abort();
    if (!this.isClosed) this.#waking = new AbortController();
  }

  #tell(state: State): void {
    this.state = state;
    for (const resolve of this.#onOnline.splice(0)) resolve();
    this.emit("state", state);
  }

  #room(id: string, { presence, last }: GroupOptions, since: Position | undefined): Room {
    const { backlog } = this.#options;
    return new Room(id, { backlog, presence, last, since, changed: () => this.#store.changed() });
  }

  #keep(): Kept {
    for (const { id, seen } of this.rooms.values()) {
      if (seen) this.#positions.set(id, seen);
    }
    return {
      resume: this.#resume,
      own: this.own.seen,
      groups: [...this.#positions].slice(-groupsKept),
      outbox: [...this.outbox.waiting],
    };
  }

  /** A page that is seen again, or has a network again, does not wait for its next attempt. One that is left may not return. */
  #listenToPage(): void {
    const { signal } = this.#closing;
    for (const event of ["online", "visibilitychange"]) {
      globalThis.addEventListener?.(event, async () => {
        this.#store.flush();
        // Not at once: a whole building may have its network again.
        await pause(this.delayMs(0), signal);
        if (!Reflect.get(globalThis, "document")?.hidden) this.#wake();
      }, { signal });
    }
  }
}
