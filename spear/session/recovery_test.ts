import assert from "node:assert/strict";
import { FollowedClock } from "@gru/shared/clock";
import { logger } from "@gru/shared/log";
import { slowTest, waitFor } from "@gru/shared/testing/harness";
import { Bans } from "./bans.ts";
import { Mutes } from "./mutes.ts";
import { type Broker, type HistoryPage, NotAcceptedError, pageBytes } from "../broker/broker.ts";
import { MemoryBus } from "../broker/memory.ts";
import { range } from "../broker/testing.ts";
import { Entering } from "./admission.ts";
import { KeptRoom } from "./kept.ts";
import { GroupUsers } from "../presence/group_users.ts";
import { Work } from "./work.ts";
import { Hub } from "../hub/hub.ts";
import type { Frame } from "../packets.ts";
import { Presence } from "../presence/presence.ts";
import { Roster } from "../presence/roster.ts";
import { SpearMetrics } from "../metrics.ts";
import type { Connection, SessionContext } from "./context.ts";
import { Session } from "./session.ts";
import { groupTarget, type Position, type Result, type Target, userTarget } from "../wire.ts";

const group = groupTarget("10");
const user = userTarget("7");

/** A node of real parts, without sockets; readings of history can be held back or fail. */
class Scene implements Disposable {
  readonly bus = new MemoryBus({ size: 100_000, bytes: 1_000_000_000, ageMs: 600_000 });
  readonly hub: Hub<Session>;
  readonly roster = new Roster();
  readonly bans = new Bans(new FollowedClock());
  readonly mutes = new Mutes(new FollowedClock());
  readonly broker: Broker;
  /** Answers of history that have not been given yet; undefined: each is given at once. */
  held: { give(): void; fail(): void }[] | undefined;
  readings = 0;
  readonly context: SessionContext<Session>;

  constructor({ waitingBytes = 1_000_000 } = {}) {
    this.hub = new Hub<Session>({
      fanOut: (frame, members) => {
        for (const member of members) member.send(frame);
      },
      retryMs: 5,
    });
    const inner = this.bus.connect(this.hub);
    this.broker = {
      ...inner,
      connected: true,
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
      history: async (...query) => {
        const page = await inner.history(...query);
        this.readings++;
        return await this.#gate(page);
      },
    };
    this.hub.connect(this.broker);
    const log = logger("test");
    this.context = {
      hub: this.hub,
      submit: () => Promise.reject(new Error("not asked for")),
      bans: this.bans,
      mutes: this.mutes,
      roster: this.roster,
      groupUsers: new GroupUsers({ read: async () => [], keepMs: 0 }),
      entering: new Entering(),
      keptRoom: new KeptRoom(),
      intake: { takeMessage: () => 0, takeReading: () => 0, calm: () => Promise.resolve() },
      work: new Work({
        workPerSecond: 1e9,
        workAtOnce: 1e9,
        nodeWorkPerSecond: 1e9,
        userFactor: 1,
        messagesPerSecond: 1000,
        groupsPerConnection: 1000,
      }),
      trail: { missed: () => {} },
      counts: new SpearMetrics(Date.now),
      presence: new Presence({ usersOfGroup: async () => [], periodMs: 60_000, log }),
      authenticate: async ({ id }) => ({
        userId: id,
        rightsUntil: undefined,
        told: {},
        pass: async () => "",
        mayListen: () => true,
        requireListen: () => {},
        requireSend: () => {},
      } as never),
      limits: {
        groupsPerConnection: 1000,
        connectionsPerUser: 100,
        messagesPerSecond: 1000,
        waitingBytes,
      },
      log,
    };
  }

  async publish(count: number, { target = group, length = 1000 } = {}): Promise<Position> {
    let last: Position = { epoch: "", seq: 0 };
    for (let n = 0; n < count; n++) {
      const body = JSON.stringify({ id: "1", content: "x".repeat(length) });
      last = await this.broker.publish({ target, id: "1", body });
    }
    return { epoch: last.epoch, seq: last.seq };
  }

