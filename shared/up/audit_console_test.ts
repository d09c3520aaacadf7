/** Users of the console with names, and the page of the audit log, in Chromium. */
import assert from "node:assert/strict";
import { serverTest } from "@gru/shared/testing/harness";
import { newUser } from "../../minions/users.ts";
import { assertAccessible, launchBrowser, openPage, shows } from "./console_testing.ts";
import { upOnFreePorts } from "./up_testing.ts";

serverTest({
  name: "a user of the console signs in with a name, and the audit log shows what that user did",
  needs: "chromium",
  // Chromium's driver keeps timers of its own.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const users = await newUser("ann", "act", "a long password");
    await using cluster = await upOnFreePorts((name) =>
      name === "GRU_MINIONS_USERS" ? users : undefined
    );
    const { stat, minions } = cluster.addresses;
    await using stack = new AsyncDisposableStack();
    const browser = await launchBrowser();
    stack.defer(() => browser.close());
    const page = await openPage(browser, `${minions}/#/audit`);
    await page.getByLabel("Name").fill("ann");
    await page.locator("input[type=password]").fill("a wrong one");
    await page.keyboard.press("Enter");
    await shows(page, "The name or the password is wrong");
    await assertAccessible(page, "sign-in with a name");
    await page.locator("input[type=password]").fill("a long password");
    await page.keyboard.press("Enter");
    // What happens to programs stands in it, too.
    await shows(page, "joined");

    const post = { method: "POST", headers: { "content-type": "application/json" }, body: "{}" };
    await (await fetch(`${stat}/users/7/kick`, post)).body?.cancel();
    await page.evaluate(() =>
      fetch("/api/nodes/spear9/drain", {
        method: "POST",
        headers: { "content-type": "application/json", "x-gru": "console" },
        body: "{}",
      })
    );
    await page.reload();
    await shows(page, "anybody (API)");
    const rows = await page.locator("tbody tr").allInnerTexts();
    assert.deepEqual(
      rows.map((row) => row.split("\t").slice(1)).filter(([who]) => who !== ""),
      [
        ["ann", "127.0.0.1", "POST /nodes/:node/drain", "spear9", "{}", "404"],
        ["anybody (API)", "127.0.0.1", "POST /users/:userId/kick", "7", "{}", "ok"],
      ],
    );
    await assertAccessible(page, "audit log");
    await page.goto(`${minions}/#/hooks`);
    await shows(page, "No business system is told of events.");
    await assertAccessible(page, "hooks");
    await page.goto(`${minions}/#/audit`);
    await page.getByRole("button", { name: "中文" }).click();
    await shows(page, "操作日志");
  },
});
