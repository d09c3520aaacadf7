/** A real headless browser, for tests of the console. */
import assert from "node:assert/strict";
import { type Browser, loadDriver, type Page } from "./console_driver.ts";

/** Milliseconds, for whatever a page is waited for. */
export const timeout = 30_000;

export async function launchBrowser(): Promise<Browser> {
  const { driver } = await loadDriver();
  return await driver.chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: [
      ...["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"],
      ...["--disable-background-networking", "--disable-component-update"],
    ],
  });
}

export async function openPage(browser: Browser, url: string, locale = "en-GB"): Promise<Page> {
  const page = await browser.newPage({ locale });
  page.setDefaultTimeout(timeout);
  await page.goto(url);
  return page;
}

export async function signIn(page: Page, password: string): Promise<void> {
  await page.locator("input[type=password]").fill(password);
  await page.keyboard.press("Enter");
}

export async function shows(page: Page, text: string | RegExp): Promise<void> {
  await page.getByText(text).first().waitFor({ timeout });
}

/** No serious finding of axe, in both colour schemes. */
export async function assertAccessible(page: Page, what: string): Promise<void> {
  const { axe } = await loadDriver();
  // By way of the debugger: the page's own policy lets no foreign script run.
  const session = await page.context().newCDPSession(page);
  await session.send("Runtime.evaluate", { expression: axe });
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme });
    const { result } = await session.send("Runtime.evaluate", {
      expression: "axe.run()",
      awaitPromise: true,
      returnByValue: true,
    });
    const { passes, violations } = result.value as AxeResults;
    assert.ok(passes.length > 10, `axe looked at ${what}`);
    const serious = violations.filter(({ impact }) => /serious|critical/.test(impact));
    assert.deepEqual(
      serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]),
      [],
      `${what}, ${colorScheme}`,
    );
  }
  await session.detach();
}

interface AxeResults {
  readonly passes: readonly unknown[];
  readonly violations: readonly {
    readonly id: string;
    readonly impact: string;
    readonly nodes: readonly { readonly html: string }[];
  }[];
}
