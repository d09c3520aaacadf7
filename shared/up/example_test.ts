/** The example application in a real browser: two people, one on a phone, while a node goes away and a page is reloaded. */
import assert from "node:assert/strict";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { assertAccessible, launchBrowser, openPage, shows } from "./console_testing.ts";
import { startUp } from "./up.ts";

serverTest({
  name:
    "two people chat in the example application, over a node that stops and a page that is reloaded",
  needs: "chromium",
  // The browser's driver keeps its pipe and process until some time after `close`.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const ports = { ticket: 0, spear1: 0, spear2: 0, stat: 0, statHttp: 0, idgen: 0, minions: 0 };
    const cluster = stack.use(
      await startUp({
        host: "127.0.0.1",
        ports: { ...ports, example: 0 },
        log: { level: "error", format: "text" },
      }),
    );
    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const { example } = cluster.addresses;
    const problems: string[] = [];
    const enter = async (name: string) => {
      const page = await openPage(browser, example);
      page.on("pageerror", (error) => problems.push(error.message));
      await page.getByLabel("Your name").fill(name);
      await page.getByRole("button", { name: "Enter" }).click();
      await shows(page, /online on spear/);
      return page;
    };
    const [ann, bob] = await Promise.all([enter("Ann"), enter("Bob")]);
    type Page = typeof ann;
    const say = async (page: Page, text: string) => {
      await page.locator("#text").fill(text);
      await page.keyboard.press("Enter");
    };
    const lines = async (page: Page): Promise<string[]> =>
      await page.locator(".line").allInnerTexts();
    const hasLine = async (page: Page, text: string) =>
      await page.locator(".line", { hasText: text }).first().waitFor();
    const texts = async (page: Page) =>
      (await lines(page)).map((line) => /line \d+/.exec(line)?.[0]).filter((line) => line);

    await t.step("both see what both say, and who is online", async () => {
      await say(ann, "line 1");
      await say(bob, "line 2");
      await Promise.all([hasLine(ann, "line 2"), hasLine(bob, "line 1")]);
      await shows(ann, "2 online");
      await ann.locator("#people").getByText("Bob").waitFor();
      for (const page of [ann, bob]) await assertAccessible(page, "the chat");
    });

    await t.step(
      "a private line comes with an unread mark, and is answered on a phone",
      async () => {
        await bob.setViewportSize({ width: 390, height: 844 });
        await ann.locator("#people").getByText("Bob").click();
        await say(ann, "just for you");
        await bob.getByRole("button", { name: "Back to the conversations" }).click();
        await bob.locator(".badge").waitFor();
        await assertAccessible(bob, "the list on a phone");
        await bob.locator("#list button", { hasText: "Ann" }).click();
        await hasLine(bob, "just for you");
        await say(bob, "thank you");
        await hasLine(ann, "thank you");
        assert.equal(await bob.locator(".badge").count(), 0);
        const wide = await bob.evaluate("document.documentElement.scrollWidth");
        assert.equal(wide, 390);
      },
    );

    await t.step(
      "the node of one stops: what is said meanwhile arrives once and in order",
      async () => {
        await ann.locator("#list button", { hasText: "lobby" }).click();
        await bob.getByRole("button", { name: "Back to the conversations" }).click();
        await bob.locator("#list button", { hasText: "lobby" }).click();
        await ann.getByRole("button", { name: "Stop my node" }).click();
        for (let n = 3; n <= 8; n++) await say(n % 2 ? ann : bob, `line ${n}`);
        const all = (page: Page) =>
          waitFor(async () => (await texts(page)).length === 8, { what: "all lines" });
        await Promise.all([all(ann), all(bob)]);
        await waitFor(async () => !(await lines(ann)).join().includes("sending"));
        const [hers, his] = await Promise.all([texts(ann), texts(bob)]);
        for (const seen of [hers, his]) assert.equal(new Set(seen).size, 8);
        const odd = (seen: typeof hers) => seen.filter((line) => Number(line?.at(-1)) % 2);
        assert.deepEqual(odd(his), odd(hers));
      },
    );

    await t.step("a page that is reloaded has everything, and what came meanwhile", async () => {
      const before = await texts(bob);
      await bob.goto("about:blank");
      await say(ann, "line 9");
      await waitFor(async () => !(await lines(ann)).join().includes("sending"));
      await bob.goto(example);
      await bob.locator("#list button", { hasText: "lobby" }).click();
      await hasLine(bob, "line 9");
      assert.deepEqual(await texts(bob), [...before, "line 9"]);
    });
    assert.deepEqual(problems, []);
  },
});

Deno.test("pages of other sites get nothing from the example application", async () => {
  const ports = { ticket: 0, spear1: 0, spear2: 0, stat: 0, statHttp: 0, idgen: 0, minions: 0 };
  await using cluster = await startUp({
    host: "127.0.0.1",
    ports: { ...ports, example: 0 },
    log: { level: "error", format: "text" },
  });
  const { example, ticket } = cluster.addresses;
  const stop = `${example}/nodes/spear1/stop`;
  const foreign = await fetch(stop, {
    method: "POST",
    headers: { origin: "https://evil.example" },
  });
  assert.equal(foreign.status, 403);
  await foreign.body?.cancel();
  const none = await fetch(`${example}/nodes/spear9/stop`, { method: "POST" });
  assert.equal(none.status, 404);
  await none.body?.cancel();
  assert.deepEqual(await (await fetch(`${example}/config.json`)).json(), { ticket, canStop: true });
  for (const path of ["/deno.json", "/serve.ts", "/../deno.json"]) {
    const response = await fetch(example + path);
    await response.body?.cancel();
    assert.equal(response.status, 404, path);
  }
});