  async client(): Promise<Client> {
    const client = new Client(this.context);
    assert.ok((await client.ask("auth", { id: 7 })).success);
    return client;
  }

  /** Where the user and the group have members, as everybody else sees it. */
  members(target: Target): number {
    const members = this.hub.members(target);
    assert.equal([...members].length, members.size);
    return members.size;
  }

  /** What stat would be told. */
  changes(): string[] {
    return this.roster.take().flatMap(({ groupId, joined, left }) => {
      const where = groupId === undefined ? "" : `group ${groupId} `;
      return [
        ...joined.map((id) => `${where}joined ${id}`),
        ...left.map((id) => `${where}left ${id}`),
      ];
    }).sort();
  }

  #gate(page: HistoryPage): Promise<HistoryPage> {
    if (this.held === undefined) return Promise.resolve(page);
    const { promise, resolve, reject } = Promise.withResolvers<HistoryPage>();
    this.held.push({
      give: () => resolve(page),
      fail: () => reject(new NotAcceptedError("history is out of reach")),
    });
    return promise;
  }

  [Symbol.dispose](): void {
    this.hub.close();
  }
}

/** A session whose socket takes what it is given only when `read` is called, or at once. */
class Client implements Connection {
  readonly about = { transport: "websocket", address: undefined } as const;
  readonly session: Session;
  readonly frames: Frame[] = [];
  readonly events: string[] = [];
  reads = true;
  readonly waitingBytes = 0;
  /** Characters that wait for the socket. */
  waiting = 0;
  mostWaiting = 0;
  #drains: (() => void)[] = [];

  constructor(context: SessionContext<Session>) {
    this.session = new Session(this, context);
  }

  async ask(event: string, argument: object): Promise<Result> {
    let answer: Result | undefined;
    await this.session.handle(event, argument, (result) => {
      this.events.push(`${event} result`);
      answer = result;
    });
    return answer ?? { success: false, errorCode: 0, msg: "no answer", data: null };
  }

  subscribe(...groups: object[]): Promise<Result> {
    return this.ask("subscribe", { userId: 7, subscribeGroups: groups });
  }

  send(frame: Frame): void {
    this.frames.push(frame);
    this.events.push(`msg ${frame.seq}`);
    this.waiting += frame.text.length;
    this.mostWaiting = Math.max(this.mostWaiting, this.waiting);
    if (this.reads) this.read();
  }

  emit(event: string): void {
    this.events.push(event);
  }

  lost(_target: Target, _epoch: string, from: number, to: number): void {
    this.events.push(`missed ${from}-${to}`);
  }

  rest(): void {}

