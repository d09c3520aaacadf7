/**
 * A day's incidents, played on real programs in less than a minute; then what an operator sees must tell what happened, when, and
 * who did it. `GRU_INCIDENTS=<ms>` plays it with so many milliseconds between the incidents, and prints the story.
 */
import assert from "node:assert/strict";
import { pause } from "@gru/shared/pause";
import { freePort, type ServerTest, serverTest, waitFor } from "@gru/shared/testing/harness";
import { FaultyProxy } from "@gru/shared/testing/proxy";
import { newUser } from "../../minions/users.ts";
import type { Json } from "../../spear/test_client.ts";
import { authenticated } from "../../spear/spear_testing.ts";
import { type Told, Watch } from "./incidents_watch.ts";
import { TestCluster } from "./processes.ts";
import { assertSuccess } from "./scenario.ts";

const given = Deno.env.get("GRU_INCIDENTS");
const betweenMs = Number(given ?? 0);
const key = { GRU_STAT_API_KEY: "the right key" };

/** What must tell of each incident: who, what, and within the time of the incident, when. */
const expected: Readonly<Record<string, readonly (readonly [Told["from"], RegExp])[]>> = {
  guesses: [
    ["audit", /^unknown \(127\.0\.0\.1\) wrong key \{"count":5\}/],
    ["audit", /^ann \(127\.0\.0\.1\) wrong password \{"count":3\}/],
    ["log", /a wrong API key from "127\.0\.0\.1"/],
    ["metrics", /^minions1 gru_minions_sign_ins_total\{result="wrong"\} \+3$/],
  ],
  hammer: [
    ["metrics", /^spear1 gru_spear_messages_total\{result="refused"\} \+\d{3,}$/],
    ["metrics", /^spear1 gru_spear_disconnects_total\{reason="overBudget"\} \+1$/],
    ["log", /events of clients were refused in 10 s.*user 66/],
  ],
  slow: [
    ["metrics", /^spear1 gru_spear_disconnects_total\{reason="slowConsumer"\} \+1$/],
    ["console", /^spear1: 1 slow clients cut off$/],
  ],
  kick: [
    ["audit", /^ann .*POST \/users\/:userId\/kick 9 .*spam.* → ok$/],
    ["audit", /^bob .*DELETE \/bans\/:kind\/:id user 9 → ok$/],
    ["metrics", /^spear1 gru_spear_disconnects_total\{reason="banned"\} \+1$/],
  ],
  freeze: [
    ["metrics", /^spear2 answers: 1 → 0$/],
    ["audit", /died spear2/],
    ["log", /spear2.* has died, or is cut off/],
    ["audit", /joined spear2/],
  ],
  kill: [["metrics", /^spear2 answers: 1 → 0$/], ["audit", /died spear2/], [
    "audit",
    /joined spear2/,
  ]],
  redis: [
    ["metrics", /^stat1 gru_stat_store_connected: 1 → 0$/],
    ["metrics", /^spear1 gru_spear_broker_connected: 1 → 0$/],
    ["console", /redis is away/],
    ["console", /redis.* is back/],
  ],
};
/** Milliseconds: a line for many refusals comes after ten seconds, a note of guesses after a minute. */
const lateMs = { metrics: 5000, console: 10_000, audit: 70_000, log: 15_000 };

const name =
  "a day's incidents are told by metrics, console, audit log and logs: what, when and who";
