/** One client from its connection to its end: what it may do, what it is a member of. Knows no socket. */
import { RpcError } from "@gru/shared/rpc/contract";
import type { Logger } from "@gru/shared/log";
import { RateLimit } from "@gru/shared/rate_limit";
import type { Admitted } from "./admission.ts";
import type { Bans } from "./bans.ts";
import { type Broker, InDoubtError, NotAcceptedError } from "./broker.ts";
import { CompactSet, type ReadonlyCompactSet } from "./compact.ts";
import type { Hub, Join, Member } from "./hub.ts";
import type { IdSource } from "./ids.ts";
import type { Frame } from "./packets.ts";
import type { Presence, PresenceChange } from "./presence.ts";
import type { Roster } from "./roster.ts";
import {
  type Argument,
  code,
  encodeMessage,
  EventError,
  type EventName,
  groupTarget,
  isEventName,
  missedEvent,
  parseArgument,
  type Result,
  success,
  type Target,
  userTarget,
  wireId,
} from "./wire.ts";

/** The transport below a session. Everything is written in the order of the calls. */
export interface Connection {
  send(frame: Frame): void;
  emit(event: string, argument: object): void;
  /** After what has been written before; with a reason at once, and a WebSocket is told it. */
  close(reason?: CloseReason): void;
}

export interface CloseReason {
  /** One of `closeCode`. */
  readonly code: number;
  readonly text: string;
}

/** What a session is given by its node. */
export interface SessionContext {
  readonly hub: Hub<Session>;
  readonly broker: Pick<Broker, "publish">;
  readonly bans: Bans;
  readonly ids: IdSource;
  /** Undefined: nobody is told who comes and goes. */
  readonly roster: Roster | undefined;
  /** Users of a group over the whole cluster. */
  readonly usersOfGroup: (groupId: string) => Promise<string[]>;
  /** @throws {EventError} when the tokens do not fit. */
  readonly authenticate: (claims: Argument<"auth">) => Promise<Admitted>;
  readonly limits: SessionLimits;
  /** Tells members of groups who ask for it that users came or went. */
  readonly presence: Presence;
  /** How long a message can be recovered; 0: not at all. */
  readonly historyMs: number;
  readonly log: Logger;
}

export interface SessionLimits {
  readonly groupsPerConnection: number;
  readonly connectionsPerUser: number;
  readonly messagesPerSecond: number;
}

/** Events of one connection that may be under way at once; who sends more does not wait for answers. */
const maxEventsUnderWay = 1000;

/** The argument of the event `move`: where to go, with what, and when. */
export interface Move {
  /** Connections of a node move one after the other. */
  readonly delayMs: number;
  readonly addr: string;
  readonly name: string;
  /** token2 for the new address. */
  readonly token: string;
}

/** The argument of the event `kicked`: out of a group, or else off the node. */
export interface Kick {
  readonly groupId?: number | string;
  readonly reason: string;
  /** Unix milliseconds; absent: one may come back at once. */
  readonly until?: number;
}

export class Session implements Member {
  /** Unix milliseconds. */
  readonly since = Date.now();
  readonly #connection: Connection;
  readonly #node: SessionContext;
  readonly #groups = new CompactSet<string>();
  #admitted: Admitted | undefined;
  #closed = false;
  /** Set while an event is under way that later ones depend on. */
  #barrier: Promise<void> | undefined;
  #eventsUnderWay = 0;
  /** From the first message on: most connections only receive. */
  #rate: RateLimit | undefined;

  constructor(connection: Connection, node: SessionContext) {
    this.#connection = connection;
    this.#node = node;
  }

  get userId(): string | undefined {
    return this.#admitted?.userId;
  }

  get admitted(): Admitted | undefined {
    return this.#admitted;
  }

  get groups(): ReadonlyCompactSet<string> {
    return this.#groups;
  }

  send(frame: Frame): void {
    this.#connection.send(frame);
  }

  missed(target: Target, epoch: string, from: number, to: number): void {
    this.#connection.emit("missed", missedEvent(target, epoch, from, to));
  }

