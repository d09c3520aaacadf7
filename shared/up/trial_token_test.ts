/** Tokens for trying, that the console makes for its simulated clients, over a cluster of the scheme `jwt`. */
import assert from "node:assert/strict";
import { serverTest } from "@gru/shared/testing/harness";
import { assertAccessible, launchBrowser, openPage, signIn } from "./console_testing.ts";
import { TestCluster } from "./processes.ts";

const token1 = { GRU_TOKEN1_SECRET: "of token1: 32 characters or more" };
const token2 = { GRU_TOKEN2_SECRET: "of token2: 32 characters or more" };
const password = { GRU_MINIONS_PASSWORD: "to act" };

serverTest({
  name:
    "in the profile dev a simulated client enters with a token that the console made; no other profile makes one",
  needs: ["zookeeper", "redis", "chromium"],
  // The browser's driver keeps its pipe and process until some time after `close`.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await using stack = new AsyncDisposableStack();
    const cluster = stack.use(await TestCluster.start());
    const jwt = { "auth.scheme": "jwt" };
    const [dev, other] = await Promise.all([
      cluster.add("minions", "dev", {}, { ...password, ...token1 }),
      cluster.add("minions", "test2", {}, { ...password, ...token1 }),
      cluster.add("idgen", "dev"),
      cluster.add("stat", "dev"),
      cluster.add("spear", "dev", { ...jwt, drainMs: 0 }, token2),
      cluster.add("ticket", "dev", jwt, { ...token1, ...token2 }),
    ]);
    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const page = await openPage(browser, `${dev.address}/#/client`);
    await signIn(page, password.GRU_MINIONS_PASSWORD);
    const card = page.locator(".client").first();
    const connect = card.getByRole("button", { name: "Connect", exact: true });
    await card.getByLabel("token1").fill("any");
    await connect.click();
    await card.locator(".log [data-kind=problem]").first().waitFor();
    await page.reload();
    await card.getByRole("button", { name: "Make a token" }).click();
    await card.getByText("A token for user 1").waitFor();
    await connect.click();
    await card.getByText("connected to spear1").waitFor();
    await assertAccessible(page, "client with a token");

    const elsewhere = await openPage(browser, `${other.address}/#/client`);
    await signIn(elsewhere, password.GRU_MINIONS_PASSWORD);
    await elsewhere.locator(".client").first().waitFor();
    assert.equal(await elsewhere.getByRole("button", { name: "Make a token" }).count(), 0);
    const status = await elsewhere.evaluate(async () => {
      const headers = { "content-type": "application/json", "x-gru": "console" };
      const body = JSON.stringify({ userId: "1" });
      return (await fetch("/token", { method: "POST", headers, body })).status;
    });
    assert.equal(status, 403);
  },
});
