/**
 * A client as the guarantees suppose it: remembers how far it has seen each target, comes back whenever its connection ends, says
 * what it saw last, sends again what was not answered (much of it one at a time for each target, as `@gru/client` does), and
 * moves when it is asked to.
 */
import type { At, Books } from "./sim_books.ts";
import type { SimGateway } from "./sim_gateway.ts";
import { SimLink, type TransportKind } from "./sim_link.ts";
import { Way } from "./sim_network.ts";
import { Actor, Chance, type VirtualTime } from "./sim_time.ts";
import { Track } from "./sim_track.ts";

export interface SimClientOptions {
  readonly time: VirtualTime;
  readonly books: Books;
  readonly seed: string;
  readonly number: number;
  readonly userId: number;
  readonly kind: TransportKind;
  readonly slowestMs: number;
  /** Where ticket sends the user, the best place first. */
  readonly places: (userId: string) => readonly string[];
  readonly gatewayOf: (node: string) => SimGateway | undefined;
  /** Its node has ended its connection, and had not asked it to move. */
  readonly onDropped: (client: SimClient, gateway: SimGateway) => void;
}

interface Message {
  readonly number: number;
  readonly content: string;
  readonly target: string;
  attempts: number;
}

// deno-lint-ignore no-explicit-any
type Json = any;

interface Question {
  readonly event: string;
  readonly settle: (result: Json) => void;
}

const retryMs = 200;

/** So much is sent again at once, in characters; all of much more would make it a slow consumer on each connection. */
const resentAtOnce = 5000;

/** What happened to it while it did not read it hears of within this time. */
const catchUpMs = 1000;

export class SimClient {
  readonly name: string;
  readonly userId: number;
  readonly actor: Actor;
  readonly kind: TransportKind;
  /** The groups that it wants to be in. */
  readonly groups = new Set<string>();
  readonly watching = new Map<string, Set<string>>();
  readonly tracks = new Map<string, Track>();
  /** It was told to stay away. */
  banned = false;
  stopped = false;
  /** Its user had too many connections when it came last. */
  crowdedOut = false;
  /** It does not read now. */
  isDeaf = false;
  /** Since when it has been authenticated, virtual milliseconds. */
  authenticatedAt: number | undefined;
  node = "";
  link: SimLink | undefined;
  /** When it began to connect, virtual milliseconds. */
  connectedAt = 0;
  /** It knows why its connection ends: it was asked to move or kicked, or ends it itself. */
  #isWarned = false;
  readonly #options: SimClientOptions;
  readonly #way: Way;
  readonly #chance: Chance;
  readonly #unanswered = new Map<number, Message>();
  /** What it said before it joined, on the same connection. */
  readonly #before = new Map<string, SimLink>();
  /** What it said as a member before it left, with the moment at which it was accepted. */
  readonly #asMember = new Map<
    string,
    { readonly content: string; acceptedAt: number | undefined; at: At | undefined }[]
  >();
  /** What it was told to be missing since it said something before it left: group, epoch, and the seqs. */
  readonly #missing: { group: string; epoch: string; from: number; to: number }[] = [];
  /** What it said before it left that was not answered by then. */
  readonly #leftBehind = new Set<string>();
  readonly #got = new Set<string>();
  /** An event of this connection was refused because no `auth` was through. */
  #toldNotIn = false;
  readonly #questions = new Map<number, Question>();
  /** How often it has left a group or was taken out. */
  readonly #departures = new Map<string, number>();
  #count = 0;
  #acks = 1000;
  #prefer: string | undefined;
  #vanishedAt = -Infinity;
  #readsSince = -Infinity;
  /** What is sent again, each when the one before it is answered; what is new to these targets waits behind it. */
  readonly #resending = new Map<string, Message[]>();
  /** A silent node is passed over. */
  #attempts = 0;

  constructor(options: SimClientOptions) {
    const { number, userId, seed, slowestMs, kind } = options;
    this.#options = options;
    this.name = `client${number} of user ${userId}`;
    this.userId = userId;
    this.kind = kind;
    this.actor = new Actor(this.name);
    this.#way = new Way(`${seed} ${this.name}`, slowestMs);
    this.#chance = new Chance(`${seed} ${this.name} chance`);
  }