const test: ServerTest = {
  name,
  needs: ["zookeeper", "redis"],
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await TestCluster.start({ tickMs: 1000 }));
    const passwords = { ann: "the password of ann", bob: "the password of bob" };
    const users = await Promise.all(
      Object.entries(passwords).map(([name, password]) => newUser(name, "act", password)),
    );
    const httpPort = freePort();
    const quick = { canaryMs: 500, drainMs: 0, "limits.waitingBytes": 1_000_000 };
    const [first, second, stat, minions] = await Promise.all([
      cluster.add("spear", "test1", { ...quick, id: 1 }),
      cluster.add("spear", "test1", { ...quick, id: 2 }),
      cluster.add("stat", "test1", { httpPort }, key),
      cluster.add("minions", "test1", {}, { ...key, GRU_MINIONS_USERS: users.join() }),
      cluster.add("idgen", "test1"),
      cluster.add("ticket", "test1"),
    ]);
    let spear2 = second;

    const headers = { "content-type": "application/json", "x-gru": "console" };
    const signIn = async (name: string, password: string) => {
      const response = await fetch(`${minions.address}/sign-in`, {
        ...{ method: "POST", headers, body: JSON.stringify({ name, password }) },
      });
      await response.body?.cancel();
      return response.headers.get("set-cookie")?.split(";")[0] ?? "";
    };
    const ann = await signIn("ann", passwords.ann);
    const bob = await signIn("bob", passwords.bob);
    const act = async (cookie: string, method: string, path: string, body?: object) => {
      const { "content-type": type, ...others } = headers;
      const response = await fetch(`${minions.address}/api${path}`, {
        ...{ method, headers: { ...others, cookie, ...body && { "content-type": type } } },
        ...body && { body: JSON.stringify(body) },
      });
      assert.equal(response.status, 200, await response.text());
    };
    const call = (path: string, apiKey: string, body?: object) =>
      fetch(`http://127.0.0.1:${httpPort}${path}`, {
        headers: {
          authorization: `Bearer ${apiKey}`,
          ...body && { "content-type": headers["content-type"] },
        },
        ...body && { method: "POST", body: JSON.stringify(body) },
      });

    const watch = stack.use(
      new Watch({
        monitors: {
          ...{ spear1: first.monitor, spear2: second.monitor },
          ...{ stat1: stat.monitor, minions1: minions.monitor },
        },
        ...{ console: minions.address, cookie: ann },
      }),
    );

    /** What really happened, and when. */
    const truth: { readonly what: string; readonly from: number; readonly to: number }[] = [];
    const incident = async (what: string, play: () => Promise<void>) => {
      const from = Date.now();
      await play();
      truth.push({ what, from, to: Date.now() });
      await pause(betweenMs);
    };

    await incident("guesses", async () => {
      for (let i = 0; i < 5; i++) await (await call("/nodes", "guess")).body?.cancel();
      for (let i = 0; i < 3; i++) assert.equal(await signIn("ann", "guess"), "");
    });

    await incident("hammer", async () => {
      await using hammer = await authenticated(first.address, 66);
      const sending = Array.from(
        { length: 6000 },
        () => hammer.request("msg", { type: 1, target: { id: 20 }, content: "again" }),
      );
      // Those that were under way when it was cut off are never answered.
      void Promise.allSettled(sending);
      await hammer.closed;
    });

    await incident("slow", async () => {
      await using line = new FaultyProxy({ port: Number(new URL(first.address).port) });
      await using slow = await authenticated(`http://${line.address}`, 77);
      assertSuccess(
        await slow.request("subscribe", { userId: 77, subscribeGroups: [{ id: 30 }] }),
      );
      line.freeze();
      const body = { content: "x".repeat(90_000) };
      await waitFor(async () => {
        const response = await call("/groups/30/messages", "the right key", body);
        await response.body?.cancel();
        const metrics = await (await fetch(`${first.monitor}/metrics`)).text();
        return /^gru_spear_disconnects_total\{.*reason="slowConsumer".*\} 1$/m.test(metrics);
      }, { what: "the slow client is cut off" });
      line.cut();
      await slow.closed;
    });

    await incident("kick", async () => {
      await using nine = await authenticated(first.address, 9);
      await act(ann, "POST", "/users/9/kick", { reason: "spam", banMs: 600_000 });
      await nine.closed;
      await act(bob, "DELETE", "/bans/user/9");
    });

    /** How often it stands in the audit log; NaN while that cannot be read. */
    const times = async (command: string, target: string): Promise<number> => {
      const response = await call("/audit?limit=1000", "the right key");
      const answer: Json = await response.json();
      if (!response.ok) return NaN;
      return answer.entries
        .filter((one: Json) => one.command === command && one.target === target).length;
    };
    const told = (command: string, target: string, more: number) =>
      waitFor(async () => await times(command, target) >= more, {
        ...{ timeoutMs: 120_000, what: `${command} ${target} stands in the audit log` },
      });
    const seen = (pattern: RegExp, more: number) =>
      waitFor(() => watch.times(pattern) >= more, { what: `the watch sees ${pattern}` });
    // A program that was there before stat was not seen to join.
    const joined = await times("joined", "spear2");

    await incident("freeze", async () => {
      spear2.process.freeze();
      await told("died", "spear2", 1);
      spear2.process.thaw();
      await told("joined", "spear2", joined + 1);
      await seen(/^spear2 answers: 0 → 1$/, 1);
    });

    await incident("kill", async () => {
      await spear2.process.kill();
      await told("died", "spear2", 2);
      spear2 = await spear2.restart();
      await told("joined", "spear2", joined + 2);
      await seen(/^spear2 answers: 0 → 1$/, 2);
    });

    await incident("redis", async () => {
      await cluster.redis.kill();
      await seen(/gru_spear_broker_connected: 1 → 0/, 2);
      await seen(/redis is away/, 1);
      await cluster.redis.start();
      await seen(/gru_stat_store_connected: 0 → 1/, 1);
      await seen(/ is back$/, 1);
    });

    // At the end of their minute.
    await told("wrong key", "", 1);
    await told("wrong password", "", 1);
    const programs = { spear1: first, stat1: stat, minions1: minions, spear2 };
    const story = await watch.story(
      Object.fromEntries(Object.entries(programs).map(([name, one]) => [name, one.process.output])),
    );
    const began = truth[0]?.from ?? 0;
    const lines = story.map(({ at, from, text }) =>
      `${((at - began) / 1000).toFixed(1).padStart(6)} s  ${from.padEnd(7)}  ${text}`
    );
    // deno-lint-ignore no-console -- what people read
    console.log(lines.join("\n"));
    for (const { what, from, to } of truth) {
      for (const [source, pattern] of expected[what] ?? []) {
        const found = story.find((one) =>
          one.from === source && pattern.test(one.text) &&
          one.at >= from - 1000 && one.at <= to + lateMs[source]
        );
        assert.ok(found, `${what}: nothing in ${source} like ${pattern}`);
      }
    }
  },
};

if (given !== undefined) serverTest(test);
else {Deno.test({
    name: `${name} [a minute and a half: set GRU_INCIDENTS=0]`,
    ignore: true,
    fn() {},
  });}
