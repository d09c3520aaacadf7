/**
 * Pictures of the console, for people to look at: `deno run -A shared/up/console_shots.ts [--states full,dead] [--pages cluster]`.
 * Each page in each state of a real cluster, wide and as on a phone, light and dark, in both languages. Prints the folder.
 */
import { parseArgs } from "node:util";
import { pause } from "@gru/shared/pause";
import { freePort, waitFor } from "@gru/shared/testing/harness";
import { authenticated } from "../../spear/spear_testing.ts";
import type { Page } from "./console_driver.ts";
import { launchBrowser, openPage, signIn } from "./console_testing.ts";
import { TestCluster } from "./processes.ts";

const states = ["empty", "full", "draining", "dead", "redis"] as const;
const pages = ["cluster", "people/user/1", "listen", "client", "hooks", "audit"];
const widths = { wide: 1440, phone: 390 };
const languages = { en: "en-GB", zh: "zh-CN" };
const password = "to act";
/** Until what a page asks for has come. */
const settleMs = 1500;

const { values } = parseArgs({
  options: {
    states: { type: "string", default: states.join() },
    pages: { type: "string", default: pages.join() },
  },
});
const wanted = values.states.split(",");
const shown = values.pages.split(",");
const folder = await Deno.makeTempDir({ prefix: "gru_console_" });

await using stack = new AsyncDisposableStack();
const cluster = stack.use(await TestCluster.start());
const httpPort = freePort();
const key = { GRU_STAT_API_KEY: "an api key" };
const [, minions] = await Promise.all([
  cluster.add("stat", "test1", { httpPort }, key),
  cluster.add("minions", "test1", {}, { ...key, GRU_MINIONS_PASSWORD: password }),
]);
const browser = await launchBrowser();
stack.defer(() => browser.close());

async function take(page: Page, name: string): Promise<void> {
  for (const [form, width] of Object.entries(widths)) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of ["light", "dark"] as const) {
      await page.emulateMedia({ colorScheme });
      await pause(200);
      await page.screenshot({
        path: `${folder}/${name}.${form}.${colorScheme}.png`,
        fullPage: true,
      });
    }
  }
}

async function takeAll(state: typeof states[number]): Promise<void> {
  if (!wanted.includes(state)) return;
  for (const [language, locale] of Object.entries(languages)) {
    const page = await openPage(browser, minions.address, locale);
    await page.locator("input[type=password]").waitFor();
    if (state === "empty") await take(page, `${state}.sign-in.${language}`);
    await signIn(page, password);
    await page.locator("#main").waitFor();
    for (const path of shown) {
      await page.goto(`${minions.address}/#/${path}`);
      if (path === "listen") {
        await page.locator("main input").first().fill("10");
        await page.keyboard.press("Enter");
      }
      await pause(settleMs);
      await take(page, `${state}.${path.split("/")[0]}.${language}`);
    }
    await page.close();
  }
  // deno-lint-ignore no-console
  console.log(`${state}: in ${folder}`);
}

await takeAll("empty");

const [first, second, third] = await Promise.all([
  cluster.add("spear", "test1", { id: 1, canaryMs: 1000 }),
  cluster.add("spear", "test1", { id: 2, canaryMs: 1000, drainMs: 0 }),
  cluster.add("spear", "test1", { id: 3, canaryMs: 1000, "limits.connections": 12 }),
  cluster.add("idgen", "test1"),
  cluster.add("idgen", "test2"),
  cluster.add("ticket", "test1"),
]);
const clients = await Promise.all(
  Array.from({ length: 30 }, async (_, i) => {
    const { address } = [first, second, third][i % 3] ?? first;
    const client = stack.use(await authenticated(address, i + 1));
    await client.request("subscribe", { userId: i + 1, subscribeGroups: [{ id: 10 }, { id: i }] });
    return client;
  }),
);
const talking = new AbortController();
const talk = (async () => {
  for (let i = 0; !talking.signal.aborted; i++) {
    const content = i % 5 === 0
      ? "a longer message, as people write them when they have time"
      : "hi";
    // One of them is refused: there is something to see.
    const type = i % 40 === 0 ? 7 : 1;
    void clients[i % 3]?.request("msg", { type, target: { id: 10 }, content });
    await pause(50);
  }
})();
const command = async (method: string, path: string, body: object) => {
  const response = await fetch(`http://127.0.0.1:${httpPort}${path}`, {
    method,
    headers: {
      authorization: `Bearer ${key.GRU_STAT_API_KEY}`,
      "content-type": "application/json",
    },
    body: JSON.stringify(body),
  });
  await response.body?.cancel();
};
await command("POST", "/users/404/kick", { reason: "spam in many groups", banMs: 3_600_000 });
await pause(15_000);
await takeAll("full");

await command("POST", "/nodes/spear3/drain", {});
await pause(3000);
await takeAll("draining");

await second.process.kill();
await waitFor(async () => {
  const nodes = await (await fetch(`http://127.0.0.1:${httpPort}/nodes`, {
    headers: { authorization: `Bearer ${key.GRU_STAT_API_KEY}` },
  })).json();
  return !JSON.stringify(nodes).includes("spear2");
});
await takeAll("dead");

await cluster.redis.kill();
await pause(3000);
await takeAll("redis");

talking.abort();
await talk;