  get unanswered(): number {
    return this.#unanswered.size;
  }

  get isReady(): boolean {
    return this.authenticatedAt !== undefined &&
      [...this.groups].every((group) => this.#track(`g:${group}`).isIn);
  }

  /** It went away without a word not long ago: a node may still take it for present. Or it {@linkcode isBehind}. */
  get isUncertain(): boolean {
    return this.isBehind || this.#now - this.#vanishedAt < 60_000;
  }

  /** It does not read, or has not until a moment ago: what it knows may be old. */
  get isBehind(): boolean {
    return this.isDeaf || this.#now - this.#readsSince < catchUpMs;
  }

  get #now(): number {
    return this.#options.time.now;
  }

  start(): void {
    this.#connect();
  }

  stop(): void {
    this.stopped = true;
    this.#isWarned = true;
    this.link?.close();
  }

  /** @param all of its groups once more, in one event */
  subscribe(
    group: string,
    { all = false, ...options }: { since: boolean; presence: boolean; all?: boolean },
  ): void {
    this.groups.add(group);
    if (this.authenticatedAt === undefined) return;
    this.#subscribe(all ? [...this.groups] : [group], options);
  }

  unsubscribe(group: string): void {
    this.groups.delete(group);
    const track = this.#track(`g:${group}`);
    if (this.authenticatedAt === undefined || track.phase !== "in") return;
    track.leave();
    this.#ask(
      "unsubscribe",
      { userId: this.userId, subscribeGroups: [{ id: group }] },
      (result) => {
        if (result.success) {
          this.#checkAsMember(group);
          track.left(this.#now);
          this.#stopWatching(group);
        } else this.#refusedEvent("unsubscribe", result);
      },
    );
  }

  /** Authenticates once more on the same connection. */
  authenticateAgain(): void {
    if (this.authenticatedAt === undefined) return;
    const track = this.#track(`u:${this.userId}`);
    if (track.phase !== "in") return;
    this.#auth(track, () => {});
  }

  /** One event behind the other: the message is counted before it is a member. */
  sayAndSubscribe(group: string): void {
    const track = this.#track(`g:${group}`);
    const { link } = this;
    const mayCheck = track.phase === "out" && this.#sendsAtOnce(`g:${group}`);
    const content = this.say(`g:${group}`, 0);
    if (mayCheck && link !== undefined) this.#before.set(content, link);
    this.subscribe(group, { since: false, presence: false });
  }

