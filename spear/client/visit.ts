/** This client on one node: it authenticates there, joins its rooms, and passes on what the node sends. */
import { GruError } from "./errors.ts";
import { Link, type LinkOptions } from "./link.ts";
import type { Outgoing, Sender } from "./outbox.ts";
import { refusal } from "./refusal.ts";
import type { Room } from "./room.ts";
import type { Broadcast } from "./types.ts";
import type { Claims, Json, Place, Result, Way } from "./wire.ts";

/** The client, as its visits know it. */
export interface Host {
  readonly own: Room;
  readonly rooms: ReadonlyMap<string, Room>;
  readonly claims: Claims;
  readonly token1: string;
  /** The only one that is believed about presence. */
  readonly current: Visit | undefined;
  delayMs(attempt: number): number;
  /** @param token a token2 to return with, where tokens are good once */
  admitted(visit: Visit, token: string | undefined): void;
  ended(visit: Visit, why: GruError): void;
  /** The room is over. */
  drop(room: Room, why: GruError): void;
  /** The node ends it all. */
  close(why: GruError): void;
  move(visit: Visit, way: Way): void;
  /** The node wants a new token, or this client wants to be sent again what it missed of its own. */
  refresh(visit: Visit): void;
  group(id: string): Room;
  emit(event: "broadcast", broadcast: Broadcast): void;
  emit(event: "subscribed", group: string): void;
}

/** Rooms that are joined by one event. */
const roomsAtOnce = 100;
/** Nodes report their users once a second. */
const overlapMs = 2000;
/** What a packet has beside the message. */
const packetBytes = 64;

export class Visit extends Link implements Sender {
  /** Where its `resume` is good. */
  places: readonly Place[];
  readonly #host: Host;
  /** Rooms that were asked for here. */
  readonly #asked = new Set<Room>();
  #roomsAtOnce = roomsAtOnce;
  /** Not while the node cannot find out who is online: messages must not wait for that. */
  #watches = true;
  #isReplaced = false;

  constructor(place: Place, places: readonly Place[], host: Host, options: LinkOptions) {
    super(place, options);
    this.places = places;
    this.#host = host;
  }

