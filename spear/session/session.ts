/** One client from its connection to its end: what it may do, what it is a member of. Knows no socket. */
import type { RateLimit } from "@gru/shared/rate_limit";
import type { ReadonlyCompactSet } from "@gru/shared/compact";
import { type Accepted, NotAcceptedError } from "../broker/broker.ts";
import { type Disconnect, disconnects } from "../disconnects.ts";
import type { Join, JoinOptions, Member } from "../hub/hub.ts";
import { isBehind, recover } from "../hub/recovery.ts";
import type { Frame, Missed } from "../packets.ts";
import type { PresenceChange } from "../presence/presence.ts";
import {
  code,
  EventError,
  type EventName,
  groupTarget,
  hiddenMessage,
  parseArgument,
  type Result,
  sizeOf,
  success,
  type Target,
  userTarget,
  wireId,
} from "../wire.ts";
import type { Admitted } from "./admission.ts";
import { Arrivals } from "./arrivals.ts";
import type { Connection, SessionContext } from "./context.ts";
import { type Decisions, InOrder } from "./decisions.ts";
import { overloaded, type Refusal } from "./intake.ts";
import { Memberships } from "./memberships.ts";
import { Sendings } from "./sending.ts";
import { type Submission, targetOf } from "./submit.ts";
import { Turns } from "./turns.ts";
import { work, type Worker } from "./work.ts";

/** Lists of users that are read for one connection at a time: what one costs is known only when it has been read. */
const readingsAtOnce = 4;

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

export class Session implements Member, Worker {
  /** Unix milliseconds. */
  readonly since = Date.now();
  workFullAtMs = 0;
  refusalsFullAtMs = 0;
  modestFullAtMs = 0;
  messages: RateLimit | undefined;
  readonly connection: Connection;
  readonly #node: SessionContext<Session>;
  readonly #arrivals: Arrivals;
  readonly #memberships: Memberships<Session>;
  #admitted: Admitted | undefined;
  #closed = false;
  /** From the first message on. */
  #sendings: Sendings | undefined;
  #readings: Turns | undefined;
  /** From the first message on that the business system is asked about. */
  #inOrder: InOrder | undefined;

  constructor(connection: Connection, node: SessionContext<Session>) {
    this.connection = connection;
    this.#node = node;
    this.#arrivals = new Arrivals(this, node);
    this.#memberships = new Memberships<Session>(this, node);
  }

  get userId(): string | undefined {
    return this.#admitted?.userId;
  }

  get admitted(): Admitted | undefined {
    return this.#admitted;
  }