  /** One event behind the other: it is still a member when the message is counted. */
  sayAndUnsubscribe(group: string): void {
    const target = `g:${group}`;
    const isMember = this.#track(target).phase === "in" && this.#sendsAtOnce(target);
    const content = this.say(target, 0);
    if (isMember) {
      this.#asMember.getOrInsertComputed(group, () => []).push({
        ...{ content, acceptedAt: undefined, at: undefined },
      });
    }
    this.unsubscribe(group);
  }

  /** How long it takes until what was accepted has come by is bounded; what was lost on its way may come later. */
  #checkAsMember(group: string): void {
    for (const { content, acceptedAt, at } of this.#asMember.get(group) ?? []) {
      if (acceptedAt === undefined) this.#leftBehind.add(content);
      if (acceptedAt === undefined || this.#now - acceptedAt > 600 || this.#got.has(content)) {
        continue;
      }
      const isToldMissing = this.#missing.some((span) =>
        span.group === group && span.epoch === at?.epoch && span.from <= at.seq && at.seq <= span.to
      );
      if (isToldMissing) continue;
      this.#options.books.fail(
        `${this.name} did not get ${content}, which it sent before it left ${group}`,
      );
    }
    this.#asMember.delete(group);
  }

  say(target: string, bytes: number): string {
    const number = ++this.#count;
    const content = `${this.#options.number}.${number}`;
    const message = {
      number,
      content: content + "|".padEnd(bytes, "."),
      target,
      attempts: 0,
    };
    this.#unanswered.set(number, message);
    this.#options.books.said(message.content);
    if (this.#sendsAtOnce(target)) this.#send(message);
    else this.#resending.get(target)?.push(message);
    return message.content;
  }

  #sendsAtOnce(target: string): boolean {
    return this.authenticatedAt !== undefined && !this.#resending.has(target);
  }

  cut(): void {
    this.#isWarned = true;
    this.link?.cut();
  }

  vanish(): void {
    const { link } = this;
    if (link === undefined || link.ended) return;
    this.#vanishedAt = this.#now;
    this.#isWarned = true;
    link.vanish();
    this.#closed(link);
  }

  stall(): void {
    this.isDeaf = this.link !== undefined;
    this.link?.stall();
  }

  resume(): void {
    if (this.isDeaf) this.#readsSince = this.#now;
    this.isDeaf = false;
    this.link?.resume();
  }

  /** Goes to another node, before or after leaving this one. */
  moveTo(node: string): void {
    this.#prefer = node;
    this.#isWarned = true;
    this.link?.close();
  }

  #connect(): void {
    if (this.stopped || this.banned) return;
    const { time, places, gatewayOf } = this.#options;
    const all = places(String(this.userId));
    const node = this.#prefer ?? all[this.#attempts++ % Math.max(1, all.length)];
    this.#prefer = undefined;
    const gateway = node === undefined ? undefined : gatewayOf(node);
    if (node === undefined || gateway === undefined) return this.#later();
    this.node = node;
    this.connectedAt = this.#now;
    this.#isWarned = false;
    this.#options.books.note(`${this.name} goes to ${node}`);
    const link: SimLink = this.link = new SimLink(time, this.actor, this.#way, gateway, this.kind, {
      open: () => this.#enter(link),
      packet: (packet) => {
        if (link === this.link) this.#take(packet);
      },
      closed: () => this.#closed(link),
    });
  }

  #later(): void {
    setTimeout(() => this.#connect(), retryMs * this.#chance.between(0.5, 1.5));
  }

  #closed(link: SimLink): void {
    if (link !== this.link) return;
    this.#options.books.note(`${this.name} is off`);
    if (!this.#isWarned && !this.isBehind) this.#options.onDropped(this, link.gateway);
    this.link = undefined;
    this.authenticatedAt = undefined;
    this.#toldNotIn = false;
    this.#resending.clear();
    this.#asMember.clear();
    this.#missing.length = 0;
    this.#leftBehind.clear();
    this.#questions.clear();
    for (const track of this.tracks.values()) track.off(this.#now);
    this.watching.clear();
    this.#later();
  }

  #enter(link: SimLink): void {
    const track = this.#track(`u:${this.userId}`);
    this.#auth(track, () => {
      if (this.link !== link) return;
      this.authenticatedAt = this.#now;
      this.#attempts = 0;
      if (pipelined) this.#subscribeMissing();
      else this.#enterGroups();
      this.#sendAgain();
    });
    // Some do not wait for the answer: the events behind an `auth` do.
    const pipelined = this.#chance.happens(0.3);
    if (pipelined) this.#enterGroups();
  }

  #sendAgain(): void {
    const all = [...this.#unanswered.values()];
    if (all.reduce((sum, { content }) => sum + content.length, 0) <= resentAtOnce) {
      for (const message of all) this.#send(message);
      return;
    }
    for (const message of all) {
      this.#resending.getOrInsertComputed(message.target, () => []).push(message);
    }
    for (const target of [...this.#resending.keys()]) this.#sendNext(target);
  }

  #sendNext(target: string): void {
    const next = this.#resending.get(target)?.shift();
    if (next === undefined) this.#resending.delete(target);
    else this.#send(next);
  }

  #enterGroups(): void {
    if (this.groups.size > 0) {
      this.#subscribe([...this.groups], { since: true, presence: this.#chance.happens(0.5) });
    }
  }

  #auth(track: Track, done: () => void): void {
    const { userId } = this;
    const since = track.at;
    const asked = track.join(since);
    const argument = {
      id: userId,
      name: `user${userId}`,
      appType: "1",
      token1: "t",
      token2: "t",
      since,
    };
    this.#ask("auth", argument, (result) => {
      if (!result.success) {
        track.refused(asked, this.#now);
        if (this.#toldNotIn) {
          this.#options.books.fail(`${this.name} was told that it is not in before its auth was`);
        }
        if (/banned/.test(result.msg)) this.banned = true;
        this.crowdedOut = /connections to this node/.test(result.msg);
        return this.#refusedEvent("auth", result);
      }
      if (this.#toldNotIn) {
        this.#options.books.fail(`${this.name} is in, after it was told that it is not`);
      }
      track.joined(asked, result.data, result.data.recovered, this.#now);
      this.crowdedOut = false;
      done();
    });
  }

  #subscribe(
    groups: readonly string[],
    { since, presence }: { since: boolean; presence: boolean },
  ): void {
    const asked = new Map<string, number>();
    const refused = (id: string) => this.#track(`g:${id}`).refused(asked.get(id) ?? 0, this.#now);
    const subscribeGroups = groups.map((id) => {
      const track = this.#track(`g:${id}`);
      const seen = since ? track.at : undefined;
      // What it saw before is no longer what it goes on from.
      if (!since && !track.isIn) track.at = undefined;
      asked.set(id, track.join(seen));
      return { id, since: seen, presence };
    });
    this.#ask("subscribe", { userId: this.userId, subscribeGroups }, (result) => {
      if (!result.success) {
        for (const id of groups) {
          refused(id);
          if (/is closed/.test(result.msg)) this.groups.delete(id);
        }
        this.#refusedEvent("subscribe", result);
        if (this.groups.size > 0) setTimeout(() => this.#subscribeMissing(), retryMs);
        return;
      }
      for (const { id, epoch, seq, recovered } of result.data.positions) {
        const track = this.#track(`g:${id}`);
        if (track.phase === "out") {
          this.#options.books.fail(
            `${this.name} was taken out of group ${id} and is told that it is in`,
          );
        }
        track.joined(asked.get(String(id)) ?? 0, { epoch, seq }, recovered, this.#now);
      }
      // Those that it was taken out of meanwhile are not among them.
      const entered = new Set(result.data.positions.map(({ id }: Json) => String(id)));
      for (const id of groups) if (!entered.has(id)) refused(id);
      if (presence) { for (const id of groups) if (entered.has(id)) this.#watch(id); }
    });
  }

  /** Those that were refused for a reason that passes. */
  #subscribeMissing(): void {
    const missing = [...this.groups].filter((id) => this.#track(`g:${id}`).phase === "out");
    if (missing.length > 0 && this.authenticatedAt !== undefined) {
      this.#subscribe(missing, { since: true, presence: false });
    }
  }

  #watch(group: string): void {
    const departures = this.#departures.get(group);
    this.#ask("online", group, (result) => {
      if (!result.success || !this.#track(`g:${group}`).isIn) return;
      // It has been out meanwhile, and is told no changes any more.
      if (this.#departures.get(group) !== departures) return;
      this.watching.set(group, new Set(result.data.userIds.map(String)));
    });
  }

  #stopWatching(group: string): void {
    this.watching.delete(group);
    this.#departures.set(group, (this.#departures.get(group) ?? 0) + 1);
  }

  #refusedEvent(event: string, { errorCode, msg }: Json): void {
    // The system's own trouble is allowed; everything else has no reason here.
    if (
      errorCode === 1001 || /banned|is closed|connections to this node|no budget left/.test(msg)
    ) return;
    // Its connection ends before `auth` is through, or because that failed.
    if (this.authenticatedAt === undefined && /not authenticated/.test(msg)) {
      this.#toldNotIn = true;
      return;
    }
    this.#options.books.fail(`${this.name}: ${event} was refused: ${msg}`);
  }

  #send(message: Message): void {
    const { content, target, number } = message;
    message.attempts++;
    const { link } = this;
    const [kind, id] = [target.startsWith("g:") ? 1 : 0, target.slice(2)];
    const argument = {
      type: kind,
      target: { id },
      content,
      clientMsgId: `${this.#options.number}.${number}`,
    };
    this.#ask("msg", argument, ({ success, data, msg }) => {
      if (!success && message.attempts > 1) {
        // That it was not accepted this time says nothing of the first time.
        setTimeout(() => this.link === link && this.#send(message), retryMs);
        return;
      }
      this.#unanswered.delete(number);
      if (this.#resending.has(target)) this.#sendNext(target);
      if (success) {
        const once = message.attempts === 1 ? link : undefined;
        this.#options.books.accepted(this.name, content, target, data, once);
        const said = this.#asMember.get(id)?.find((one) => one.content === content);
        if (said !== undefined) [said.acceptedAt, said.at] = [this.#now, data];
        if (this.#leftBehind.has(content) && !this.#got.has(content)) {
          this.#options.books.fail(`${this.name} sent ${content} and left before it was counted`);
        }
      } else this.#options.books.refused(content, msg);
    });
  }

  #ask(event: string, argument: unknown, settle: (result: Json) => void): void {
    const ack = ++this.#acks;
    this.#questions.set(ack, { event, settle });
    this.#options.books.note(`${this.name} asks ${event} ${JSON.stringify(argument)}`);
    this.link?.send(`2${ack}${JSON.stringify([event, argument])}`);
  }

  #take(packet: string): void {
    this.#options.books.note(`${this.name} gets ${packet}`);
    const start = packet.search(/[\[{]/);
    if (packet.startsWith("1")) return void this.link?.close();
    const payload = JSON.parse(packet.slice(start));
    if (packet.startsWith("3")) {
      const ack = Number(packet.slice(1, start));
      const question = this.#questions.get(ack);
      this.#questions.delete(ack);
      if (question === undefined) {
        this.#options.books.fail(`${this.name}: a second answer: ${packet}`);
      }
      question?.settle(payload[0]);
      return;
    }
    const [event, argument] = payload;
    if (event === "msg") this.#message(argument);
    else if (event === "missed") {
      const { target: { id, type }, epoch, from, to } = argument;
      if (type === 1) this.#missing.push({ group: String(id), epoch, from, to });
      this.#track(`${type === 1 ? "g" : "u"}:${id}`).missed(epoch, from, to);
    } else if (event === "kicked") this.#kicked(argument);
    else if (event === "move") this.#moveIn(argument);
    else if (event === "presence") this.#presence(argument);
  }

  #message({ seq, epoch, content, msgType, target }: Json): void {
    if (msgType === 2) return;
    const key = `${msgType === 1 ? "g" : "u"}:${target.id}`;
    const track = this.tracks.get(key);
    if (track === undefined) {
      return this.#options.books.fail(`${this.name} got a message of ${key}`);
    }
    if (this.link !== undefined && this.#before.get(content) === this.link) {
      this.#options.books.fail(`${this.name} got ${content}, which it sent before it joined`);
    }
    this.#got.add(content);
    track.message(epoch, seq, content);
  }

  #kicked({ groupId, until }: Json): void {
    if (groupId === undefined) {
      this.#isWarned = true;
      if (until !== undefined && until > Date.now()) this.banned = true;
      return;
    }
    const group = String(groupId);
    this.groups.delete(group);
    this.#stopWatching(group);
    // Taken out, it is no member when it leaves.
    this.#asMember.delete(group);
    this.#track(`g:${group}`).left(this.#now);
  }

  #moveIn({ delayMs, name }: Json): void {
    const { link } = this;
    this.#isWarned = true;
    setTimeout(() => {
      if (this.link !== link) return;
      this.#prefer = this.#chance.happens(0.7) ? name : undefined;
      link?.close();
    }, delayMs);
  }

  #presence({ groupId, joined, left }: Json): void {
    const users = this.watching.get(String(groupId));
    for (const user of joined) users?.add(String(user));
    for (const user of left) users?.delete(String(user));
  }

  #track(target: string): Track {
    return this.tracks.getOrInsertComputed(
      target,
      () => new Track(this.name, target, this.#options.books),
    );
  }
}
