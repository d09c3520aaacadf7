import assert from "node:assert/strict";
import { Asker, type AskerOptions, AskError } from "./ask.ts";
import { Breaker } from "./breaker.ts";
import { type AccessAnswer, accessAnswer } from "./decisions.ts";
import { pooledPost } from "./post.ts";
import { postByFetch } from "./post_fetch.ts";
import { PostError } from "./posting.ts";

const secrets = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const question = { decision: "subscribe", userId: "1", groupId: "10" } as const;
const allowed = { status: 200, body: '{"action":"allow"}', retryAfterMs: undefined };

function asker(options: Partial<AskerOptions<AccessAnswer>> = {}) {
  return new Asker<AccessAnswer>({
    url: "http://127.0.0.1:1/",
    secrets,
    answer: accessAnswer,
    post: async () => allowed,
    allowPrivate: true,
    onFailure: "refuse",
    ...options,
  });
}

Deno.test("an answer holds for its ttl, for the same question only", async () => {
  let [now, asked] = [0, 0];
  const one = asker({
    nowMs: () => now,
    post: async () => {
      asked++;
      return { ...allowed, body: '{"action":"allow","ttl":2}' };
    },
  });
  for (const key of ["a", "a", "b"]) await one.ask(question, key);
  assert.equal(asked, 2);
  now = 1999;
  await one.ask(question, "a");
  assert.equal(asked, 2);
  now = 2000;
  await one.ask(question, "a");
  assert.equal(asked, 3);
  await one.ask(question);
  assert.equal(asked, 4);
});

Deno.test("the same question asked at the same time is asked once; no more answers are kept than allowed", async () => {
  let asked = 0;
  const one = asker({
    cacheSize: 2,
    post: async () => {
      asked++;
      return { ...allowed, body: '{"action":"allow","ttl":60}' };
    },
  });
  await Promise.all([1, 2, 3].map(() => one.ask(question, "a")));
  assert.equal(asked, 1);
  for (const key of ["b", "c", "c", "b", "a"]) await one.ask(question, key);
  assert.equal(asked, 4);
});

Deno.test("questions beyond the limit fail at once, as onFailure says, and are counted", async () => {
  for (const onFailure of ["refuse", "allow"] as const) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const outcomes: string[] = [];
    const one = asker({
      onFailure,
      underWay: 2,
      onOutcome: (outcome) => outcomes.push(outcome),
      post: async () => {
        await promise;
        return allowed;
      },
    });
    const first = [one.ask(question), one.ask(question)];
    const third = one.ask(question);
    if (onFailure === "allow") assert.equal(await third, undefined);
    else await assert.rejects(third, AskError);
    assert.deepEqual(outcomes, ["busy"]);
    resolve();
    assert.deepEqual((await Promise.all(first)).map((answer) => answer?.action), [
      "allow",
      "allow",
    ]);
    assert.equal(one.underWay, 0);
  }
});

Deno.test("a bad answer is a failure that names the field", async (t) => {
  for (
    const [answer, why] of [
      ["", /answer: expected JSON/],
      ["[]", /^answer: /],
      ["{}", /answer\.action/],
      ['{"action":"maybe"}', /answer\.action/],
      ['{"action":"refuse"}', /answer\.reason/],
      ['{"action":"refuse","reason":""}', /answer\.reason/],
      ['{"action":"allow","ttl":-1}', /answer\.ttl/],
      ['{"action":"allow","ttl":"60"}', /answer\.ttl/],
    ] as const
  ) {
    await t.step(answer, async () => {
      const one = asker({ post: async () => ({ ...allowed, body: answer }) });
      await assert.rejects(one.ask(question), (error) => {
        assert(error instanceof AskError);
        assert.match(error.message, why);
        return true;
      });
    });
  }
  for (const status of [204, 302, 404, 500]) {
    const one = asker({ post: async () => ({ ...allowed, status }) });
    await assert.rejects(one.ask(question), new RegExp(`got ${status}`));
  }
});

Deno.test("a receiver that fails is left alone for a time, then tried with one question", async () => {
  let [now, asked, works] = [0, 0, false];
  const [outcomes, troubles]: [string[], unknown[]] = [[], []];
  const one = asker({
    nowMs: () => now,
    onFailure: "allow",
    onOutcome: (outcome) => outcomes.push(outcome),
    onTrouble: (error) => troubles.push(error?.message),
    post: async () => {
      asked++;
      if (!works) throw new PostError("network", "refused");
      return allowed;
    },
  });
  for (let i = 0; i < 8; i++) await one.ask(question);
  assert.equal(asked, 5);
  assert.deepEqual(outcomes.slice(4), ["failed", "resting", "resting", "resting"]);
  now = 500;
  await Promise.all([one.ask(question), one.ask(question)]);
  assert.equal(asked, 6);
  now = 1499; // It rests twice as long after each failure.
  await one.ask(question);
  assert.equal(asked, 6);
  [now, works] = [1500, true];
  await one.ask(question);
  assert.equal((await one.ask(question))?.action, "allow");
  assert.equal(asked, 8);
  assert.deepEqual(troubles, ["refused", undefined]);
});

Deno.test("a breaker rests five seconds at most", () => {
  let now = 0;
  const breaker = new Breaker(() => now);
  for (let i = 0; i < 5; i++) breaker.failed();
  for (let i = 0; i < 10; i++) {
    assert(!breaker.admits());
    now += 5000;
    assert(breaker.admits());
    breaker.failed();
  }
});

Deno.test("both senders keep the deadline, and a stop ends what is under way", async (t) => {
  const { promise: over, resolve: finish } = Promise.withResolvers<void>();
  await using stack = new AsyncDisposableStack();
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, async (request) => {
    await request.text();
    if (new URL(request.url).pathname === "/silent") await over;
    return Response.json({ action: "allow" });
  });
  stack.defer(() => server.shutdown());
  const pooled = stack.use(pooledPost({ connections: 10 }));
  stack.defer(() => finish());
  const url = `http://127.0.0.1:${server.addr.port}/`;
  for (const [name, post] of [["pooled", pooled.post], ["fetch", postByFetch]] as const) {
    await t.step(name, async () => {
      const good = asker({ url, post, deadlineMs: 10_000 });
      for (let i = 0; i < 5; i++) assert.equal((await good.ask(question))?.action, "allow");
      const silent = { url: `${url}silent`, post };
      await assert.rejects(asker({ ...silent, deadlineMs: 100 }).ask(question), /100 ms/);
      const stopping = new AbortController();
      const stopped = asker({ ...silent, deadlineMs: 60_000, signal: stopping.signal }).ask(
        question,
      );
      stopping.abort();
      await assert.rejects(stopped, /given up/);
      await assert.rejects(asker({ url, post, allowPrivate: false }).ask(question), /not a public/);
    });
  }
});

Deno.test("a pooled connection that the receiver has closed is replaced", async () => {
  await using pooled = pooledPost({ connections: 1 });
  const listen = (port: number) =>
    Deno.serve(
      { port, hostname: "127.0.0.1", onListen() {} },
      () => Response.json({ action: "allow" }),
    );
  const first = listen(0);
  const { port } = first.addr;
  const one = asker({ url: `http://127.0.0.1:${port}/`, post: pooled.post, deadlineMs: 10_000 });
  await one.ask(question);
  await first.shutdown();
  const second = listen(port);
  assert.equal((await one.ask(question))?.action, "allow");
  await second.shutdown();
});