  /**
   * Also again on the same connection.
   * @returns the next token2, where tokens are good once
   * @throws {GruError}
   */
  async auth(token2: string): Promise<string | undefined> {
    const { own, claims: { userId: id, userName: name, appType, affinity }, token1 } = this.#host;
    const claims = { id, name, appType, affinity, token1, token2, since: own.track.join() };
    return await this.#request("auth", claims, (data) => {
      own.track.joined(data, data.recovered);
      this.#host.admitted(this, data.resume);
      for (const group of data.left ?? []) {
        this.#drop(group, new GruError("refused", `group ${group}: no right any more`));
      }
      return data.resume;
    });
  }

  /**
   * Joins the rooms that it has not joined yet, with what was missed of them; drops those that it may not join.
   * @throws {GruError} that is retryable
   */
  async join(): Promise<void> {
    for (;;) {
      const rooms = [...this.#host.rooms.values()].filter((room) => !this.#asked.has(room))
        .slice(0, this.#roomsAtOnce);
      const [first] = rooms;
      if (!first) return;
      for (const room of rooms) this.#asked.add(room);
      try {
        await this.#subscribe(rooms);
        this.#roomsAtOnce = roomsAtOnce;
      } catch (caught) {
        const error = caught as GruError;
        for (const room of rooms) this.#asked.delete(room);
        if (error === this.why) throw error;
        if (error.code === "busy") await this.pause(error.retryAfterMs ?? 0);
        else if (!error.retryable) {
          // All are refused for one: it is found by halves.
          this.#roomsAtOnce = rooms.length >> 1 || 1;
          if (rooms.length === 1) this.#host.drop(first, error);
        } else if (this.#watches && rooms.some(({ presence }) => presence)) {
          this.#watches = false;
          void this.#watchLater();
        } else throw error;
      }
    }
  }

  /** The rooms are joined again, from where their tracks are, and those that are not yet. */
  async again(rooms: Iterable<Room> = []): Promise<void> {
    for (const room of rooms) this.#asked.delete(room);
    try {
      await this.join();
    } catch {
      await this.pause(this.#host.delayMs(1));
      if (!this.why) await this.again();
    }
  }

  unsubscribe(room: Room): void {
    if (!this.#asked.delete(room)) return;
    const { userId } = this.#host.claims;
    this.ask("unsubscribe", { userId, subscribeGroups: [{ id: room.id }] }, () => {});
  }

  send(message: Outgoing): Promise<Result | undefined> {
    const most = this.maxBytes - packetBytes;
    // A node ends the connection of one that sends more, and would again and again.
    const bytes = new Blob([JSON.stringify(message)]).size;
    return new Promise((resolve) => {
      if (bytes <= most) return this.ask("msg", message, resolve);
      const msg = `msg: expected at most ${most} bytes, got ${bytes}`;
      resolve({ success: false, errorCode: 1003, msg, data: null });
    });
  }

  /** Who is online in a group. @param done is called in the turn of the answer */
  online<T>(group: string, done: (users: string[]) => T): Promise<T> {
    return this.#request("online", group, ({ userIds }) => done(userIds.map(String)));
  }

  /** Asks who is online, room by room: each answer may be long. */
  async meet(rooms: Iterable<Room>): Promise<void> {
    for (const room of rooms) {
      if (!room.presence || this.#host.current !== this) continue;
      try {
        await this.online(room.id, (users) => room.meet(users));
      } catch (error) {
        const { retryable, retryAfterMs } = error as GruError;
        if (!retryable) continue;
        await this.pause(retryAfterMs ?? this.#host.delayMs(1));
        void this.meet([room]);
      }
    }
  }

  /**
   * Another one brings what this one would. It ends when what was asked here is answered, and it is known everywhere that the user
   * is there also: else the user would be offline for a moment.
   */
  replace(): void {
    this.#isReplaced = true;
    void this.pause(overlapMs).then(() => this.leave());
  }

  protected override ended(why: GruError): void {
    this.#host.ended(this, why);
  }

  protected override take(name: string, argument: Json): void {
    const host = this.#host;
    if (this.#isReplaced) return;
    if (name === "msg") {
      const { msgType, fromId, target: { id } } = argument;
      const target = { kind: msgType ? "group" : "user", id: String(id) };
      const message = { ...argument, fromId: String(fromId), target };
      if (message.seq) this.#room(msgType, id)?.track.message(message);
      else if (host.current !== this) return;
      else if (msgType < 2) this.#room(msgType, id)?.aside(message);
      else host.emit("broadcast", message);
    } else if (name === "passed") {
      const { target } = argument;
      this.#room(target.type, target.id)?.track.message(argument);
    } else if (name === "missed") {
      const { target, epoch, from, to } = argument;
      const room = this.#room(target.type, target.id);
      if (!room?.track.missed(epoch, from, to)) return;
      if (room === host.own) host.refresh(this);
      else void this.again([room]);
    } else if (name === "presence") {
      const { groupId, joined, left } = argument;
      if (host.current !== this) return;
      this.#room(1, groupId)?.change(joined.map(String), left.map(String));
    } else if (name === "subscribed") {
      const { groupId, ...position } = argument;
      const isNew = !this.#room(1, groupId);
      const room = host.group(String(groupId));
      if (!this.#asked.has(room)) {
        this.#asked.add(room);
        room.track.joined(position, true);
      }
      if (isNew) host.emit("subscribed", room.id);
    } else if (name === "unsubscribed") {
      this.#drop(argument.groupId, new GruError("kicked", "taken out"));
    } else if (name === "move") {
      const { delayMs, addr, name, token } = argument;
      const way = { places: [{ addr, name }], token };
      void this.pause(delayMs).then(() => host.move(this, way));
    } else if (name === "refresh") host.refresh(this);
    else if (name === "kicked") {
      const { groupId, reason, until } = argument;
      const error = new GruError("kicked", reason, { until });
      if (groupId === undefined) host.close(error);
      else this.#drop(groupId, error);
    }
  }

  async #subscribe(rooms: readonly Room[]): Promise<void> {
    const subscribeGroups = rooms.map(({ id, track, last, presence }) => {
      const since = track.join();
      return { id, since, last: since ? undefined : last, presence: presence && this.#watches };
    });
    const argument = { userId: this.#host.claims.userId, subscribeGroups };
    await this.#request("subscribe", argument, ({ positions }) => {
      for (const position of positions) {
        const room = this.#room(1, position.id);
        if (!room) continue;
        room.track.joined(position, position.recovered);
        // False where the group is of a kind of which nobody is told it.
        room.presence &&= position.presence ?? true;
      }
      void this.meet(rooms);
    });
  }

  async #watchLater(): Promise<void> {
    await this.pause(this.#host.delayMs(2));
    this.#watches = true;
    await this.again([...this.#asked].filter(({ presence }) => presence));
  }

  /** @param done is called in the turn of the answer, see {@linkcode Link.ask} */
  #request<T>(event: string, argument: unknown, done: (data: Json) => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.ask(event, argument, (result) => {
        if (!result) reject(this.why);
        else if (result.success) resolve(done(result.data));
        else reject(refusal(result));
      });
    });
  }

  #room(type: 0 | 1, id: number | string): Room | undefined {
    return type ? this.#host.rooms.get(String(id)) : this.#host.own;
  }

  #drop(group: number | string, why: GruError): void {
    const room = this.#room(1, group);
    if (room) this.#host.drop(room, why);
  }
}
