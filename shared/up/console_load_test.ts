/** The console under a flood of messages and over many nodes: nobody is slowed by those who look. */
import assert from "node:assert/strict";
import { MemoryRegistry } from "@gru/shared/registry/memory";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { loadConfig } from "@gru/shared/config";
import { minionsSchema, startMinions } from "../../minions/minions.ts";
import { dialects, TestClient } from "../../spear/test_client.ts";
import { startStat, statSchema } from "../../stat/stat.ts";
import type { Page } from "./console_driver.ts";
import { launchBrowser, openPage, shows, signIn } from "./console_testing.ts";
import { TestCluster } from "./processes.ts";
import { assertSuccess } from "./scenario.ts";

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");
// The browser's driver keeps its pipe and process until some time after `close`.
const settings = { sanitizeOps: false, sanitizeResources: false };

/** How a page ran: the time between its frames, and scripts that kept it busy for more than 50 ms. */
interface Smoothness {
  readonly frames: number;
  readonly p99Ms: number;
  readonly longestMs: number;
  readonly longTasks: number;
}

/** For people; nothing timed decides. */
function report(what: string, values: object): void {
  const text = Object.entries(values).map(([name, value]) =>
    `${name} ${typeof value === "number" ? Math.round(10 * value) / 10 : value}`
  );
  // deno-lint-ignore no-console
  console.log(`  ${what}: ${text.join(", ")}`);
}

async function watchFrames(page: Page, durationMs: number): Promise<Smoothness> {
  // A text: the types here are not the browser's.
  return await page.evaluate(`new Promise((resolve) => {
    let longTasks = 0;
    const observer = new PerformanceObserver((list) => longTasks += list.getEntries().length);
    observer.observe({ type: "longtask" });
    const began = performance.now();
    const gaps = [];
    let last = began;
    requestAnimationFrame(function frame(now) {
      gaps.push(now - last);
      last = now;
      if (now - began < ${durationMs}) return requestAnimationFrame(frame);
      gaps.sort((a, b) => a - b);
      resolve({
        frames: gaps.length,
        p99Ms: gaps[Math.floor(gaps.length * .99)],
        longestMs: gaps.at(-1),
        longTasks,
      });
    });
  })`);
}

/** Asks for a stream of events and reads nothing of it, ever. */
async function readNothing(url: URL, headers: string): Promise<AsyncDisposable> {
  const connection = await Deno.connect({ hostname: url.hostname, port: Number(url.port) });
  const request =
    `GET ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\n${headers}\r\n`;
  await connection.write(new TextEncoder().encode(request));
  return { [Symbol.asyncDispose]: async () => connection.close() };
}

async function metric(address: string, line: RegExp): Promise<number> {
  const text = await (await fetch(`${address}/metrics`)).text();
  return Number(line.exec(text)?.[1] ?? 0);
}

const memory = /^process_resident_memory_bytes(?:\{.*\})? (\S+)$/m;
const listens = /^gru_rpc_server_seconds_count\{.*method="listen".*\} (\S+)$/m;