  /**
   * Asks the client to go elsewhere, with a token for these nodes that is good for `lifeMs`. It may not know the event:
   * {@linkcode disconnect} it in the end.
   */
  async move(move: Omit<Move, "token">, nodes: readonly string[], lifeMs: number): Promise<void> {
    const token = await this.#admitted?.pass(nodes, lifeMs);
    if (token !== undefined && !this.#closed) this.#connection.emit("move", { ...move, token });
  }

  /** Asks the client for a new `auth` before its rights end. */
  refresh(): void {
    this.#connection.emit("refresh", { rightsUntil: this.admitted?.rightsUntil });
  }

  disconnect(reason?: CloseReason): void {
    if (!this.#closed) this.#connection.close(reason);
  }

  kick(kick: Kick): void {
    if (this.#closed) return;
    this.#connection.emit("kicked", kick);
    this.#connection.close();
  }

  kickFromGroup(groupId: string, kick: Omit<Kick, "groupId">): void {
    if (!this.#groups.has(groupId)) return;
    this.#connection.emit("kicked", { groupId: wireId(groupId), ...kick });
    this.#leaveGroup(groupId);
  }

  /** An event of ours, beside the messages of targets. */
  emit(event: string, argument: object): void {
    if (!this.#closed) this.#connection.emit(event, argument);
  }

  presence(change: PresenceChange): void {
    this.#connection.emit("presence", change);
  }

  /**
   * Works on one event and calls `reply` at most once: not at all when the connection ended or the outcome is not
   * known. Events take effect in the order they came; those behind an `auth` or a `subscribe` wait for it.
   */
  async handle(event: string, raw: unknown, reply: (result: Result) => void): Promise<void> {
    this.#eventsUnderWay++;
    try {
      if (this.#eventsUnderWay > maxEventsUnderWay) {
        throw new EventError(
          code.logicError,
          `${event}: not accepted: ${maxEventsUnderWay} events are under way on this connection`,
        );
      }
      while (this.#barrier !== undefined) await this.#barrier;
      if (this.#closed) return;
      if (event !== "auth" && this.#admitted === undefined) {
        throw new EventError(code.logicError, `${event}: not authenticated`, { fatal: true });
      }
      if (!isEventName(event)) throw new EventError(code.logicError, `${event}: unknown event`);
      await this.#perform(event, raw, reply);
    } catch (error) {
      if (this.#closed) return;
      if (error instanceof InDoubtError) {
        this.#node.log.warn("a client of user {userId} is left without an answer: {error}", {
          userId: this.userId,
          error,
        });
        return this.#connection.close();
      }
      const told = this.#toEventError(event, error);
      reply(told.result());
      if (told.fatal) this.#connection.close();
    } finally {
      this.#eventsUnderWay--;
    }
  }

  /** The connection is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const group of [...this.#groups]) this.#leaveGroup(group);
    const { userId } = this;
    if (userId === undefined) return;
    const target = userTarget(userId);
    this.#node.hub.leave(target, this);
    if (this.#node.hub.members(target).size === 0) this.#node.roster?.userLeft(userId);
  }

  #perform(event: EventName, raw: unknown, reply: (result: Result) => void): Promise<void> {
    switch (event) {
      case "auth":
        return this.#exclusively(() => this.#auth(raw, reply));
      case "subscribe":
        return this.#exclusively(() => this.#subscribe(raw, reply));
      case "unsubscribe":
        return this.#unsubscribe(raw, reply);
      case "msg":
        return this.#msg(raw, reply);
      case "online":
        return this.#online(raw, reply);
    }
  }

  async #exclusively(work: () => Promise<void>): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#barrier = promise;
    try {
      await work();
    } finally {
      this.#barrier = undefined;
      resolve();
    }
  }

  async #auth(raw: unknown, reply: (result: Result) => void): Promise<void> {
    let claims;
    let admitted;
    try {
      claims = parseArgument("auth", raw).value;
      if (this.userId !== undefined && this.userId !== claims.id) {
        throw new EventError(
          code.parameterError,
          `auth: already authenticated as ${this.userId}`,
        );
      }
      admitted = await this.#node.authenticate(claims);
      const { connectionsPerUser } = this.#node.limits;
      if (
        this.#admitted === undefined &&
        this.#node.hub.members(userTarget(claims.id)).size >= connectionsPerUser
      ) {
        throw new EventError(
          code.logicError,
          `auth: user ${claims.id} has ${connectionsPerUser} connections to this node already`,
        );
      }
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
      throw new EventError(error.errorCode, error.message, { fatal: true });
    }
    const { id, since } = claims;
    const known = this.#admitted !== undefined;
    const join = await this.#node.hub.join(userTarget(id), this, since);
    if (this.#closed) return this.#abandon(userTarget(id), join);
    this.#checkBan(userTarget(id), join, () => this.#node.bans.checkUser(id));
    this.#admitted = admitted;
    if (!known) {
      if (this.#node.hub.members(userTarget(id)).size === 0) this.#node.roster?.userJoined(id);
    }
    const left = [...this.#groups].filter((group) => !admitted.mayListen(group));
    for (const group of left) this.#leaveGroup(group);
    for (const frame of join.missed) this.send(frame);
    reply(success({
      ...join.position,
      recovered: join.recovered,
      ...admitted.told,
      ...(left.length === 0 ? {} : { left: left.map(wireId) }),
    }));
    join.activate();
  }

  async #subscribe(raw: unknown, reply: (result: Result) => void): Promise<void> {
    const { value, raw: argument } = parseArgument("subscribe", raw);
    this.#requireSelf("subscribe", value.userId);
    const wanted = new Map(value.subscribeGroups.map((group) => [group.id, group]));
    for (const id of wanted.keys()) this.#admitted?.requireListen("subscribe", id);
    const added = [...wanted.keys()].filter((id) => !this.#groups.has(id)).length;
    const limit = this.#node.limits.groupsPerConnection;
    if (this.#groups.size + added > limit) {
      throw new EventError(
        code.parameterError,
        `subscribe.subscribeGroups: at most ${limit} groups per connection, got ${
          this.#groups.size + added
        }`,
      );
    }
    const outcomes = await Promise.allSettled(
      [...wanted.values()].map(async ({ id, since, presence }) => {
        if (presence) await this.#node.presence.watch(id, this);
        const join = await this.#node.hub.join(groupTarget(id), this, since);
        this.#checkBan(groupTarget(id), join, () => this.#node.bans.checkGroup(id));
        return { id, join };
      }),
    );
    const joins = outcomes.flatMap((outcome) =>
      outcome.status === "fulfilled" ? [outcome.value] : []
    );
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (this.#closed || failed !== undefined) {
      for (const { id, join } of joins) this.#abandon(groupTarget(id), join);
      for (const id of wanted.keys()) {
        if (this.#closed || !this.#groups.has(id)) this.#node.presence.unwatch(id, this);
      }
      if (failed !== undefined) throw failed.reason;
      return;
    }
    for (const { id } of joins) this.#enterGroup(id);
    for (const { join } of joins) for (const frame of join.missed) this.send(frame);
    const positions = joins.map(({ id, join: { position, recovered } }) => ({
      id: wireId(id),
      ...position,
      recovered,
    }));
    reply(success({ subscribeInfo: argument, positions }));
    for (const { join } of joins) join.activate();
  }

  async #unsubscribe(raw: unknown, reply: (result: Result) => void): Promise<void> {
    const { value, raw: argument } = parseArgument("unsubscribe", raw);
    this.#requireSelf("unsubscribe", value.userId);
    for (const { id } of value.subscribeGroups) this.#leaveGroup(id);
    reply(success({ subscribeInfo: argument }));
  }

  async #msg(raw: unknown, reply: (result: Result) => void): Promise<void> {
    const { type, targetId, content, clientMsgId } = parseArgument("msg", raw).value;
    const { messagesPerSecond } = this.#node.limits;
    this.#rate ??= new RateLimit({ perSecond: messagesPerSecond, burst: messagesPerSecond });
    if (this.#rate.take(performance.now()) > 0) {
      throw new EventError(
        code.logicError,
        `msg: not accepted: more than ${messagesPerSecond} messages a second`,
      );
    }
    this.#admitted?.requireSend(type, targetId);
    const fromId = this.userId ?? "";
    const id = await this.#node.ids.next();
    const createTime = Date.now();
    const accepted = await this.#node.broker.publish({
      target: type === 1 ? groupTarget(targetId) : userTarget(targetId),
      id,
      body: encodeMessage({
        id,
        createTime,
        fromId,
        type,
        targetId,
        content,
        expireTime: this.#node.historyMs === 0 ? 0 : createTime + this.#node.historyMs,
      }),
      ...(clientMsgId === undefined ? {} : { idempotencyKey: `${fromId}:${clientMsgId}` }),
    });
    if (!this.#closed) reply(success(accepted));
  }

  async #online(raw: unknown, reply: (result: Result) => void): Promise<void> {
    const groupId = parseArgument("online", raw).value;
    this.#admitted?.requireListen("online", groupId);
    const userIds = await this.#node.usersOfGroup(groupId);
    if (!this.#closed) reply(success({ userIds: userIds.map(wireId) }));
  }

  /** After the joining: a kick that came before could not see this session, one that comes later will. */
  #checkBan(target: Target, join: Join, check: () => void): void {
    try {
      check();
    } catch (error) {
      this.#abandon(target, join);
      throw error;
    }
  }

  #abandon(target: Target, join: Join): void {
    join.cancel();
    if (this.#closed) this.#node.hub.leave(target, this);
  }

  #enterGroup(group: string): void {
    if (this.#groups.has(group)) return;
    if (!this.#otherSessionHas(group)) this.#node.roster?.groupJoined(group, this.userId ?? "");
    this.#groups.add(group);
  }

  #leaveGroup(group: string): void {
    if (!this.#groups.delete(group)) return;
    this.#node.hub.leave(groupTarget(group), this);
    this.#node.presence.unwatch(group, this);
    if (!this.#otherSessionHas(group)) this.#node.roster?.groupLeft(group, this.userId ?? "");
  }

  #otherSessionHas(group: string): boolean {
    for (const session of this.#node.hub.members(userTarget(this.userId ?? ""))) {
      if (session !== this && session.groups.has(group)) return true;
    }
    return false;
  }

  #requireSelf(event: string, userId: string): void {
    if (userId === this.userId) return;
    throw new EventError(
      code.defaultError,
      `${event}.userId: expected the authenticated user ${this.userId}, got ${userId}`,
    );
  }

  #toEventError(event: string, error: unknown): EventError {
    if (error instanceof EventError) return error;
    if (error instanceof NotAcceptedError || error instanceof RpcError) {
      return new EventError(code.systemError, `${event}: not accepted: ${error.message}`);
    }
    this.#node.log.error("{event} failed: {error}", { event, error });
    return new EventError(code.systemError, `${event}: system error`);
  }
}