  get groups(): ReadonlyCompactSet<string> {
    return this.#memberships.groups;
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(frame: Frame): void {
    this.connection.send(frame);
  }

  missed(target: Target, epoch: string, from: number, to: number): void {
    this.noteMissed({ target, epoch, from, to });
    this.connection.lost(target, epoch, from, to);
  }

  /** Its client is told that these do not come. */
  noteMissed(span: Pick<Missed, "target" | "epoch" | "from" | "to">): void {
    this.#node.trail.missed(span, this.userId ?? "");
    this.#node.counts.missed(span.to - span.from + 1);
  }

  /**
   * Asks the client to go elsewhere, with a token for these nodes that is good for `lifeMs`. It may not know the event:
   * {@linkcode disconnect} it in the end.
   */
  async move(move: Omit<Move, "token">, nodes: readonly string[], lifeMs: number): Promise<void> {
    const token = await this.#admitted?.pass(nodes, lifeMs);
    if (token !== undefined && !this.#closed) this.connection.emit("move", { ...move, token });
  }

  /** Asks the client for a new `auth` before its rights end. */
  refresh(): void {
    this.connection.emit("refresh", { rightsUntil: this.admitted?.rightsUntil });
  }

  disconnect(why: Disconnect): void {
    if (this.#closed) return;
    if (!why.atOnce) this.#arrivals.refuseKept();
    this.connection.close(why);
  }

  kick(kick: Kick): void {
    if (this.#closed) return;
    this.connection.emit("kicked", kick);
    this.disconnect(kick.until === undefined ? disconnects.kicked : disconnects.banned);
  }

  kickFromGroup(groupId: string, kick: Omit<Kick, "groupId">): void {
    if (!this.groups.has(groupId)) return;
    this.connection.emit("kicked", { groupId: wireId(groupId), ...kick });
    this.#memberships.leaveGroup(groupId);
  }

  /**
   * Makes it a member, whatever its rights are, and tells its client (event `subscribed`). False: it is gone.
   * @throws {EventError} when the group is closed, or it is in too many; {@linkcode NotAcceptedError} when the broker is away
   */
  putInto(groupId: string): Promise<boolean> {
    return this.#arrivals.between(async () => {
      if (this.groups.has(groupId)) return true;
      const limit = this.#node.limits.groupsPerConnection;
      if (this.groups.size >= limit) {
        throw new EventError(code.parameterError, `at most ${limit} groups per connection`);
      }
      const target = groupTarget(groupId);
      await this.#sent([target]);
      using _place = await this.#places("subscribe", [groupId]);
      if (this.#isGone()) return false;
      const join = await this.#node.hub.join(target, this, undefined, this.#joinOptions());
      try {
        this.#node.bans.checkGroup(groupId);
        while (!this.#isGone() && isBehind(join)) await this.#recover([join]);
      } catch (error) {
        join.cancel();
        throw error;
      }
      if (this.#isGone() || join.left) {
        join.cancel();
        return false;
      }
      this.#memberships.enterGroup(groupId);
      join.enter();
      this.connection.emit("subscribed", { groupId: wireId(groupId), ...join.position });
      join.activate();
      return true;
    });
  }

  /** Ends its membership and tells its client (event `unsubscribed`). False: it was no member. */
  takeOut(groupId: string): Promise<boolean> {
    return this.#arrivals.between(async () => {
      await this.#sent([groupTarget(groupId)], { leaves: true });
      if (this.#isGone() || !this.groups.has(groupId)) return false;
      this.#memberships.leaveGroup(groupId);
      this.connection.emit("unsubscribed", { groupId: wireId(groupId) });
      return true;
    });
  }

  /** What decides on which node this client belongs; undefined: it has not authenticated. */
  get placeKey(): string | undefined {
    return this.#admitted?.affinity ?? this.userId;
  }

  #isGone(): boolean {
    return this.#closed || this.userId === undefined;
  }

  /** An event of ours, beside the messages of targets. */
  emit(event: string, argument: object): void {
    if (!this.#closed) this.connection.emit(event, argument);
  }

  presence(change: PresenceChange): void {
    this.connection.emit("presence", change);
  }

  /** See {@linkcode Arrivals.take}. */
  handle(
    event: string,
    raw: unknown,
    reply: (result: Result) => void,
    surplus = 0,
  ): Promise<void> {
    return this.#arrivals.take(event, raw, reply, surplus);
  }

  /**
   * The client has acknowledged something, as old ones do with every `msg`, or sent something else that is no event and
   * cannot be refused.
   */
  acknowledged(size: number): void {
    this.#arrivals.owe(work.ofAcknowledgement + work.ofArgument(size));
  }

  /** The connection is gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#arrivals.close();
    this.#memberships.leaveAll();
  }

  perform(
    event: EventName,
    raw: unknown,
    reply: (result: Result) => void,
  ): Promise<Refusal | void> {
    switch (event) {
      case "auth":
        return this.#auth(raw, reply);
      case "subscribe":
        return this.#subscribe(raw, reply);
      case "unsubscribe":
        return this.#unsubscribe(raw, reply);
      case "msg":
        return this.#msg(raw, reply);
      case "online":
        return this.#online(raw, reply);
    }
  }

  async #auth(raw: unknown, reply: (result: Result) => void): Promise<void> {
    let claims;
    let admitted;
    using place = this.#node.entering.place();
    try {
      claims = parseArgument("auth", raw).value;
      if (this.userId !== undefined && this.userId !== claims.id) {
        throw new EventError(
          code.parameterError,
          `auth: already authenticated as ${this.userId}`,
        );
      }
      if (this.#admitted === undefined) this.#requirePlace(claims.id);
      admitted = await this.#node.authenticate(claims, this.#admitted);
      // Taken now that the user is known to be this one, and before anything else is waited for.
      if (this.#admitted === undefined) {
        this.#requirePlace(claims.id);
        place.take(claims.id);
        this.#node.work.spendOfUser(claims.id, work.ofEvent("auth"));
      }
    } catch (error) {
      if (!(error instanceof EventError)) throw error;
      const { errorCode, message, retryAfterMs } = error;
      const passes = retryAfterMs !== undefined;
      const ends = error.ends ?? (passes ? disconnects.tryLater : disconnects.refused);
      throw new EventError(errorCode, message, { ends, retryAfterMs });
    }
    const { id, since } = claims;
    const target = userTarget(id);
    await this.#sent([target]);
    if (this.#closed) return;
    const known = this.#admitted !== undefined;
    const join = await this.#node.hub.join(target, this, since, this.#joinOptions());
    if (this.#closed) return join.cancel();
    // After the joining: a kick that came before could not see this session, one that comes later will.
    try {
      this.#node.bans.checkUser(id, admitted.issuedAt);
    } catch (error) {
      join.cancel();
      throw error;
    }
    this.#admitted = admitted;
    if (!known) this.#memberships.enterUser(id);
    join.enter();
    place.giveBack();
    const left = [...this.groups].filter((group) => !admitted.mayListen(group));
    if (left.length > 0) await this.#sent(left.map(groupTarget), { leaves: true });
    for (const group of left) this.#memberships.leaveGroup(group);
    try {
      while (isBehind(join)) await this.#recover([join]);
    } catch (error) {
      if (known) join.cancel();
      else {
        this.#admitted = undefined;
        this.#memberships.leaveUser(id);
      }
      throw error;
    }
    if (this.#closed) return;
    if (since !== undefined) this.#node.counts.recovery(join.recovered);
    reply(success({
      ...join.position,
      recovered: join.recovered,
      ...admitted.told,
      ...(left.length === 0 ? {} : { left: left.map(wireId) }),
    }));
    join.activate();
  }

  async #subscribe(raw: unknown, reply: (result: Result) => void): Promise<void> {
    const limit = this.#node.limits.groupsPerConnection;
    const { value, raw: argument } = parseArgument("subscribe", raw, limit);
    this.#requireSelf("subscribe", value.userId);
    const wanted = new Map(value.subscribeGroups.map((group) => [group.id, group]));
    for (const id of wanted.keys()) this.#admitted?.requireListen("subscribe", id);
    const { decisions } = this.#node;
    const asked = decisions &&
      [...wanted.keys()].flatMap((id) => decisions.subscribe(this.userId ?? "", id) ?? []);
    if (asked !== undefined && asked.length > 0) {
      await Promise.all(asked);
      if (this.#closed) return;
    }
    const added = [...wanted.keys()].filter((id) => !this.groups.has(id)).length;
    if (this.groups.size + added > limit) {
      throw new EventError(
        code.parameterError,
        `subscribe.subscribeGroups: at most ${limit} groups per connection, got ${
          this.groups.size + added
        }`,
      );
    }
    const watched = value.subscribeGroups.filter(({ presence }) => presence).length;
    this.#charge("subscribe", wanted.size * work.ofGroup);
    // Owed, not refused: all groups with their presence are more than there may be at once, and a client that has just
    // come may ask for all.
    this.#node.work.spend(this, watched * work.ofPresence);
    await this.#sent([...wanted.keys()].map(groupTarget));
    using _places = await this.#places("subscribe", [...wanted.keys()]);
    if (this.#closed) return;
    const { groupRules } = this.#node;
    const isWatched = (id: string) => groupRules?.hasPresence(id) ?? true;
    const options = this.#joinOptions();
    const outcomes = await Promise.allSettled(
      [...wanted.values()].map(async ({ id, since, last, presence }) => {
        // Unwatched: it was kicked out of the group meanwhile, and stays out.
        if (presence && isWatched(id) && !await this.#node.presence.watch(id, this)) return [];
        const join = await this.#node.hub.join(groupTarget(id), this, since, { ...options, last });
        return [{ id, join }];
      }),
    );
    const joins = outcomes.flatMap((outcome) =>
      outcome.status === "fulfilled" ? outcome.value : []
    );
    try {
      for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
      // In the turn in which they enter: a kick that came before, even while another group was waited for, could not
      // see this session in it, one that comes later will.
      for (const id of wanted.keys()) this.#node.bans.checkGroup(id);
    } catch (error) {
      this.#giveUp(joins, wanted.keys());
      throw error;
    }
    if (this.#closed) return this.#giveUp(joins, wanted.keys());
    // One that was kicked out meanwhile stays out.
    const entering = joins.filter(({ join }) => !join.left);
    const fresh = new Set(entering.map(({ id }) => id).filter((id) => !this.groups.has(id)));
    for (const { id, join } of entering) {
      this.#memberships.enterGroup(id);
      join.enter();
    }
    try {
      const joining = entering.map(({ join }) => join);
      while (joining.some(isBehind)) await this.#recover(joining);
    } catch (error) {
      for (const { id, join } of entering) {
        if (fresh.has(id)) this.#memberships.leaveGroup(id);
        else join.cancel();
      }
      throw error;
    }
    if (this.#closed) return;
    const entered = entering.filter(({ join }) => !join.left);
    const positions = entered.map(({ id, join: { position, recovered } }) => ({
      id: wireId(id),
      ...position,
      recovered,
      ...(wanted.get(id)?.presence && !isWatched(id) ? { presence: false } : {}),
    }));
    for (const { id, join } of entered) {
      if (wanted.get(id)?.since !== undefined) this.#node.counts.recovery(join.recovered);
    }
    reply(success({ subscribeInfo: argument, positions }));
    for (const { join } of entered) join.activate();
  }

  /** Undefined: no place is needed. Rejects when there is none. */
  #places(event: string, groupIds: readonly string[]): Promise<Disposable> | undefined {
    const { groupRules } = this.#node;
    return groupRules?.places(
      event,
      groupIds.filter((id) => !this.groups.has(id)),
      this.userId ?? "",
    );
  }

  #giveUp(joins: readonly { readonly join: Join }[], wanted: Iterable<string>): void {
    for (const { join } of joins) join.cancel();
    for (const id of wanted) {
      if (this.#closed || !this.groups.has(id)) this.#node.presence.unwatch(id, this);
    }
  }

  async #unsubscribe(raw: unknown, reply: (result: Result) => void): Promise<void> {
    const limit = this.#node.limits.groupsPerConnection;
    const { value, raw: argument } = parseArgument("unsubscribe", raw, limit);
    this.#requireSelf("unsubscribe", value.userId);
    this.#charge("unsubscribe", value.subscribeGroups.length * work.ofGroupLeft);
    await this.#sent(value.subscribeGroups.map(({ id }) => groupTarget(id)), { leaves: true });
    if (this.#closed) return;
    for (const { id } of value.subscribeGroups) this.#memberships.leaveGroup(id);
    reply(success({ subscribeInfo: argument }));
  }

  async #msg(raw: unknown, reply: (result: Result) => void): Promise<Refusal | void> {
    const { value, size } = this.#parseMessage(raw);
    const { type, targetId, content, clientMsgId, priority = "normal" } = value;
    this.#charge("msg", work.ofSurplus(size - content.length));
    this.#admitted?.requireSend(type, targetId);
    const fromId = this.userId ?? "";
    const target = targetOf(value);
    this.#node.mutes.check(fromId, target);
    const retryAfterMs = this.#node.intake.takeMessage(target, priority);
    if (retryAfterMs > 0) return overloaded("msg", retryAfterMs);
    const submission = {
      fromId,
      type,
      targetId,
      content,
      priority,
      idempotencyKey: clientMsgId === undefined ? undefined : `${fromId}:${clientMsgId}`,
    };
    const { decisions } = this.#node;
    const decided = decisions?.beforeSend(submission, clientMsgId);
    this.#sendings ??= new Sendings();
    const accepted = await this.#sendings.track(
      target,
      this.#node.hub,
      decisions === undefined || decided === undefined
        ? () => this.#submit(submission)
        : () => this.#sendDecided(target, submission, decided, decisions),
    );
    if (this.#closed) return;
    const { id, seq, dropped } = accepted;
    reply(success(seq > 0 ? accepted : dropped ? { dropped } : { id }));
  }

  #submit(submission: Submission): Promise<Accepted> {
    const { groupRules, submit } = this.#node;
    return groupRules === undefined ? submit(submission) : groupRules.submit(this, submission);
  }

