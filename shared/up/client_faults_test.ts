/** The client library while lines break, nodes end, tokens end and pages are reloaded. The code of the tests has no recovery in it. */
import assert from "node:assert/strict";
import type { Group, Gru, GruError, Message, Missed, State } from "@gru/client";
import { waitFor } from "@gru/shared/testing/harness";
import { ClientScene, jwt, online, retry, token1 } from "./client_scene.ts";

/** What an application sees of a group. */
class Witness {
  readonly contents: string[] = [];
  readonly missed: Missed[] = [];
  readonly states: State[] = [];
  readonly group: Group;
  readonly #seqs: number[] = [];

  constructor(gru: Gru, group: number) {
    gru.on("state", (state) => this.states.push(state));
    this.group = gru.group(group);
    this.group.on("missed", (missed) => this.missed.push(missed));
    this.group.on("message", ({ content, seq }) => {
      this.contents.push(content);
      this.#seqs.push(seq);
    });
  }

  /** Everything from 1 to `count` came once and in order, and nothing is missing. */
  check(count: number): void {
    assert.deepEqual(this.missed, []);
    assert.deepEqual(this.#seqs, Array.from({ length: count }, (_, i) => i + 1));
  }
}

/** Some clients that talk all the time, until `stop`. */
class Talk {
  readonly clients: readonly Gru[];
  readonly witnesses: readonly Witness[];
  readonly #sent: Promise<unknown>[] = [];
  readonly #timer: ReturnType<typeof setInterval>;