  drained(): Promise<void> {
    return this.waiting === 0
      ? Promise.resolve()
      : new Promise((resolve) => this.#drains.push(resolve));
  }

  read(): void {
    this.waiting = 0;
    for (const resolve of this.#drains.splice(0)) resolve();
  }

  close(): void {
    this.session.close();
    this.read();
  }

  get seqs(): number[] {
    return this.frames.map(({ seq }) => seq);
  }
}

function positionsOf({ data }: Result): { recovered: boolean; seq: number }[] {
  return (data as { positions: { recovered: boolean; seq: number }[] }).positions;
}

slowTest(
  "a client that reads slowly recovers any number of messages, and only a page at a time waits for it",
  async () => {
    using scene = new Scene({ waitingBytes: 200_000 });
    const last = await scene.publish(10_000);
    const client = await scene.client();
    client.reads = false;
    const asked = client.subscribe({ id: 10, since: { ...last, seq: 0 } });
    let answered: Result | undefined;
    void asked.then((result) => answered = result);
    for (let turns = 0; answered === undefined; turns++) {
      // What is published meanwhile, 300 KB of it, comes after what was missed.
      if (turns < 100) await scene.publish(3);
      client.read();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    assert.deepEqual(positionsOf(answered).map(({ recovered }) => recovered), [true]);
    assert.ok(client.mostWaiting < 2 * pageBytes + 200_000, `${client.mostWaiting} waited`);
    await scene.publish(5);
    assert.deepEqual(client.seqs, range(client.seqs.length));
    assert.ok(client.seqs.length >= 10_005);
    const result = client.events.indexOf("subscribe result");
    assert.equal(client.events[result - 1], `msg ${positionsOf(answered)[0]?.seq}`);
  },
);

slowTest(
  "several groups are recovered one after the other, and what comes for the first meanwhile is not lost when too much waits",
  async () => {
    using scene = new Scene({ waitingBytes: 20_000 });
    const targets = range(20).map((id) => groupTarget(String(id)));
    const positions = await Promise.all(targets.map((target) => scene.publish(200, { target })));
    const client = await scene.client();
    client.reads = false;
    let answered: Result | undefined;
    void client.subscribe(
      ...positions.map(({ epoch }, i) => ({ id: i + 1, since: { epoch, seq: 0 } })),
    ).then((result) => answered = result);
    for (let turns = 0; answered === undefined; turns++) {
      if (turns < 50) {
        for (const target of targets.slice(0, 3)) await scene.publish(1, { target });
      }
      client.read();
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    assert.ok(positionsOf(answered).every(({ recovered }) => recovered));
    client.reads = true;
    for (const [i, target] of targets.entries()) {
      const seqs = client.frames.filter((frame) => frame.target === target).map(({ seq }) => seq);
      assert.deepEqual(seqs, range(i < 3 ? 250 : 200));
    }
    assert.ok(client.mostWaiting < 100_000, `${client.mostWaiting} waited`);
  },
);

Deno.test("a client that goes away in the middle of its recovery leaves nothing behind", async () => {
  using scene = new Scene();
  const last = await scene.publish(1000);
  const client = await scene.client();
  client.reads = false;
  const asked = client.subscribe({ id: 10, since: { ...last, seq: 0 } });
  await waitFor(() => client.frames.length > 0);
  assert.equal(scene.members(group), 1);
  client.close();
  await asked;
  assert.deepEqual([scene.members(group), scene.members(user)], [0, 0]);
  assert.deepEqual([...scene.hub.targets()], []);
  assert.deepEqual(scene.changes(), ["group 10 left 7", "left 7"]);
});

for (const end of ["give", "fail"] as const) {
  Deno.test(`a member that asks again is counted and can be kicked while history is read (it ends with ${end}), and is gone when it has gone`, async () => {
    using scene = new Scene();
    const client = await scene.client();
    await client.subscribe({ id: 10 });
    const last = await scene.publish(3);
    await scene.publish(3, { target: user });
    scene.held = [];
    const asked = client.ask("auth", { id: 7, since: { epoch: last.epoch, seq: 0 } });
    await waitFor(() => scene.held?.length === 1);
    assert.deepEqual([scene.members(group), scene.members(user)], [1, 1]);
    const other = await scene.client();
    assert.equal(scene.members(user), 2);
    other.close();
    // The user has not left with the other connection.
    assert.deepEqual(scene.changes(), ["group 10 joined 7", "joined 7"]);
    client.close();
    scene.held?.[0]?.[end]();
    await asked;
    assert.deepEqual([scene.members(group), scene.members(user)], [0, 0]);
    assert.deepEqual([...scene.hub.targets()], []);
    assert.deepEqual(scene.changes(), ["group 10 left 7", "left 7"]);
  });

  Deno.test(`a member that is kicked out of a group while it subscribes again stays out (history ends with ${end})`, async () => {
    using scene = new Scene();
    const client = await scene.client();
    await client.subscribe({ id: 10 });
    const last = await scene.publish(3);
    scene.held = [];
    const asked = client.subscribe({ id: 10, since: { ...last, seq: 1 } });
    await waitFor(() => scene.held?.length === 1);
    for (const session of [...scene.hub.members(group)]) {
      session.kickFromGroup("10", { reason: "" });
    }
    scene.held[0]?.[end]();
    await asked;
    scene.held = undefined;
    await scene.publish(1);
    assert.equal(scene.members(group), 0);
    assert.deepEqual(client.seqs, range(3));
    assert.deepEqual(client.events.filter((event) => event === "kicked"), ["kicked"]);
    assert.equal(client.session.groups.has("10"), false);
  });
}

Deno.test("a group that is closed while another one of the same subscribe is waited for is not entered", async () => {
  using scene = new Scene();
  const asked = Promise.withResolvers<string[]>();
  await using presence = new Presence({
    ...{ usersOfGroup: () => asked.promise, periodMs: 60_000, log: logger("test") },
  });
  const client = new Client({ ...scene.context, presence });
  assert.ok((await client.ask("auth", { id: 7 })).success);
  const subscribing = client.subscribe({ id: 10 }, { id: 11, presence: true });
  // Long enough for the first one to have been joined.
  for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve, 0));
  scene.bans.add({ kind: "group", id: "10", reason: "over", until: Date.now() + 60_000 });
  client.session.kickFromGroup("10", { reason: "over" });
  asked.resolve([]);
  const result = await subscribing;
  assert.equal(result.errorCode, 1002, JSON.stringify(result));
  assert.match(result.msg, /group 10 is closed/);
  assert.deepEqual([scene.members(group), scene.members(groupTarget("11"))], [0, 0]);
  await scene.publish(1);
  assert.deepEqual(client.frames, []);
});

Deno.test("a member that is kicked out of a group while its presence is read for it stays out", async () => {
  using scene = new Scene();
  const asked = Promise.withResolvers<string[]>();
  await using presence = new Presence({
    ...{ usersOfGroup: () => asked.promise, periodMs: 60_000, log: logger("test") },
  });
  const client = new Client({ ...scene.context, presence });
  assert.ok((await client.ask("auth", { id: 7 })).success);
  await client.subscribe({ id: 10 }, { id: 11 });
  const subscribing = client.subscribe({ id: 10, presence: true }, { id: 11 });
  for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve, 0));
  client.session.kickFromGroup("10", { reason: "" });
  asked.resolve([]);
  const { positions } = (await subscribing).data as { positions: { id: number }[] };
  // It would be a member that is told of no presence.
  assert.deepEqual(positions.map(({ id }) => id), [11]);
  assert.deepEqual([scene.members(group), scene.members(groupTarget("11"))], [0, 1]);
});