interface Flood {
  readonly accepted: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function flood(
  senders: readonly TestClient[],
  { perSecond, seconds, groupId, bytes }: Record<
    "perSecond" | "seconds" | "groupId" | "bytes",
    number
  >,
): Promise<Flood> {
  const content = "x".repeat(bytes);
  const took: number[] = [];
  let accepted = 0;
  const began = performance.now();
  const sent: Promise<void>[] = [];
  const send = async (sender: TestClient) => {
    const at = performance.now();
    const { success } = await sender.request("msg", { type: 1, target: { id: groupId }, content });
    took.push(performance.now() - at);
    if (success) accepted++;
  };
  for (let n = 0; n < perSecond * seconds;) {
    const due = Math.min(perSecond * seconds, (performance.now() - began) / 1000 * perSecond);
    for (; n < due; n++) {
      const sender = senders[n % senders.length];
      if (sender !== undefined) sent.push(send(sender));
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await Promise.all(sent);
  took.sort((a, b) => a - b);
  return {
    accepted,
    perSecond: accepted / (performance.now() - began) * 1000,
    p50Ms: took[Math.floor(took.length / 2)] ?? 0,
    p99Ms: took[Math.floor(took.length * .99)] ?? 0,
  };
}

serverTest({
  name: "who listens to a flood, or asks for events and never reads them, slows and fills nobody",
  needs: ["zookeeper", "redis", "chromium"],
  ...settings,
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const secrets = { GRU_MINIONS_PASSWORD: "to act" };
    const cluster = stack.use(await TestCluster.start());
    const [, stat, spear, minions] = await Promise.all([
      cluster.add("idgen", "test1"),
      cluster.add("stat", "test1"),
      cluster.add("spear", "test1"),
      cluster.add("minions", "test1", {}, secrets),
    ]);
    const senders = await Promise.all(
      Array.from({ length: 20 }, async (_, n) => {
        const sender = stack.use(await TestClient.connect(spear.address, modern));
        assertSuccess(await sender.request("auth", { id: 800 + n }));
        return sender;
      }),
    );
    const tenThousand = { perSecond: 10_000, seconds: 3, groupId: 20, bytes: 100 };
    report("10 000 a second, nobody listens", await flood(senders, tenThousand));

    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const page = await openPage(browser, `${minions.address}/#/listen`);
    await signIn(page, secrets.GRU_MINIONS_PASSWORD);
    await page.getByLabel("Groups, separated by commas").fill("20");
    await page.keyboard.press("Enter");
    await shows(page, /Listening on spear/);
    const [listenedTo, frames] = await Promise.all([
      flood(senders, tenThousand),
      watchFrames(page, 3000),
      // The page answers meanwhile.
      page.getByRole("button", { name: "Pause" }).click()
        .then(() => page.getByRole("button", { name: "Resume" }).click()),
    ]);
    await shows(page, /^Sampled/);
    const seen = listenedTo.accepted.toLocaleString("en");
    await page.locator(".counts strong", { hasText: seen }).first().waitFor();
    assert.ok(await page.locator("td.content").count() <= 300);
    report("10 000 a second, a page listens", { ...listenedTo, ...frames });

    const [cookie] = await page.context().cookies();
    await page.close();
    const cookieLine = `cookie: ${cookie?.name}=${cookie?.value}\r\n`;
    const programs = { spear, stat, minions };
    const memories = async () =>
      await Promise.all(Object.values(programs).map(({ monitor }) => metric(monitor, memory)));
    const idle = await memories();
    for (let n = 0; n < 5; n++) {
      for (const path of ["/api/listen?group=21", "/events"]) {
        stack.use(await readNothing(new URL(path, minions.address), cookieLine));
      }
    }
    const large = { perSecond: 200, seconds: 2, groupId: 21, bytes: 50_000 };
    // What the network itself takes in is full after some time: then a spear is asked for nothing any more.
    await waitFor(async () => {
      const asked = await metric(spear.monitor, listens);
      await flood(senders, large);
      return asked > 0 && await metric(spear.monitor, listens) === asked;
    }, { timeoutMs: 120_000, what: "listeners that do not read are not read for" });
    const full = await memories();
    report("10 000 a second, ten never read", await flood(senders, tenThousand));
    await flood(senders, { ...large, seconds: 5 });
    const later = await memories();
    for (const [n, name] of Object.keys(programs).entries()) {
      const [was = 0, stalled = 0, now = 0] = [idle, full, later].map((all) => (all[n] ?? 0) / 1e6);
      report(`memory of ${name}, MB`, { idle: was, stalled, after50MbMore: now });
      assert.ok(now - stalled < 100, `${name} has grown by ${now - stalled} MB`);
    }
  },
});

serverTest({
  name: "the cluster page stays smooth with fifty nodes, and keeps its rows and the focus",
  needs: "chromium",
  ...settings,
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const registry = stack.use(new MemoryRegistry());
    const config = (program: string) => ({
      profiles: new URL(`../../${program}/profiles/`, import.meta.url),
      program,
      environment: () => undefined,
    });
    const args = ["--port=0", "--registry=memory:", "--log.level=error"];
    const stat = stack.use(
      await startStat(
        loadConfig({
          ...config("stat"),
          schema: statSchema,
          args: [...args, "--httpPort=0", "--redis=memory:"],
        }),
        { registry },
      ),
    );
    const minions = stack.use(
      await startMinions(loadConfig({ ...config("minions"), schema: minionsSchema, args }), {
        registry,
      }),
    );
    const names = Array.from({ length: 50 }, (_, n) => `spear${n + 1}`);
    let version = 0;
    async function reportAll(): Promise<void> {
      version++;
      await Promise.all(names.map((node, n) =>
        stat.handlers.report({
          report: {
            ...{ node, session: "s", version, full: version === 1, connections: 1000 + version },
            load: { acceptedPerSecond: n * version, deliveredPerSecond: n, memoryBytes: 1e8 },
            users: { joined: [], left: [] },
            groups: [],
          },
          ttlMs: 60_000,
        }, { deadline: Infinity, signal: new AbortController().signal })
      ));
    }
    for (const name of names) {
      const addresses = { rpc: "http://127.0.0.1:1", client: "http://127.0.0.1:1" };
      stack.use(
        await registry.register({
          ...{ service: "spear", name, addresses, startedAt: Date.now(), meta: { version: "1" } },
        }),
      );
    }
    await reportAll();
    const timer = setInterval(reportAll, 500);
    stack.defer(() => clearInterval(timer));

    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const page = await openPage(browser, minions.address);
    const row = page.locator(".spears tr", { hasText: "spear50" });
    await row.getByText("live").waitFor();
    assert.equal(await page.locator(".spears tr", { hasText: /^spear/ }).count(), 50);
    const drain = row.getByRole("button", { name: "Drain" });
    await drain.focus();
    const handle = await row.elementHandle();
    const shown = await row.textContent();
    report("fifty nodes", await watchFrames(page, 5000));
    await waitFor(async () => await row.textContent() !== shown);
    assert.ok(await handle?.evaluate((element: { isConnected: boolean }) => element.isConnected));
    assert.ok(
      await drain.evaluate((element: { matches(selector: string): boolean }) =>
        element.matches(":focus")
      ),
    );
  },
});