  /** @param decided what is sent in its place; undefined: the sender alone gets it */
  #sendDecided(
    target: Target,
    submission: Submission,
    decided: Promise<Submission | undefined>,
    decisions: Decisions,
  ): Promise<Accepted> {
    this.#inOrder ??= new InOrder();
    return this.#inOrder.run(target, decided, async (decision) => {
      // Who was kicked meanwhile says nothing more; who has left gets no answer, so nothing was accepted.
      if (this.#closed) throw new NotAcceptedError("the connection has ended");
      return await (decision === undefined
        ? this.#sendToSelf(target, submission, decisions)
        : this.#submit(decision));
    });
  }

  /** It looks as if it had been sent; without a position, as it is in no history. */
  async #sendToSelf(
    target: Target,
    submission: Submission,
    decisions: Decisions,
  ): Promise<Accepted> {
    const accepted = await decisions.placeOfHidden(target);
    const message = hiddenMessage({ ...submission, id: accepted.id, createTime: Date.now() });
    for (const session of [...this.#node.hub.members(userTarget(submission.fromId))]) {
      if (this.#node.hub.members(target).has(session)) session.emit("msg", message);
    }
    return accepted;
  }

  /** A message that is none costs what it takes to see that. */
  #parseMessage(raw: unknown) {
    try {
      return parseArgument("msg", raw);
    } catch (error) {
      this.#charge("msg", work.ofArgument(sizeOf(raw)));
      throw error;
    }
  }

  async #online(raw: unknown, reply: (result: Result) => void): Promise<Refusal | void> {
    const groupId = parseArgument("online", raw).value;
    this.#admitted?.requireListen("online", groupId);
    this.#node.groupRules?.requirePresence("online", groupId);
    const asked = this.#node.decisions?.online(this.userId ?? "", groupId);
    if (asked !== undefined) await asked;
    this.#readings ??= new Turns(readingsAtOnce);
    return await this.#readings.run(() => this.#readOnline(groupId, reply));
  }

  async #readOnline(groupId: string, reply: (result: Result) => void): Promise<Refusal | void> {
    if (this.#closed || this.#arrivals.cutOff) return;
    // What the readings before it cost is known now.
    this.#charge("online", work.ofReading(1));
    const retryAfterMs = this.#node.intake.takeReading("online", groupTarget(groupId));
    if (retryAfterMs > 0) return overloaded("online", retryAfterMs);
    const { result, users, bytes, shared } = await this.#node.groupUsers.online(groupId);
    if (this.#closed || this.#arrivals.cutOff) return;
    if (!shared) this.#node.work.spend(this, work.ofReading(users.length));
    this.#charge("online", work.ofAnswer(bytes));
    this.#node.presence.sentList(groupId, users);
    reply(result);
  }

  /** @throws {EventError} when there is no room for one more connection of the user, or it does too much already. */
  #requirePlace(userId: string): void {
    const { limits: { connectionsPerUser }, hub, entering, work: budgets } = this.#node;
    if (hub.members(userTarget(userId)).size + entering.of(userId) >= connectionsPerUser) {
      throw new EventError(
        code.logicError,
        `auth: user ${userId} has ${connectionsPerUser} connections to this node already`,
        // One of them may be what the client has just lost, and not noticed here yet.
        { ends: disconnects.tryLater },
      );
    }
    budgets.requireOfUser(userId, "auth", work.ofEvent("auth"));
  }

  /** @throws {EventError} when the connection or its user has no such budget now; then nothing is charged. */
  #charge(event: string, units: number): void {
    this.#node.work.charge(this, event, units);
  }

  /** Resolves when what this client has sent to the targets so far has taken effect; rejects when that is not to be found out. */
  async #sent(targets: readonly Target[], { leaves = false } = {}): Promise<void> {
    try {
      await this.#sendings?.passed(targets, this.#node.hub);
    } catch (error) {
      // A client may leave also while the broker is out of reach.
      if (!leaves) throw error;
    }
  }

  /** What comes for the joins of one event waits in one room: half, so that it does not end the connection afterwards. */
  #joinOptions(): JoinOptions {
    return { paged: true, room: { left: this.#node.limits.waitingBytes / 2 } };
  }

  #recover(joins: readonly Join[]): Promise<void> {
    return recover(joins, {
      sendPage: (join) => this.#sendMissed(join),
      drained: async () => {
        await this.connection.drained();
        const hasEnded = () => this.#closed;
        await this.#node.intake.calm(hasEnded);
        await this.#node.work.outOfDebt(this, hasEnded);
      },
      hasEnded: () => this.#closed,
      waitingBytes: this.#node.limits.waitingBytes,
    });
  }

  #sendMissed({ missed, bytesRead }: Join): void {
    this.#node.work.spend(this, work.ofRecovery(bytesRead));
    this.#node.counts.delivered(missed.length);
    for (const frame of missed) this.send(frame);
  }

  #requireSelf(event: string, userId: string): void {
    if (userId === this.userId) return;
    throw new EventError(
      code.defaultError,
      `${event}.userId: expected the authenticated user ${this.userId}, got ${userId}`,
    );
  }
}
