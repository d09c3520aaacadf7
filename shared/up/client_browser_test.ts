/** The module that ticket serves, in a page of a real browser, over programs that are really killed. The page has no recovery in it. */
import assert from "node:assert/strict";
import { connect } from "@gru/client";
import { pause } from "@gru/shared/pause";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { launchBrowser, openPage } from "./console_testing.ts";
import type { Page } from "./console_driver.ts";
import { type RunningProgram, TestCluster } from "./processes.ts";

/**
 * How long the network is away, as of a laptop that sleeps; a node is frozen for a third of it. For the whole minute and 20 s:
 * `GRU_ASLEEP_MS=60000 deno test -A shared/up/client_browser_test.ts`.
 */
const asleepMs = Number(Deno.env.get("GRU_ASLEEP_MS") ?? 12_000);

/** What the page's application does: it listens, and remembers over a reload what it showed. */
const application = (id: number) =>
  `(async () => {
  const { connect } = await import("/gru.js");
  const shown = JSON.parse(sessionStorage.getItem("shown") ?? "[]");
  const gru = connect({
    ticket: location.origin,
    user: { id: ${id}, name: "Ann" },
    storage: sessionStorage,
    retry: { mostMs: 2000 },
  });
  const states = [];
  const missed = [];
  gru.on("state", (state) => states.push(state.name));
  const room = gru.group(10);
  room.on("missed", (one) => missed.push(one));
  room.on("message", ({ content }) => {
    shown.push(Number(content));
    sessionStorage.setItem("shown", JSON.stringify(shown));
  });
  Object.assign(globalThis, { gru, shown, missed, states });
})()`;

async function start(page: Page, id = 1): Promise<void> {
  await page.evaluate(application(id));
  await waitFor(async () => await page.evaluate("gru.state.name") === "online");
}

serverTest({
  name:
    "pages lose and double nothing: a spear killed, drained, frozen, a page reloaded, asleep, Redis killed",
  needs: ["zookeeper", "redis", "chromium"],
  // The browser's driver keeps its pipe and process until some time after `close`.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await TestCluster.start({ tickMs: 1000 }));
    const flags = { "zookeeper.sessionMs": 2500 };
    const spear = { ...flags, mode: "redis", drainMs: 3000, "history.size": 20_000 };
    const [ticket, spear1, spear2] = await Promise.all([
      cluster.add("ticket", "test1", flags),
      cluster.add("spear", "test1", spear),
      cluster.add("spear", "test2", spear),
      cluster.add("idgen", "test1", { ...flags, ceilingMs: 2000 }),
      cluster.add("stat", "test1", flags),
    ]);
    const spears = new Map<string, RunningProgram>([["spear1", spear1], ["spear2", spear2]]);
    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const page = await openPage(browser, ticket.address);
    const own = async () => {
      const name = await page.evaluate<string>("gru.state.node");
      const running = spears.get(name);
      assert.ok(running, name);
      return { name, running };
    };

    const bob = connect({
      ticket: ticket.address,
      user: { id: 2, name: "Bob" },
      outbox: { messages: 10_000 },
    });
    stack.defer(() => bob.close({ waitMs: 0 }));
    await start(page);
    let count = 0;
    const sent: Promise<unknown>[] = [];
    const timer = setInterval(() => sent.push(bob.group(10).send(`${++count}`)), 50);
    stack.defer(() => clearInterval(timer));
    /** Resolves when the page has shown so many more. */
    const more = async (some: number) => {
      const goal = await page.evaluate<number>("shown.length") + some;
      await waitFor(async () => await page.evaluate<number>("shown.length") >= goal);
    };

    await t.step("killed", async () => {
      await more(20);
      const { name, running } = await own();
      await running.process.kill();
      await waitFor(async () => await page.evaluate("gru.state.node ?? ''") !== name);
      await waitFor(async () => await page.evaluate("gru.state.name") === "online", {
        what: "online",
      });
      await more(20);
      spears.set(name, await running.restart());
    });

    await t.step("drained: it is never offline", async () => {
      const { name, running } = await own();
      await page.evaluate("void (states.length = 0)");
      await running.process.kill("SIGTERM");
      assert.equal((await running.process.ended).code, 0, running.process.output);
      assert.notEqual((await own()).name, name);
      assert.deepEqual(await page.evaluate("states"), ["online"]);
      await more(20);
      spears.set(name, await running.restart());
    });

    await t.step("reloaded", async () => {
      await page.goto(ticket.address);
      await start(page);
      await more(20);
    });

    // Side by side: one page has no network all the time, while the other one's node is frozen, and Redis killed.
    const asleep = await openPage(browser, ticket.address);
    await start(asleep, 3);
    await waitFor(async () => await asleep.evaluate<number>("shown.length") > 20);
    await asleep.context().setOffline(true);
    await asleep.evaluate("globalThis.dispatchEvent(new Event('offline'))");
    const wakesAt = Date.now() + asleepMs;

    await t.step("frozen", async () => {
      const { running } = await own();
      running.process.freeze();
      await pause(asleepMs / 3);
      running.process.thaw();
      await more(20);
    });

    await t.step("Redis killed and started again", async () => {
      await cluster.redis.kill();
      await pause(1000);
      await cluster.redis.start();
      await more(20);
    });

    await t.step("asleep, and awake", async () => {
      await pause(wakesAt - Date.now());
      await asleep.context().setOffline(false);
      await more(20);
    });

    clearInterval(timer);
    await Promise.all(sent);
    for (const [name, each] of Object.entries({ page, asleep })) {
      await waitFor(async () => (await each.evaluate<number>("shown.at(-1)")) === count, {
        what: `${name} has the last message`,
        timeoutMs: 60_000,
      });
      const shown = await each.evaluate<number[]>("shown");
      const [first = 0] = shown;
      assert.deepEqual(shown, Array.from({ length: shown.length }, (_, i) => first + i), name);
      assert.deepEqual(await each.evaluate("missed"), [], name);
    }
  },
});