Deno.test("lists of users are not read once the budget is spent, however many were asked for together", async () => {
  using scene = new Scene();
  let read = 0;
  const groupUsers = new GroupUsers({
    read: async () => {
      read++;
      return Array.from({ length: 1000 }, (_, i) => `${i + 1}`);
    },
    keepMs: 0,
  });
  const work = new Work({
    ...{ workPerSecond: 1, workAtOnce: 500, userFactor: 1, nodeWorkPerSecond: 1e9 },
    ...{ messagesPerSecond: 1000, groupsPerConnection: 10 },
  });
  const client = new Client({ ...scene.context, groupUsers, work });
  assert.ok((await client.ask("auth", { id: 7 })).success);
  const answers: Result[] = [];
  const asked = Array.from(
    { length: 200 },
    (_, i) => client.session.handle("online", i + 1, (result) => answers.push(result)),
  );
  await Promise.all(asked);
  const given = answers.filter(({ success }) => success).length;
  assert.ok(given > 0 && read < 30, `${given} answers of ${read} readings`);
  assert.equal(answers.length, 200);
});

Deno.test("a member whose asking again fails goes on from where it was, and misses nothing", async () => {
  using scene = new Scene();
  const client = await scene.client();
  await client.subscribe({ id: 10 });
  const last = await scene.publish(3);
  scene.held = [];
  const asked = client.subscribe({ id: 10, since: { ...last, seq: 1 } });
  await waitFor(() => scene.held?.length === 1);
  await scene.publish(3);
  assert.deepEqual(client.seqs, range(3));
  scene.held[0]?.fail();
  assert.equal((await asked).success, false);
  scene.held = undefined;
  await scene.publish(1);
  assert.deepEqual(client.seqs, range(7));
  assert.equal(scene.members(group), 1);
});