  private constructor(clients: readonly Gru[], witnesses: readonly Witness[]) {
    this.clients = clients;
    this.witnesses = witnesses;
    let n = 0;
    this.#timer = setInterval(() => {
      const from = n++ % witnesses.length;
      const sent = witnesses[from]?.group.send(`${n}`);
      sent?.catch(() => {});
      this.#sent.push(sent as Promise<unknown>);
    }, 5);
  }

  static async start(clients: readonly Gru[]): Promise<Talk> {
    const witnesses = clients.map((gru) => new Witness(gru, 10));
    await online(...clients);
    return new Talk(clients, witnesses);
  }

  /** Resolves when so many more were accepted. */
  async more(count: number): Promise<void> {
    const { contents } = this.witnesses[0] as Witness;
    const goal = contents.length + count;
    await waitFor(() => contents.length >= goal, { what: `${count} more messages` });
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    const count = (await Promise.all(this.#sent)).length;
    await waitFor(() => this.witnesses.every(({ contents }) => contents.length >= count), {
      what: "everything that was accepted has come",
    });
    for (const witness of this.witnesses) witness.check(count);
  }
}

function clientsOf(scene: ClientScene, count = 4): Gru[] {
  return Array.from(
    { length: count },
    (_, i) => scene.connect(i + 1, { answerMs: 1000, connectMs: 1000 }),
  );
}

Deno.test("connections that break lose and double nothing", async () => {
  await using scene = await ClientScene.start();
  const talk = await Talk.start(clientsOf(scene));
  for (let n = 0; n < 5; n++) {
    await talk.more(30);
    for (const { line } of scene.nodes.values()) line.cut();
  }
  await talk.more(30);
  await talk.stop();
});

Deno.test("clients of a node that cannot be reached any more go on at another one", async () => {
  await using scene = await ClientScene.start();
  const talk = await Talk.start(clientsOf(scene));
  await talk.more(30);
  const [, spear2] = [...scene.nodes.values()];
  spear2?.line.refuse();
  await waitFor(() =>
    talk.clients.every(({ state }) => state.name === "online" && state.node === "spear1")
  );
  await talk.more(30);
  await talk.stop();
});

Deno.test("a node that takes everything and answers nothing is left", async () => {
  await using scene = await ClientScene.start();
  const talk = await Talk.start(clientsOf(scene));
  await talk.more(30);
  const [spear1] = [...scene.nodes.values()];
  spear1?.line.swallow();
  await waitFor(() =>
    talk.clients.every(({ state }) => state.name === "online" && state.node === "spear2")
  );
  await talk.more(30);
  await talk.stop();
});

Deno.test("clients of a node that is emptied move while they talk: none is offline for a moment", async () => {
  await using scene = await ClientScene.start({ spearFlags: { drainMs: 2000 } });
  const talk = await Talk.start(clientsOf(scene));
  await talk.more(30);
  const leaving = scene.nodeOf(talk.clients[0] as Gru);
  const before = talk.witnesses.map(({ states }) => states.length);
  const stopping = leaving.spear[Symbol.asyncDispose]();
  await waitFor(() => talk.clients.every((gru) => scene.nodeOf(gru) !== leaving));
  await talk.more(30);
  await stopping;
  await talk.stop();
  for (const [i, { states }] of talk.witnesses.entries()) {
    assert.deepEqual(states.slice(before[i]).filter(({ name }) => name !== "online"), []);
  }
});

Deno.test("a move that fails is tried again while the client stays where it is", async () => {
  await using scene = await ClientScene.start({ spears: 3, spearFlags: { drainMs: 10_000 } });
  const talk = await Talk.start(clientsOf(scene, 1));
  const [ann] = talk.clients as [Gru];
  const leaving = scene.nodeOf(ann);
  const others = [...scene.nodes.values()].filter((node) => node !== leaving);
  const { answerBytes } = scene.ticketLine;
  for (const { line } of others) line.refuse();
  const stopping = leaving.spear[Symbol.asyncDispose]();
  await waitFor(() => scene.ticketLine.answerBytes > answerBytes, { what: "a second attempt" });
  for (const { line } of others) line.pass();
  await stopping;
  assert.notEqual(scene.nodeOf(ann), leaving);
  await talk.stop();
  const names = talk.witnesses[0]?.states.map(({ name }) => name);
  assert.deepEqual(names, ["connecting", "online", "online"]);
});

Deno.test("a client that did not read is given from history what was not sent to it", async () => {
  await using scene = await ClientScene.start({
    spearFlags: { slowConsumer: "skip", "limits.waitingBytes": 200_000 },
  });
  const ann = scene.connect(1);
  const witness = new Witness(ann, 10);
  await online(ann);
  const { line } = scene.nodeOf(ann);
  const bob = await bobElsewhere(scene, line);
  line.freeze();
  const count = 600;
  for (let n = 0; n < count; n++) await bob.group(10).send(`${n} ${"x".repeat(20_000)}`);
  line.pass();
  await waitFor(() => witness.contents.length === count, { what: "all messages" });
  witness.check(count);
  assert.deepEqual(witness.states.map(({ name }) => name), ["connecting", "online"]);
});

async function bobElsewhere(scene: ClientScene, line: unknown): Promise<Gru> {
  for (let id = 2;; id++) {
    const bob = scene.connect(id);
    await online(bob);
    if (scene.nodeOf(bob).line !== line) return bob;
    await bob.close();
  }
}

Deno.test("what history does not have any more is told as missed", async () => {
  await using scene = await ClientScene.start();
  const bob = scene.connect(2);
  const { epoch } = await bob.group(10).send("1");
  const count = 1200;
  for (let n = 2; n <= count; n++) await bob.group(10).send(`${n}`);
  const came: number[] = [];
  const missed: Missed[] = [];
  const group = scene.connect(1).group(10, { since: { epoch, seq: 1 } });
  group.on("missed", (one) => missed.push(one));
  group.on("message", ({ seq }) => came.push(seq));
  await waitFor(() => came.at(-1) === count);
  assert.deepEqual(missed, [{ epoch, from: 2, to: count - 1000 }]);
  assert.deepEqual(came, Array.from({ length: 1000 }, (_, i) => count - 999 + i));
});

Deno.test("with tokens that are good once, a lost connection is replaced without ticket, and the token is asked for once", async () => {
  await using scene = await ClientScene.start({ spearFlags: jwt, ticketFlags: jwt });
  let asked = 0;
  const ann = scene.connect(1, { token: () => (asked++, token1(1)) });
  const witness = new Witness(ann, 10);
  await online(ann);
  scene.ticketLine.refuse();
  for (let n = 1; n <= 3; n++) {
    // It may be back before anybody looks.
    const before = witness.states.length;
    scene.nodeOf(ann).line.cut();
    await waitFor(() => witness.states.length > before && ann.state.name === "online");
    await ann.group(10).send(`${n}`);
  }
  assert.equal(asked, 1);
  await waitFor(() => witness.contents.length === 3);
  witness.check(3);
});

Deno.test("before the rights end they are renewed on the same connection", async () => {
  const flags = { ...jwt, "auth.rightsMs": 2000 };
  await using scene = await ClientScene.start({
    spearFlags: { ...jwt, "auth.refreshMs": 1500 },
    ticketFlags: flags,
  });
  let asked = 0;
  const ann = scene.connect(1, { token: () => (asked++, token1(1)) });
  const witness = new Witness(ann, 10);
  await online(ann);
  await waitFor(() => asked >= 4, { what: "three renewals" });
  await ann.group(10).send("still here");
  await waitFor(() => witness.contents.length === 1);
  assert.deepEqual(witness.states.map(({ name }) => name), ["connecting", "online"]);
});

Deno.test("a token that is refused ends the client, after other ones were asked for in vain", async () => {
  await using scene = await ClientScene.start({ spearFlags: jwt, ticketFlags: jwt });
  const fixed = scene.connect(1, { token: "nonsense" });
  await waitFor(() => fixed.state.name === "closed");
  const { why } = fixed.state as { why: GruError };
  assert.deepEqual([why.code, why.retryable], ["unauthorized", false]);
  assert.match(why.message, /^ticket: token1 is not valid/);

  let asked = 0;
  const late = scene.connect(2, { token: () => ++asked < 3 ? "nonsense" : token1(2) });
  await online(late);
  assert.equal(asked, 3);
  const never = scene.connect(3, { token: () => (asked++, "nonsense") });
  await waitFor(() => never.state.name === "closed");
  assert.equal(asked, 6);
});

Deno.test("a group that one may not listen to is closed with the reason, and the others are joined", async () => {
  await using scene = await ClientScene.start({ spearFlags: jwt, ticketFlags: jwt });
  const { SignJWT } = await import("jose");
  const token = await new SignJWT({ sub: "1", groups: [[1, 50]] })
    .setProtectedHeader({ alg: "HS256" }).setExpirationTime("1m")
    .sign(new TextEncoder().encode("business-secret-of-32-characters!"));
  const ann = scene.connect(1, { token });
  const closed: string[] = [];
  const witnesses = Array.from({ length: 50 }, (_, i) => new Witness(ann, i + 1));
  for (const id of [51, 70]) {
    ann.group(id).on("closed", ({ code, message }) => closed.push(`${code} ${message}`));
  }
  await online(ann);
  await ann.group(50).send("hello");
  await waitFor(() => witnesses[49]?.contents.length === 1 && closed.length === 2);
  assert.deepEqual(
    closed,
    [51, 70].map((id) => `refused subscribe: no right to listen to group ${id}`),
  );
  await assert.rejects(ann.group(51).send("x"), { code: "refused", retryable: false });
});

Deno.test("a message that is too large is refused, and those behind it are sent", async () => {
  await using scene = await ClientScene.start();
  const ann = scene.connect(1);
  const big = ann.group(10).send("文".repeat(40_000));
  const next = ann.group(10).send("small");
  await assert.rejects(big, { code: "refused", message: /at most \d+ bytes, got 120/ });
  assert.equal((await next).seq, 1);
});

Deno.test("a sending that is aborted before it left is never sent", async () => {
  await using scene = await ClientScene.start();
  scene.ticketLine.refuse();
  const ann = scene.connect(1);
  const witness = new Witness(ann, 10);
  const abort = new AbortController();
  const first = ann.group(10).send("first", { signal: abort.signal });
  const second = ann.group(10).send("second");
  abort.abort(new Error("changed my mind"));
  await assert.rejects(first, /changed my mind/);
  scene.ticketLine.pass();
  await second;
  await waitFor(() => witness.contents.length === 1);
  assert.deepEqual(witness.contents, ["second"]);
});

Deno.test("an outbox takes only so much, and says so", async () => {
  await using scene = await ClientScene.start();
  scene.ticketLine.refuse();
  const ann = scene.connect(1, { outbox: { messages: 2, characters: 10 } });
  const sent = [ann.group(10).send("12345"), ann.group(11).send("12345")];
  await assert.rejects(ann.group(12).send(""), { code: "outbox-full", retryable: true });
  scene.ticketLine.pass();
  await Promise.all(sent);
  await assert.rejects(ann.group(10).send("12345678901"), { code: "outbox-full" });
});

Deno.test("a page that is reloaded loses and doubles nothing: neither what came meanwhile nor what it had sent", async () => {
  await using scene = await ClientScene.start({ spearFlags: jwt, ticketFlags: jwt });
  const kept = new Map<string, string>();
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  };
  const before = scene.connect(1, { storage, token: await token1(1) });
  const bob = scene.connect(2, { token: await token1(2) });
  const first = new Witness(before, 10);
  const own: string[] = [];
  before.user(1).on("message", ({ content }: Message) => own.push(content));
  await online(before, bob);
  await bob.group(10).send("1");
  await bob.user(1).send("p1");
  await waitFor(() => first.contents.length === 1 && own.length === 1);
  for (const { line } of scene.nodes.values()) line.freeze();
  void before.group(10).send("sent by the page before").catch(() => {});
  await waitFor(() => [...kept.values()].join().includes("sent by the page before"));
  const left = new Map(kept);
  // The page is gone, and did not close anything.
  for (const { line } of scene.nodes.values()) line.pass();
  await waitFor(() => first.contents.length === 2);
  await bob.group(10).send("3");
  await bob.user(1).send("p2");
  await before.close({ waitMs: 0 });
  for (const [key, value] of left) kept.set(key, value);

  let asked = 0;
  const after = scene.connect(1, { storage, token: () => (asked++, token1(1)) });
  const second = new Witness(after, 10);
  const ownLater: string[] = [];
  after.user(1).on("message", ({ content }: Message) => ownLater.push(content));
  await waitFor(() => second.contents.length === 2 && ownLater.length === 1);
  await after.group(10).send("4");
  await waitFor(() => second.contents.length === 3);
  assert.deepEqual(second.contents, ["sent by the page before", "3", "4"]);
  assert.deepEqual(ownLater, ["p2"]);
  assert.equal(asked, 0);
});

Deno.test("an iteration that reads too slowly ends with an error, and holds no more than it may", async () => {
  await using scene = await ClientScene.start();
  const ann = scene.connect(1, { backlog: 5, retry });
  const reading = ann.group(10)[Symbol.asyncIterator]();
  await online(ann);
  for (let n = 0; n < 7; n++) await ann.group(10).send(`${n}`);
  const read: string[] = [];
  await assert.rejects(async () => {
    for (let result; !(result = await reading.next()).done;) read.push(result.value.content);
  }, { code: "overflow" });
  assert.deepEqual(read, ["0", "1", "2", "3", "4"]);
});
