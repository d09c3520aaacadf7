/** A spear that asks a business system, which is the reference receiver on a port of its own. */
import assert from "node:assert/strict";
import { loadConfig } from "@gru/shared/config";
import { waitFor } from "@gru/shared/testing/harness";
import { type Deciders, receiver } from "@gru/shared/webhooks/receiver";
import { spearSchema } from "./config.ts";
import { startSpear } from "./spear.ts";
import { authenticated, modern, old } from "./spear_testing.ts";
import type { Json, TestClient } from "./test_client.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/** The dev profile with these decisions, as a file would have them. */
function load(decisions: object, environment: Record<string, string> = {
  GRU_DECISIONS_SECRET: secrets,
}) {
  const file = Deno.makeTempFileSync({ suffix: ".json" });
  try {
    Deno.writeTextFileSync(
      file,
      JSON.stringify({ mode: "single", port: 0, drainMs: 0, auth: { scheme: "open" }, decisions }),
    );
    return loadConfig({
      program: "spear",
      schema: spearSchema,
      profiles: new URL("./profiles/", import.meta.url),
      args: ["--profile", file],
      environment: (name) => environment[name],
    });
  } finally {
    Deno.removeSync(file);
  }
}

type Rules = (url: string) => object;

/** A spear, and the business system that it asks. */
async function scene(decide: Deciders, rules: Rules) {
  const stack = new AsyncDisposableStack();
  const server = Deno.serve(
    { port: 0, hostname: "127.0.0.1", onListen() {} },
    receiver({ secrets, decide }).fetch,
  );
  const business = { stop: () => server.shutdown() };
  stack.defer(() => business.stop());
  const config = load(rules(`http://127.0.0.1:${server.addr.port}/decisions`));
  const spear = stack.use(await startSpear(config));
  return {
    ...spear,
    business,
    metric: async (pattern: RegExp) =>
      Number(pattern.exec(await (await fetch(`${spear.monitorAddress}/metrics`)).text())?.[1] ?? 0),
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

async function member(address: string, id: number, group: string, dialect = modern) {
  const client = await authenticated(address, id, dialect);
  await join(client, id, group);
  return client;
}

async function join(client: TestClient, userId: number, group: string): Promise<void> {
  const result = await subscribe(client, userId, group);
  assert.equal(result.success, true, JSON.stringify(result));
}

function subscribe(client: TestClient, userId: number, ...groups: string[]): Promise<Json> {
  return client.request("subscribe", { userId, subscribeGroups: groups.map((id) => ({ id })) });
}

function say(client: TestClient, group: string, content: string): Promise<Json> {
  return client.request("msg", { type: 1, target: { id: group }, content });
}

const rule = (url: string, more: object = {}) => ({
  match: "room:*",
  url,
  allowPrivate: true,
  ...more,
});

Deno.test("before a message is sent, the business system allows, refuses, replaces or hides it", async () => {
  const asked: unknown[] = [];
  await using spear = await scene({
    beforeSend: (question) => {
      asked.push(question);
      if (question.content === "spam") return { action: "refuse", reason: "no advertising" };
      if (question.content === "damn") return { action: "replace", content: "****" };
      if (question.content === "troll") return { action: "hide" };
      return { action: "allow" };
    },
  }, (url) => ({ beforeSend: [rule(url)] }));
  await using ann = await member(spear.address, 1, "room:1");
  await using annAtHome = await member(spear.address, 1, "room:1", old);
  await using bob = await member(spear.address, 2, "room:1");

  const refused = await say(ann, "room:1", "spam");
  assert.deepEqual([refused.success, refused.errorCode, refused.msg], [
    false,
    1002,
    "msg: no advertising",
  ]);
  const first = await say(ann, "room:1", "damn");
  const hidden = await say(ann, "room:1", "troll");
  assert.equal(hidden.success, true);
  assert.deepEqual(Object.keys(hidden.data).sort(), Object.keys(first.data).sort());
  assert.equal(hidden.data.epoch, first.data.epoch);
  const last = await say(ann, "room:1", "bye");
  assert.equal(last.data.seq, first.data.seq + 1);

  const heard = async (client: TestClient, count: number) => {
    const messages = [];
    for (let i = 0; i < count; i++) messages.push((await client.next("msg")).content);
    assert.deepEqual(client.pending("msg"), []);
    return messages;
  };
  assert.deepEqual(await heard(bob, 2), ["****", "bye"]);
  assert.deepEqual(await heard(ann, 3), ["****", "troll", "bye"]);
  assert.deepEqual(await heard(annAtHome, 3), ["****", "troll", "bye"]);
  assert.deepEqual(asked[0], {
    decision: "beforeSend",
    userId: "1",
    groupId: "room:1",
    content: "spam",
  });

  asked.length = 0;
  assert.equal((await say(ann, "elsewhere", "spam")).success, true);
  const toUser = { type: 0, target: { id: 2 }, content: "spam" };
  assert.equal((await ann.request("msg", toUser)).success, true);
  assert.deepEqual(asked, [], "nobody asks about what no rule names");
});

Deno.test("messages to users are asked about where a rule says so", async () => {
  await using spear = await scene({
    beforeSend: ({ toUserId }) => ({ action: "refuse", reason: `not to ${toUserId}` }),
  }, (url) => ({ beforeSend: [rule(url, { toUsers: true })] }));
  await using ann = await authenticated(spear.address);
  const { msg } = await ann.request("msg", { type: 0, target: { id: 2 }, content: "x" });
  assert.equal(msg, "msg: not to 2");
});

Deno.test("a sender's messages keep their order, and a slow answer for one target holds up no other", async () => {
  const slow = Promise.withResolvers<void>();
  await using spear = await scene({
    beforeSend: async ({ content }) => {
      if (content === "slow") await slow.promise;
      return { action: "allow" };
    },
  }, (url) => ({ beforeSend: [rule(url, { deadlineMs: 30_000 })] }));
  await using ann = await member(spear.address, 1, "room:1");
  await join(ann, 1, "room:2");
  const sent = ["slow", "a", "b"].map((content) => say(ann, "room:1", content));
  const other = await say(ann, "room:2", "other");
  assert.equal(other.success, true);
  assert.equal((await ann.next("msg")).content, "other");
  // An unsubscribe behind them waits for them, so that what was sent before it still comes.
  const left = ann.request("unsubscribe", { userId: 1, subscribeGroups: [{ id: "room:1" }] });
  slow.resolve();
  const seqs = (await Promise.all(sent)).map(({ data }) => data.seq);
  assert.deepEqual(seqs, [seqs[0], seqs[0] + 1, seqs[0] + 2]);
  assert.equal((await left).success, true);
  const contents = [];
  for (let i = 0; i < 3; i++) contents.push((await ann.next("msg")).content);
  assert.deepEqual(contents, ["slow", "a", "b"]);
});

Deno.test("a message whose sender is gone before it is decided is not sent", async () => {
  const [asked, decided] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  await using spear = await scene({
    beforeSend: async () => {
      asked.resolve();
      await decided.promise;
      return { action: "allow" };
    },
  }, (url) => ({ beforeSend: [rule(url, { match: "room:1", deadlineMs: 30_000 })] }));
  await using bob = await member(spear.address, 2, "room:1");
  const ann = await member(spear.address, 1, "room:1");
  ann.send("msg", { type: 1, target: { id: "room:1" }, content: "late" }, () => {});
  await asked.promise;
  await ann[Symbol.asyncDispose]();
  await waitFor(async () => await spear.metric(/gru_spear_connections\{.*\} (\d+)/) === 1, {
    what: "the connection has ended",
  });
  decided.resolve();
  await waitFor(async () => await spear.metric(/gru_decisions_total\{.*allow.*\} (\d+)/) === 1, {
    what: "the decision has come",
  });
  await bob.request("online", "room:1");
  assert.deepEqual(bob.pending("msg"), []);
});

Deno.test("who joins a group and who lists its users is decided, for as long as the ttl says", async () => {
  let [asked, open] = [0, true];
  const answer = () => {
    asked++;
    return open
      ? { action: "allow", ttl: 60 } as const
      : { action: "refuse", reason: "members only" } as const;
  };
  await using spear = await scene(
    { subscribe: answer, online: answer },
    (url) => ({ subscribe: [rule(url)], online: [rule(url)] }),
  );
  await using ann = await member(spear.address, 1, "room:1");
  assert.deepEqual((await ann.request("online", "room:1")).data, { userIds: [1] });
  assert.equal(asked, 2);
  open = false;
  await join(ann, 1, "room:1");
  await join(ann, 1, "free");
  assert.equal((await ann.request("online", "room:1")).success, true);
  assert.equal((await ann.request("online", "free")).success, true);
  assert.equal(asked, 2);
  await using bob = await authenticated(spear.address, 2);
  const refused = await subscribe(bob, 2, "free", "room:1");
  assert.deepEqual([refused.errorCode, refused.msg], [
    1002,
    "subscribe: group room:1: members only",
  ]);
  assert.equal((await bob.request("online", "room:1")).msg, "online: group room:1: members only");
  assert.equal(await spear.metric(/gru_decisions_cached_total\{decision="subscribe".*\} (\d+)/), 1);
});

Deno.test("without the business system events are refused or allowed as the rule says, and nothing hangs", async () => {
  await using spear = await scene({}, (url) => ({
    subscribe: [rule(url, { match: "room:2" })],
    beforeSend: [
      rule(url, { match: "room:1" }),
      rule(url, { match: "room:2", onFailure: "allow" }),
    ],
  }));
  await using ann = await member(spear.address, 1, "room:1");
  await spear.business.stop();
  spear.business.stop = async () => {};
  const results = await Promise.all(
    Array.from({ length: 50 }, (_, i) => say(ann, "room:1", `${i}`)),
  );
  for (const { errorCode, msg } of results) {
    assert.equal(errorCode, 1001);
    assert.equal(msg, "msg: not accepted: the business system does not decide now");
  }
  assert.equal((await subscribe(ann, 1, "room:2")).errorCode, 1001);
  for (let i = 0; i < 50; i++) assert.equal((await say(ann, "room:2", `${i}`)).success, true);
  assert.equal((await say(ann, "free", "x")).success, true);
  const failed = await spear.metric(
    /gru_decisions_total\{decision="beforeSend",answer="failed".*\} (\d+)/,
  );
  assert.ok(failed >= 10, `${failed} failures are counted`);
});

Deno.test("answers that are none count as failures", async () => {
  const { promise: over, resolve: finish } = Promise.withResolvers<void>();
  await using spear = await scene({
    beforeSend: async ({ content }) => {
      if (content === "silent") await over;
      if (content === "long") return { action: "replace", content: "x".repeat(100_001) };
      if (content === "odd") return { action: "maybe" } as never;
      throw new Error("out of order");
    },
  }, (url) => ({ beforeSend: [rule(url, { deadlineMs: 300 })] }));
  await using ann = await member(spear.address, 1, "room:1");
  for (const content of ["silent", "long", "odd"]) {
    assert.equal((await say(ann, "room:1", content)).errorCode, 1001, content);
  }
  finish();
});

Deno.test("a bad decision in a profile is named", async (t) => {
  const url = "https://example.com/decisions";
  const good = { match: "*", url };
  load({ beforeSend: [good], subscribe: [{ match: [1, 9], url }], online: [{ match: 10, url }] });
  for (
    const [decisions, message, environment] of [
      [{ beforeSend: [{ url }] }, /decisions\.beforeSend\.0\.match: missing/],
      [{ beforeSend: [{ match: "*" }] }, /decisions\.beforeSend\.0\.url: missing/],
      [{ online: [{ match: "a*b", url }] }, /decisions\.online\.0\.match: is "a\*b"; .*prefix/],
      [{ online: [good, { match: 1.5, url }] }, /decisions\.online\.1\.match: is 1\.5/],
      [{ subscribe: [{ ...good, url: "ftp://x" }] }, /subscribe\.0\.url: is "ftp.*expected http/],
      [
        { subscribe: [{ ...good, url: "http://169.254.169.254/" }] },
        /subscribe\.0\.url: .*169\.254\.169\.254 is not a public address/,
      ],
      [{ subscribe: [{ ...good, url: "http://a:b@x/" }] }, /subscribe\.0\.url: .*no user and pass/],
      [{ subscribe: [{ ...good, deadlineMs: 0 }] }, /subscribe\.0\.deadlineMs: is 0/],
      [{ subscribe: [{ ...good, onFailure: "ask" }] }, /subscribe\.0\.onFailure: is "ask"/],
      [{ subscribe: [{ ...good, toUsers: true }] }, /subscribe\.0\.toUsers: unknown key/],
      [{ subscribe: [{ ...good, onfailure: "allow" }] }, /onfailure: unknown key; did you mean/],
      [{ subscribe: good }, /decisions\.subscribe: is \{/],
      [{ beforesend: [good] }, /decisions\.beforesend: unknown key; did you mean/],
      [{ secret: secrets }, /decisions\.secret: a secret does not belong in a file/],
      [{ subscribe: [good] }, /decisions\.secret: .*GRU_DECISIONS_SECRET/, {}],
      [{}, /decisions\.secret: secret 1: expected whsec_/, { GRU_DECISIONS_SECRET: "abc" }],
    ] as const
  ) {
    await t.step(String(message), () => {
      assert.throws(() => load(decisions, environment), message);
    });
  }
});
