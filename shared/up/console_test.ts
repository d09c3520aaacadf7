/** The console in a real browser over a real cluster: separate programs, ZooKeeper, Redis. */
import assert from "node:assert/strict";
import { logger } from "@gru/shared/log";
import { connectZookeeper } from "@gru/shared/zookeeper/registry";
import { serverTest, waitFor } from "@gru/shared/testing/harness";
import { dialects, TestClient } from "../../spear/test_client.ts";
import {
  assertAccessible,
  launchBrowser,
  openPage,
  shows,
  signIn,
  timeout,
} from "./console_testing.ts";
import { spawnProgram, TestCluster } from "./processes.ts";
import { assertSuccess, usersOnTwoNodes } from "./scenario.ts";

const [modern] = dialects;
if (modern === undefined) throw new Error("no dialect");
const secrets = {
  GRU_STAT_API_KEY: "an api key",
  GRU_MINIONS_PASSWORD: "to act",
  GRU_MINIONS_LOOK_PASSWORD: "to look",
};
serverTest({
  name: "the console shows a real cluster live and acts on it, in English and Chinese",
  needs: ["zookeeper", "redis", "chromium"],
  // The browser's driver keeps its pipe and process until some time after `close`.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async (t) => {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await TestCluster.start());
    const [, , , second, ticket, minions] = await Promise.all([
      cluster.add("idgen", "test1"),
      cluster.add("stat", "test1", {}, secrets),
      cluster.add("spear", "test1"),
      cluster.add("spear", "test2"),
      cluster.add("ticket", "test1"),
      cluster.add("minions", "test1", {}, secrets),
    ]);
    let spear2 = second;
    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const page = await openPage(browser, minions.address);
    const problems: string[] = [];
    // Each needs what those before it left: after a failure there is nothing to learn.
    let failed = false;
    const step = async (name: string, fn: () => Promise<void>) => {
      failed ||= !await t.step({ name, fn, ignore: failed });
    };
    page.on("pageerror", (error) => problems.push(error.message));
    const go = async (name: string) => {
      await page.goto(`${minions.address}/#/${name}`);
      await page.locator("#main h1").waitFor({ state: "attached" });
    };
    const row = (name: string) => page.locator("tr", { hasText: name }).first();

    await step("a wrong password is refused, the right one opens the console", async () => {
      await assertAccessible(page, "sign-in");
      await signIn(page, "guess");
      await shows(page, "The password is wrong");
      await signIn(page, secrets.GRU_MINIONS_PASSWORD);
      await row("spear2").getByText("live").waitFor();
      const [cookie] = await page.context().cookies();
      assert.deepEqual([cookie?.httpOnly, cookie?.sameSite], [true, "Strict"]);
      await assertAccessible(page, "cluster");
    });

    await step("a program whose clock is wrong has the seconds behind its name", async () => {
      await using registry = await connectZookeeper({
        ...{ servers: [cluster.zookeeper.address], root: "/gru", sessionMs: 4000 },
        log: logger("test"),
      });
      await using _minions9 = await registry.register({
        ...{ service: "minions", name: "minions9", addresses: {}, startedAt: Date.now() - 61_000 },
        meta: { clockOffsetSeconds: -90 },
      });
      await row("minions9 (clock -90 s)").getByText("1 min").waitFor();
      assert.equal(await page.getByText("(clock").count(), 1);
    });

    const [ann, bob] = await usersOnTwoNodes(ticket.address, 1);
    const card = (n: number) => page.locator(".client").nth(n);
    await step("two simulated clients on two spears talk", async () => {
      await go("client");
      for (const [n, userId] of [ann, bob].entries()) {
        await card(n).getByLabel("User id").fill(`${userId}`);
        await card(n).getByRole("button", { name: "Connect", exact: true }).click();
        await card(n).getByText("connected to").waitFor();
        await card(n).getByRole("button", { name: "Subscribe", exact: true }).click();
        await card(n).getByText("subscribe 10").waitFor();
      }
      await card(0).getByLabel("Message").fill("good morning");
      await card(0).getByRole("button", { name: "Send" }).click();
      await card(1).getByText(`${ann} → Group 10: good morning`).waitFor();
      await waitFor(async () => {
        await card(1).getByRole("button", { name: "Who is online?" }).click();
        return await card(1).getByText(/online 10: .*, /).count() > 0;
      });
      await assertAccessible(page, "client");
    });

    await step("the last minute of each spear shows how long messages took", async () => {
      await go("cluster");
      const lastMinute = page.locator(".vitals tr", { hasText: /^spear\d/ });
      await lastMinute.getByText(/^\d.* ms$/).nth(2).waitFor();
      await assertAccessible(page, "cluster with messages");
    });

    const { addr } = (await (await fetch(
      `${ticket.address}/ticket?userId=${bob}&userName=b&appType=1&token1=t`,
    )).json()).data;
    const client = stack.use(await TestClient.connect(addr, modern));
    assertSuccess(await client.request("auth", { id: bob }));
    assertSuccess(
      await client.request("subscribe", { userId: bob, subscribeGroups: [{ id: 10 }] }),
    );

    await step("a user is found, published to, and kicked", async () => {
      await go("people");
      await page.getByLabel("Id", { exact: true }).fill(`${bob}`);
      const found = page.locator(".found");
      // Waits for its own answer: one that comes later would replace what is used meanwhile.
      const find = async () => {
        await found.evaluate((shown) => shown.replaceChildren());
        await page.getByRole("button", { name: "Find" }).click();
        await found.locator("h2").waitFor();
      };
      await waitFor(async () => {
        await find();
        return await found.locator(".badge", { hasText: /^online$/ }).count() > 0;
      });
      const dialog = page.getByRole("dialog");
      await found.getByRole("button", { name: "Publish" }).click();
      await dialog.getByLabel("Message").fill("from the console");
      await assertAccessible(page, "dialog");
      await dialog.getByRole("button", { name: "Publish" }).click();
      await dialog.getByText(/Accepted: id \d+, seq \d+/).waitFor();
      await page.keyboard.press("Escape");
      await found.locator("button:focus", { hasText: "Publish" }).waitFor();
      let message;
      do message = await client.next("msg"); while (message.content !== "from the console");
      await assertAccessible(page, "people");

      await found.getByRole("button", { name: "Mute" }).click();
      await dialog.getByLabel("Reason").fill("too loud");
      await assertAccessible(page, "dialog");
      await dialog.getByRole("button", { name: "Mute" }).click();
      await dialog.getByText(/[1-9]\d* connections affected/).waitFor();
      await page.keyboard.press("Escape");
      await found.getByText(/^Muted: User \d+, until .*: too loud$/).waitFor();
      const refused = await client.request("msg", { type: 0, target: { id: bob }, content: "x" });
      assert.match(refused.msg, /^msg: user \d+ is muted until .*: too loud$/);
      await found.getByRole("button", { name: "Lift" }).click();
      await dialog.getByRole("button", { name: "Lift" }).click();
      await dialog.getByText("The mute is lifted.").waitFor();
      await page.keyboard.press("Escape");
      await found.getByText(/^Muted/).waitFor({ state: "detached" });

      await found.getByRole("button", { name: "Groups" }).click();
      await dialog.getByLabel("Group", { exact: true }).fill("console");
      await dialog.getByRole("button", { name: "Change" }).click();
      await dialog.getByText(/[1-9]\d* connections affected/).waitFor();
      assert.equal((await client.next("subscribed")).groupId, "console");
      await page.keyboard.press("Escape");
      await found.getByRole("button", { name: "Clear history" }).click();
      await dialog.getByRole("button", { name: "Clear history" }).click();
      await dialog.getByText("They are gone.").waitFor();
      await page.keyboard.press("Escape");
      await found.getByText("from the console").waitFor({ state: "detached" });

      await found.getByRole("button", { name: "Kick" }).first().click();
      await dialog.getByLabel("Reason").fill("enough");
      await dialog.getByRole("button", { name: `Kick user ${bob}` }).click();
      await dialog.getByText(/[1-9]\d* connections affected/).waitFor();
      assert.equal((await client.next("kicked")).reason, "enough");
      await client.closed;
      await page.keyboard.press("Escape");
      await waitFor(async () => {
        await find();
        return await found.getByText("not online").count() > 0;
      }, { what: "the user is gone from the page" });
    });

    await step("a link to a user shows the user again, and a message its trail", async () => {
      const ann = stack.use(await TestClient.connect(addr, modern));
      assertSuccess(await ann.request("auth", { id: 600, name: "Ann Lee", appType: "shop" }));
      const ids = { userId: 600, subscribeGroups: [{ id: "r/1" }] };
      assertSuccess(await ann.request("subscribe", ids));
      assertSuccess(
        await ann.request("msg", { type: 1, target: { id: "r/1" }, content: "which way?" }),
      );
      const found = page.locator(".found");
      await waitFor(async () => {
        await go("people");
        await page.goto(`${minions.address}/#/people/user/600`);
        await page.reload();
        await found.locator("h2").waitFor();
        return await found.getByText("Ann Lee").count() > 0;
      });
      await found.getByText("shop").waitFor();
      await found.getByText("websocket").waitFor();
      await found.getByRole("button", { name: "r/1" }).click();
      await found.getByText("which way?").waitFor();
      assert.match(page.url(), /#\/people\/group\/r%2F1$/);
      await found.getByRole("button", { name: "Trail" }).click();
      const dialog = page.getByRole("dialog");
      await dialog.getByText(/user 600/i).waitFor();
      await assertAccessible(page, "trail");
      await page.keyboard.press("Escape");
      await page.goto(`${minions.address}/#/people/user/909090`);
      await page.reload();
      await found.getByText("Nobody with this id is connected").waitFor();
    });

    await step("listening shows messages as they flow, samples a flood and says so", async () => {
      const sender = stack.use(await TestClient.connect(addr, modern));
      assertSuccess(await sender.request("auth", { id: 700 }));
      await go("listen");
      await page.getByLabel("Groups, separated by commas").fill("20");
      await page.keyboard.press("Enter");
      await shows(page, /Listening on spear/);
      await sender.request("msg", { type: 1, target: { id: 20 }, content: "overheard" });
      await page.locator("td.content", { hasText: "overheard" }).waitFor();
      const senders = await Promise.all(
        Array.from({ length: 20 }, async (_, n) => {
          const sender = stack.use(await TestClient.connect(addr, modern));
          assertSuccess(await sender.request("auth", { id: 800 + n }));
          return sender;
        }),
      );
      const began = performance.now();
      // Each sends less than the profile lets one connection send in a second.
      const results = await Promise.all(
        senders.flatMap((sender) =>
          Array.from(
            { length: 500 },
            (_, i) => sender.request("msg", { type: 1, target: { id: 20 }, content: `flood ${i}` }),
          )
        ),
      );
      const accepted = results.filter(({ success }) => success).length;
      const perSecond = accepted / (performance.now() - began) * 1000;
      await shows(page, /^Sampled/);
      const seen = (accepted + 1).toLocaleString("en");
      await page.locator(".counts strong", { hasText: seen }).first().waitFor();
      assert.ok(await page.locator("td.content").count() <= 300);
      // deno-lint-ignore no-console -- for people; nothing timed decides
      console.log(`  ${accepted} messages at ${perSecond.toFixed(0)} a second, all counted`);
      await assertAccessible(page, "listen");
    });

    const event = (name: string, kind: string) =>
      page.locator(".events li", { hasText: name }).getByText(kind, { exact: true }).first();
    await step(
      "a spear that is killed turns dead, one that starts appears, one that stops has left",
      async () => {
        await go("cluster");
        await row("spear2").getByText("live").waitFor();
        await spear2.process.kill();
        await row("spear2").getByText("dead").waitFor();
        const [spear3, idgen2] = await Promise.all([
          cluster.add("spear", "test1", { id: 3 }),
          cluster.add("idgen", "test2"),
        ]);
        await row("spear3").getByText("live").waitFor();
        await row("idgen2").getByText("standby").waitFor();
        spear2 = await spear2.restart();
        await row("spear2").getByText("live").waitFor();
        await event("spear2", "died").waitFor();
        await Promise.all([spear3.process.kill("SIGTERM"), idgen2.process.kill("SIGTERM")]);
        await row("spear3").getByText("left").waitFor();
        await event("spear3", "left").waitFor();
        await event("idgen2", "left").waitFor();
      },
    );

    await step("everything is reached by keyboard, and a page begins at its content", async () => {
      await page.goto(minions.address);
      await page.locator("#main h1").waitFor({ state: "attached" });
      const tabTo = async (selector: string, text: string) => {
        const wanted = page.locator(`${selector}:focus`, { hasText: text });
        for (let i = 0; i < 40 && await wanted.count() === 0; i++) await page.keyboard.press("Tab");
        assert.equal(await wanted.count(), 1, `${selector} ${text}`);
      };
      await tabTo("a", "Groups and users");
      await page.keyboard.press("Enter");
      await page.locator("#main:focus").waitFor();
      await page.keyboard.press("Tab");
      await page.locator("select:focus").waitFor();
      await page.keyboard.press("Tab");
      await page.keyboard.type("424242");
      await page.keyboard.press("Enter");
      await shows(page, "not online");
      await tabTo("button", "Kick");
      await page.keyboard.press("Enter");
      await page.getByRole("dialog").waitFor();
      await page.keyboard.press("Escape");
      await tabTo("button", "Kick");
    });

    await step(
      "on a phone nothing is cut: no table of records is wider than its place",
      async () => {
        await page.setViewportSize({ width: 390, height: 844 });
        for (const [name, first] of [["cluster", "spear1"], ["audit", "joined"]] as const) {
          await go(name);
          await page.locator(".records", { hasText: first }).first().waitFor();
          const cut = await page.evaluate(() =>
            // deno-lint-ignore no-explicit-any -- the browser's
            [...(globalThis as any).document.querySelectorAll(".records, .records td")]
              .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.outerHTML)
          );
          assert.deepEqual(cut, [], name);
          await assertAccessible(page, `${name} on a phone`);
        }
        await page.locator("nav a", { hasText: "Audit log" }).first().waitFor();
        await page.setViewportSize({ width: 1280, height: 720 });
      },
    );

    await step("with Redis away the last rows stay, and the page says since when", async () => {
      await go("cluster");
      const tile = page.locator(".tile", { hasText: "Nodes" }).locator("dd");
      await tile.getByText("2", { exact: true }).waitFor();
      await cluster.redis.kill();
      await shows(page, /stat's Redis is away since \d\d:\d\d/);
      await shows(page, /Clients stay connected/);
      assert.equal(await tile.textContent(), "2");
      await row("spear1").waitFor();
      await assertAccessible(page, "cluster without Redis");
      await go("people");
      await shows(page, /stat's Redis is away since/);
      await shows(page, "stat's Redis is away. Try again when it is back.");
      assert.doesNotMatch(await page.locator("#main").textContent() ?? "", /ECONNREFUSED/);
      await go("cluster");
      await cluster.redis.start();
      await page.locator(".warning").first().waitFor({ state: "detached" });
    });

    await step("the same in Chinese", async () => {
      const chinese = await openPage(browser, minions.address, "zh-CN");
      await signIn(chinese, secrets.GRU_MINIONS_PASSWORD);
      await chinese.locator("tr", { hasText: "spear1" }).first().getByText("正常").waitFor();
      assert.equal(await chinese.locator("html").getAttribute("lang"), "zh");
      for (
        const [name, text] of [["people", "查找"], ["listen", "监听"], ["client", "添加客户端"]]
      ) {
        await chinese.goto(`${minions.address}/#/${name}`);
        await shows(chinese, text ?? "");
        await assertAccessible(chinese, `${name} in Chinese`);
      }
      await chinese.getByRole("button", { name: "English" }).click();
      await shows(chinese, "Add a client");
    });

    await step(
      "who may only look is shown no actions, and cannot act by other ways",
      async () => {
        const context = await browser.newContext({ locale: "en-GB", colorScheme: "dark" });
        const looker = await context.newPage();
        looker.setDefaultTimeout(timeout);
        await looker.goto(minions.address);
        await signIn(looker, secrets.GRU_MINIONS_LOOK_PASSWORD);
        await shows(looker, "look only");
        await looker.locator("tr", { hasText: "spear1" }).first().waitFor();
        assert.equal(await looker.getByRole("button", { name: "Drain" }).count(), 0);
        await assertAccessible(looker, "dark");
        const status = await looker.evaluate(async () => {
          const headers = { "content-type": "application/json", "x-gru": "console" };
          const body = JSON.stringify({ content: "x" });
          return (await fetch("/api/broadcast", { method: "POST", headers, body })).status;
        });
        assert.equal(status, 403);
        await context.close();
      },
    );

    assert.deepEqual(problems, []);
  },
});

Deno.test("minions without a password says which variable it wants and exits with code 2", async () => {
  await using process = spawnProgram("minions", "test1", { port: 0 });
  const { code } = await process.ended;
  await process.kill();
  assert.equal(code, 2, process.output);
  assert.match(process.output, /password: .*GRU_MINIONS_PASSWORD/);
});