Deno.test("a first auth and a first subscribe whose recovery fails in the middle leave nothing behind", async () => {
  using scene = new Scene();
  const last = await scene.publish(500);
  const ofUser = await scene.publish(500, { target: user });
  const client = await scene.client();
  client.reads = false;
  const asked = client.subscribe({ id: 10, since: { ...last, seq: 0 } });
  await waitFor(() => client.frames.length > 0);
  scene.held = [];
  client.read();
  await waitFor(() => scene.held?.length === 1);
  assert.equal(scene.members(group), 1);
  scene.held[0]?.fail();
  assert.equal((await asked).success, false);
  assert.equal(scene.members(group), 0);
  assert.deepEqual(scene.changes(), ["group 10 left 7", "joined 7"]);
  client.close();

  scene.held = [];
  const other = new Client(scene.context);
  const authenticating = other.ask("auth", { id: 7, since: { ...ofUser, seq: 0 } });
  await waitFor(() => scene.held?.length === 1);
  assert.equal(scene.members(user), 1);
  scene.held[0]?.fail();
  assert.equal((await authenticating).success, false);
  assert.equal(other.session.userId, undefined);
  assert.equal(scene.members(user), 0);
  assert.deepEqual([...scene.hub.targets()], []);
});

Deno.test("`last` gives a new member the newest messages before it is live, as many as are kept", async () => {
  using scene = new Scene();
  await scene.publish(5);
  const client = await scene.client();
  for (const [last, expected] of [[2, range(5, 4)], [50, range(5)], [0, []]] as const) {
    const before = client.frames.length;
    const [position] = positionsOf(await client.subscribe({ id: 10, last }));
    assert.equal(position?.seq, 5);
    assert.equal(position?.recovered, false);
    assert.deepEqual(client.seqs.slice(before), expected);
    await client.ask("unsubscribe", { userId: 7, subscribeGroups: [{ id: 10 }] });
  }
  const result = await client.subscribe({ id: 10, last: -1 });
  assert.match(result.msg, /subscribeGroups\.0\.last: expected a number of messages/);
});

Deno.test("clients that come back with the same position at the same time cost one reading of history", async () => {
  using scene = new Scene();
  const last = await scene.publish(10);
  const clients = await Promise.all(range(50).map(() => scene.client()));
  const before = scene.readings;
  await Promise.all(
    clients.map((client) => client.subscribe({ id: 10, since: { ...last, seq: 0 } })),
  );
  assert.equal(scene.readings - before, 1);
  await scene.publish(1);
  for (const client of clients) assert.deepEqual(client.seqs, range(11));
});

Deno.test("a position that cannot be is not recovered from, and nothing is sent for it", async () => {
  using scene = new Scene();
  const { epoch } = await scene.publish(3);
  const client = await scene.client();
  for (const seq of [4, 10 ** 14, Number.MAX_SAFE_INTEGER]) {
    const [position] = positionsOf(await client.subscribe({ id: 10, since: { epoch, seq } }));
    assert.deepEqual({ recovered: position?.recovered, seq: position?.seq }, {
      recovered: false,
      seq: 3,
    });
  }
  assert.deepEqual(client.seqs, []);
});

Deno.test("of what waits for a recovery only so much is kept; the rest is refused with a time to wait", async () => {
  using scene = new Scene();
  const client = await scene.client();
  const last = await scene.publish(3);
  scene.held = [];
  const recovering = client.subscribe({ id: 10, since: { ...last, seq: 0 } });
  const waiting = [11, 12].map((id) => client.subscribe({ id, x: "x".repeat(60_000) }));
  const refused = await client.subscribe({ id: 13 });
  assert.equal(refused.errorCode, 1002);
  assert.deepEqual(refused.data, { retryAfterMs: 100 });
  await waitFor(() => scene.held?.length === 1);
  const [reading] = scene.held;
  scene.held = undefined;
  reading?.give();
  const results = await Promise.all([recovering, ...waiting]);
  assert.deepEqual(results.map(({ success }) => success), [true, true, true]);
  assert.equal((await client.subscribe({ id: 13 })).success, true);
});
